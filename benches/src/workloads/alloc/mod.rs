//! Blocks: one at a time, in batches, many alive, freed by somebody else.

pub(crate) mod churn;
mod linked;
mod remote;
mod waste;

pub(crate) use linked::in_one_row as linked;
pub(crate) use remote::{in_one_row as freed_by_thread, play as play_remote};

use super::arena;
use crate::{
    measure::{Bar, Contest, OURS, Random, Row, per_operation},
    rivals::{
        heaps::{GLIBC, Heap, MIMALLOC, Publishing, Reserving, SNMALLOC, talc},
        iceoryx::Pool,
    },
    settings::Settings,
    table::Report,
};
use sharena::Arena;

/// Blocks of an arena that are published one by one, each in a section of its own.
pub(crate) const PUBLISHED: &str = "sharena published";

/// Boost is to be left far behind.
const BOOST: Bar = Bar::Times("Boost", 0.05);

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    pairs(settings, report);
    linked::run(settings, report);
    batches(settings, report);
    churn::run(settings, report);
    remote::run(settings, report);
    waste::run(settings, report);
}

/// The same work on any heap.
trait Work {
    /// The largest block that it asks for.
    const LARGEST: usize;

    fn round(&self, heap: &impl Heap) -> Vec<f64>;
}

fn on_all_heaps<'a, W: Work>(contest: &mut Contest<'a>, arena: &'a Arena, work: &'a W) {
    contest.entrant(OURS, || work.round(&Reserving(arena)));
    contest.entrant(PUBLISHED, || work.round(&Publishing(arena)));
    contest.entrant("mimalloc", || work.round(&MIMALLOC));
    contest.entrant("snmalloc", || work.round(&SNMALLOC));
    contest.entrant("glibc", || work.round(&GLIBC));
    contest.entrant("talc", || work.round(talc()));
    let pool = Pool::new(W::LARGEST);
    contest.entrant("iceoryx2", move || work.round(&pool));
    #[cfg(boost)]
    for boost in crate::rivals::boost::all() {
        let segment = boost.create(512 << 20);
        contest.entrant(boost.name, move || work.round(&segment));
    }
}

const PAIR_SIZES: [usize; 5] = [16, 64, 256, 1024, 4096];

fn pairs(settings: &Settings, report: &mut Report) {
    if !settings.wants(&["alloc+free pair"]) {
        return;
    }
    report.title("pair: allocate a block, write to it, free it");
    let rows = PAIR_SIZES.map(|size| {
        let bar = if size == 4096 { 0.8 } else { 1.3 };
        let name = format!("alloc+free pair, {size} B");
        Row::new(name, &[Bar::Times("mimalloc", bar), BOOST])
    });
    let (arena, work) = (arena(), Pairs(settings.scaled(2_000_000)));
    let mut contest = Contest::new(settings, rows.into());
    on_all_heaps(&mut contest, &arena, &work);
    contest.run(report);
}

/// So many pairs.
struct Pairs(usize);

impl Work for Pairs {
    const LARGEST: usize = 4096;

    fn round(&self, heap: &impl Heap) -> Vec<f64> {
        PAIR_SIZES.map(|size| pair(heap, size, self.0)).into()
    }
}

/// Nanoseconds for allocating and freeing a block.
pub(crate) fn pair(heap: &impl Heap, size: usize, count: usize) -> f64 {
    per_operation(count, || {
        for _ in 0..count {
            let block = heap.alloc_written(std::hint::black_box(size));
            std::hint::black_box(heap.address(&block));
            heap.free(block);
        }
    })
}

fn batches(settings: &Settings, report: &mut Report) {
    if !settings.wants(&["batch alloc", "batch free"]) {
        return;
    }
    report.title("batch: 100 000 blocks of 16 to 512 B, then freed in random order");
    let rows = vec![
        Row::new("batch alloc, warm", &[Bar::Times("mimalloc", 1.2), BOOST]),
        Row::new(
            "batch free, random order",
            &[Bar::Times("mimalloc", 2.0), BOOST],
        ),
    ];
    let (arena, work) = (arena(), Batch::new(100_000));
    let mut contest = Contest::new(settings, rows);
    on_all_heaps(&mut contest, &arena, &work);
    contest.run(report);
}

/// Nanoseconds for a block of a batch: to allocate it, and to free it.
pub(crate) fn batch(heap: &impl Heap) -> Vec<f64> {
    Batch::new(100_000).round(heap)
}

struct Batch {
    sizes: Vec<u16>,
    /// In which they are freed.
    order: Vec<u32>,
}

impl Batch {
    fn new(count: usize) -> Batch {
        let mut random = Random(1);
        Batch {
            sizes: (0..count).map(|_| random.size(512) as u16).collect(),
            order: random.order(count),
        }
    }
}

impl Work for Batch {
    const LARGEST: usize = 512;

    fn round(&self, heap: &impl Heap) -> Vec<f64> {
        let mut blocks: Vec<_> = self.sizes.iter().map(|_| None).collect();
        let alloc = per_operation(self.sizes.len(), || {
            for (block, &size) in blocks.iter_mut().zip(&self.sizes) {
                *block = Some(heap.alloc_written(size.into()));
            }
        });
        let free = per_operation(self.sizes.len(), || {
            for &index in &self.order {
                let block = blocks[index as usize].take();
                heap.free(block.expect("each is freed once"));
            }
        });
        vec![alloc, free]
    }
}
