//! How much memory there is for each byte that was asked for.

use super::{arena, churn::Churn};
use crate::{
    measure::{Bar, OURS, Row, names},
    rivals::heaps::{Heap, Publishing},
    settings::Settings,
    table::Report,
};

pub(super) fn run(settings: &Settings, report: &mut Report) {
    let row =
        |name, bars: &[Bar], unit| Row::new(format!("churn waste: {name}"), bars).in_unit(unit);
    let mut rows = vec![
        row("committed per byte asked", &[Bar::AtMost(1.25)], "B"),
        row("given out per byte asked", &[], "B"),
        row("metadata, of what is committed", &[Bar::AtMost(2.5)], "%"),
    ];
    if !settings.wants(&names(&rows)) {
        return;
    }
    let live = 500_000;
    report.title(&format!(
        "churn: memory, with {live} blocks of 16 to 512 B live"
    ));
    // Sizes are the same each time: no rounds.
    for (row, number) in rows.iter_mut().zip(waste(live)) {
        row.results.push((OURS, number));
    }
    report.add(rows);
}

fn waste(live: usize) -> Vec<f64> {
    let arena = arena();
    let heap = Publishing(&arena);
    let mut churn = Churn::new(&heap, live, 512, 17);
    churn.run(&heap, 2 * live);
    let asked: u64 = churn.blocks.iter().map(|block| size_of(&heap, block)).sum();
    let stats = arena.stats();
    let share = |part: u64, whole: u64| part as f64 / whole as f64;
    vec![
        share(stats.committed, asked),
        share(stats.used, asked),
        100.0 * share(stats.metadata, stats.committed),
    ]
}

/// What was asked for is what was written to the block: see `Heap::alloc_written`.
fn size_of<H: Heap>(heap: &H, block: &H::Block) -> u64 {
    // SAFETY: a live block of this user's, whose first bytes are its size.
    unsafe { heap.address(block).cast::<u64>().read() }
}
