//! Many blocks live; one after the other, at random, makes room for a new one.

use super::{BOOST, PUBLISHED, Work, arena, on_all_heaps};
use crate::{
    measure::{Bar, Contest, OURS, Random, Row, memory, per_operation, pin},
    processes::{Worker, obey},
    rivals::{
        heaps::{Heap, MIMALLOC, Publishing, Reserving},
        name,
    },
    settings::Settings,
    table::Report,
};
use sharena::Arena;
use std::{sync::Barrier, thread};

const LIVE: usize = 10_000;

pub(super) fn run(settings: &Settings, report: &mut Report) {
    in_threads(settings, report);
    in_processes(settings, report);
    by_live_blocks(settings, report);
}

/// Blocks that live while others come and go.
pub(crate) struct Churn<H: Heap> {
    pub(crate) blocks: Vec<H::Block>,
    /// Which one is replaced next, and how large the new one is.
    steps: Vec<(u32, u16)>,
    next: usize,
}

impl<H: Heap> Churn<H> {
    pub(crate) fn new(heap: &H, live: usize, largest: usize, seed: u64) -> Churn<H> {
        let mut random = Random(seed);
        let blocks = (0..live).map(|_| heap.alloc_written(random.size(largest)));
        let blocks = blocks.collect();
        let step = |_| (random.below(live) as u32, random.size(largest) as u16);
        Churn {
            blocks,
            steps: (0..1 << 20).map(step).collect(),
            next: 0,
        }
    }

    /// Replaces `count` blocks. Nanoseconds for each.
    pub(crate) fn run(&mut self, heap: &H, count: usize) -> f64 {
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

    /// All of it.
    pub(crate) fn once(heap: &H, count: usize, seed: u64) -> f64 {
        let mut churn = Churn::new(heap, LIVE, 512, seed);
        let time = churn.run(heap, count);
        churn.end(heap);
        time
    }
}

/// Churn of so many replacements, by one thread and by two.
struct Threads(usize);

impl Work for Threads {
    const LARGEST: usize = 512;

