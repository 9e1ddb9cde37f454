//! Blocks: one at a time, in batches, many alive, freed by somebody else.

use super::arena;
use crate::{
    measure::{Bar, Contest, OURS, Random, Row, per_operation},
    rivals::heaps::{GLIBC, Heap, MIMALLOC, Publishing, Reserving, SNMALLOC},
    settings::Settings,
    table::Report,
};

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    pairs(settings, report);
    batches(settings, report);
    churn(settings, report);
}

/// Adds the same work on every heap. The macro stands for a function that is generic over a generic
/// function.
macro_rules! all_heaps {
    ($contest:expr, $arena:expr, |$heap:ident| $round:expr) => {{
        let contest = &mut $contest;
        {
            let $heap = Reserving($arena);
            contest.entrant(OURS, $round);
        }
        {
            let $heap = Publishing($arena);
            contest.entrant("sharena published", $round);
        }
        {
            let $heap = MIMALLOC;
            contest.entrant("mimalloc", $round);
        }
        {
            let $heap = SNMALLOC;
            contest.entrant("snmalloc", $round);
        }
        {
            let $heap = GLIBC;
            contest.entrant("glibc", $round);
        }
    }};
}

const PAIR_SIZES: [usize; 5] = [16, 64, 256, 1024, 4096];

fn pairs(settings: &Settings, report: &mut Report) {
    if !settings.wants(&["alloc+free pair"]) {
        return;
    }
    report.title("pair: allocate a block, write to it, free it");
    let arena = &arena();
    let count = settings.scaled(2_000_000);
    let rows = PAIR_SIZES.map(|size| {
        let bar = if size == 4096 { 0.8 } else { 1.3 };
        let name = format!("alloc+free pair, {size} B");
        Row::new(name, &[Bar::Times("mimalloc", bar)])
    });
    let mut contest = Contest::new(settings, rows.into());
    all_heaps!(contest, arena, |heap| {
        move || PAIR_SIZES.map(|size| pair(&heap, size, count)).into()
    });
    contest.run(report);
}

fn pair(heap: &impl Heap, size: usize, count: usize) -> f64 {
    per_operation(count, || {
        for _ in 0..count {
            let block = heap.alloc_written(std::hint::black_box(size));
            std::hint::black_box(heap.address(&block));
            heap.free(block);
        }
    })
}

const BATCH: usize = 100_000;

fn batches(settings: &Settings, report: &mut Report) {
    if !settings.wants(&["batch alloc", "batch free"]) {
        return;
    }
    report.title("batch: 100 000 blocks of 16 to 512 B, then freed in random order");
    let arena = &arena();
    let mut random = Random(1);
    let sizes: Vec<u16> = (0..BATCH).map(|_| 16 + random.below(497) as u16).collect();
    let order = random.order(BATCH);
    let (sizes, order) = (&sizes, &order);
    let rows = vec![
        Row::new("batch alloc, warm", &[Bar::Times("mimalloc", 1.2)]),
        Row::new("batch free, random order", &[Bar::Times("mimalloc", 2.0)]),
    ];
    let mut contest = Contest::new(settings, rows);
    all_heaps!(contest, arena, |heap| move || batch(&heap, sizes, order));
    contest.run(report);
}

fn batch<H: Heap>(heap: &H, sizes: &[u16], order: &[u32]) -> Vec<f64> {
    let mut blocks: Vec<Option<H::Block>> = Vec::with_capacity(sizes.len());
    blocks.resize_with(sizes.len(), || None);
    let alloc = per_operation(sizes.len(), || {
        for (block, &size) in blocks.iter_mut().zip(sizes) {
            *block = Some(heap.alloc_written(size.into()));
        }
    });
    let free = per_operation(sizes.len(), || {
        for &index in order {
            heap.free(blocks[index as usize].take().expect("each is freed once"));
        }
    });
    vec![alloc, free]
}

/// Blocks that live while others come and go.
struct Churn<H: Heap> {
    blocks: Vec<H::Block>,
    /// Which one is replaced next, and how large the new one is.
    steps: Vec<(u32, u16)>,
    next: usize,
}

impl<H: Heap> Churn<H> {
    fn new(heap: &H, live: usize, largest: usize, seed: u64) -> Churn<H> {
        let mut random = Random(seed);
        let mut size = |random: &mut Random| 16 + random.below(largest - 15);
        let blocks = (0..live).map(|_| heap.alloc_written(size(&mut random)));
        let blocks = blocks.collect();
        let steps = (0..1 << 20)
            .map(|_| (random.below(live) as u32, size(&mut random) as u16))
            .collect();
        Churn {
            blocks,
            steps,
            next: 0,
        }
    }

    /// Replaces `count` blocks. Nanoseconds for each.
    fn run(&mut self, heap: &H, count: usize) -> f64 {
        per_operation(count, || {
            for _ in 0..count {
                let (index, size) = self.steps[self.next];
                self.next = (self.next + 1) % self.steps.len();
                let new = heap.alloc_written(size.into());
                heap.free(std::mem::replace(&mut self.blocks[index as usize], new));
            }
        })
    }

    fn end(self, heap: &H) {
        self.blocks.into_iter().for_each(|block| heap.free(block));
    }
}

const LIVE: usize = 10_000;

fn churn(settings: &Settings, report: &mut Report) {
    if !settings.wants(&["churn 1 thread"]) {
        return;
    }
    report.title("churn: 10 000 blocks of 16 to 512 B live; one is replaced at random");
    let arena = &arena();
    let count = settings.scaled(2_000_000);
    let row = Row::new("churn 1 thread", &[Bar::Times("mimalloc", 1.0)]);
    let mut contest = Contest::new(settings, vec![row]);
    all_heaps!(contest, arena, |heap| {
        move || {
            let mut churn = Churn::new(&heap, LIVE, 512, 7);
            let time = churn.run(&heap, count);
            churn.end(&heap);
            vec![time]
        }
    });
    contest.run(report);
}
