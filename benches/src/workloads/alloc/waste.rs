//! How much memory there is for each byte that was asked for.

use super::{arena, churn::Churn};
use crate::{
    measure::{Bar, Contest, OURS, Row},
    rivals::heaps::{Heap, Publishing},
    settings::Settings,
    table::Report,
};

pub(super) fn run(settings: &Settings, report: &mut Report) {
    let rows = vec![
        Row::new(
            "churn waste: committed for each byte asked",
            &[Bar::AtMost(1.25)],
        )
        .in_unit("B"),
        Row::new("churn waste: given out for each byte asked", &[]).in_unit("B"),
        Row::new(
            "churn waste: metadata of what is committed",
            &[Bar::AtMost(2.5)],
        )
        .in_unit("%"),
    ];
    let names: Vec<&String> = rows.iter().map(|row| &row.workload).collect();
    if !settings.wants(&names) {
        return;
    }
    let live = settings.scaled(1_000_000);
    report.title(&format!(
        "churn: memory, with {live} blocks of 16 to 512 B live"
    ));
    let mut contest = Contest::new(settings, rows).rounds(1);
    contest.entrant(OURS, || waste(live));
    contest.run(report);
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