    fn round(&self, heap: &impl Heap) -> Vec<f64> {
        vec![Churn::once(heap, self.0, 7), self.by_two(heap)]
    }
}

impl Threads {
    fn by_two<H: Heap>(&self, heap: &H) -> f64 {
        let begin = &Barrier::new(2);
        let run = |core: usize| {
            pin(core);
            let mut churn = Churn::new(heap, LIVE, 512, core as u64 + 1);
            begin.wait();
            let time = churn.run(heap, self.0);
            churn.end(heap);
            time
        };
        thread::scope(|scope| {
            let threads = [0, 1].map(|core| scope.spawn(move || run(core)));
            let times = threads.map(|thread| thread.join().expect("it does not panic"));
            (times[0] + times[1]) / 2.0
        })
    }
}

fn in_threads(settings: &Settings, report: &mut Report) {
    let names = ["churn 1 thread", "churn 2 threads"];
    if !settings.wants(&names) {
        return;
    }
    report.title("churn: 10 000 blocks of 16 to 512 B live; one is replaced at random");
    let rows = names.map(|name| Row::new(name, &[Bar::Times("mimalloc", 1.0), BOOST]));
    let (arena, work) = (arena(), Threads(settings.scaled(2_000_000)));
    let mut contest = Contest::new(settings, rows.into());
    on_all_heaps(&mut contest, &arena, &work);
    contest.run(report);
}

fn in_processes(settings: &Settings, report: &mut Report) {
    let names = ["churn 2 processes"];
    if !settings.wants(&names) {
        return;
    }
    report.title("churn: the same by two processes; mimalloc's have a heap each");
    let count = settings.scaled(2_000_000);
    let arena_name = name("churn");
    let _arena = Arena::named(&arena_name).expect("an arena can be created");
    let rows = names.map(|name| Row::new(name, &[Bar::Times("mimalloc", 1.0), BOOST]));
    let mut contest = Contest::new(settings, rows.into());
    contest.entrant(OURS, two_workers(count, OURS, &arena_name));
    contest.entrant(PUBLISHED, two_workers(count, PUBLISHED, &arena_name));
    contest.entrant("mimalloc", two_workers(count, "mimalloc", ""));
    #[cfg(boost)]
    for boost in crate::rivals::boost::all() {
        let segment = boost.create(512 << 20);
        let mut round = two_workers(count / 10, boost.name, segment.path());
        contest.entrant(boost.name, move || {
            let _ = &segment;
            round()
        });
    }
    contest.run(report);
    Arena::unlink_named(&arena_name).expect("the arena has a name");
}

fn two_workers(count: usize, system: &str, file: &str) -> impl FnMut() -> Vec<f64> + use<> {
    let mut workers = [0, 1].map(|core| Worker::start(core, "churn", &[system, file]));
    move || {
        workers.iter_mut().for_each(|worker| worker.order(count));
        let times = workers.each_mut().map(Worker::answer);
        vec![(times[0] + times[1]) / 2.0]
    }
}

/// A process that churns on a heap that it shares, or on its own.
pub(crate) fn play(system: &str, file: &str) {
    let seed = u64::from(std::process::id());
    let arena = || Arena::open_named(file).expect("the arena is there");
    #[cfg(boost)]
    if let Some(boost) = crate::rivals::boost::named(system) {
        let segment = boost.open(file);
        return obey(|count| Churn::once(&segment, count, seed));
    }
    match system {
        OURS => {
            let arena = arena();
            obey(|count| Churn::once(&Reserving(&arena), count, seed));
        }
        PUBLISHED => {
            let arena = arena();
            obey(|count| Churn::once(&Publishing(&arena), count, seed));
        }
        _ => obey(|count| Churn::once(&MIMALLOC, count, seed)),
    }
}

/// What the rows of [`by_live_blocks`] begin with: for the chart.
pub(crate) const BY_LIVE_BLOCKS: &str = "churn, live blocks: ";

/// Whether it matters how many blocks there are.
fn by_live_blocks(settings: &Settings, report: &mut Report) {
    if !settings.wants(&[BY_LIVE_BLOCKS]) {
        return;
    }
    report.title("churn: blocks of 16 to 32 B, the more the slower");
    let most = match settings.quick {
        true => 1_000_000,
        false if memory("MemAvailable:") < MEMORY_FOR_MOST => {
            report.title("(less memory than 100 million blocks need: up to 10 million)");
            10_000_000
        }
        false => 100_000_000,
    };
    let count = settings.scaled(1_000_000);
    let arena = arena();
    let lives = (0..)
        .flat_map(|power| [10_000, 30_000].map(|live| live * 10usize.pow(power)))
        .take_while(|&live| live <= most);
    let mut rows = Vec::new();
    for live in lives {
        let name = format!("{BY_LIVE_BLOCKS}{live}");
        let mut contest = Contest::new(settings, vec![Row::new(name, &[])]).rounds(3);
        contest.entrant(PUBLISHED, kept(Publishing(&arena), live, count));
        contest.entrant("mimalloc", kept(MIMALLOC, live, count));
        rows.extend(contest.measure());
    }
    report.add(rows);
}

/// What both systems need for 100 million blocks, with the list of them.
const MEMORY_FOR_MOST: u64 = 12 << 30;

/// Churn on blocks that stay from round to round, and go at the end.
fn kept<'a, H: Heap + 'a>(heap: H, live: usize, count: usize) -> impl FnMut() -> Vec<f64> + 'a {
    struct Kept<H: Heap>(H, Option<Churn<H>>);
    impl<H: Heap> Drop for Kept<H> {
        fn drop(&mut self) {
            if let Some(churn) = self.1.take() {
                churn.end(&self.0);
            }
        }
    }
    let mut kept = Kept(heap, None);
    move || {
        let Kept(heap, churn) = &mut kept;
        let churn = churn.get_or_insert_with(|| Churn::new(heap, live, 32, 11));
        vec![churn.run(heap, count)]
    }
}
