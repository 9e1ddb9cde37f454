//! Blocks that somebody else frees than who allocated them.

use super::{BOOST, arena};
use crate::{
    measure::{Bar, Contest, OURS, Random, Row, names, per_operation, pin},
    processes::{Worker, obey},
    rivals::{
        heaps::{GLIBC, Heap, MIMALLOC, Publishing, SNMALLOC},
        name,
    },
    settings::Settings,
    table::Report,
};
use sharena::{Arena, RelPtr, collections, sync::Mutex};
use std::{sync::mpsc, thread};

/// How many are handed over at once.
const BATCH: usize = 10_000;

pub(super) fn run(settings: &Settings, report: &mut Report) {
    by_threads(settings, report);
    by_processes(settings, report);
}

fn rows(who: &str) -> Vec<Row> {
    let bar = [Bar::Times("mimalloc", 0.3), BOOST];
    vec![
        Row::new(format!("remote free by another {who}"), &bar),
        Row::new(format!("remote alloc, and free by another {who}"), &bar),
    ]
}

fn by_threads(settings: &Settings, report: &mut Report) {
    let rows = rows("thread");
    if !settings.wants(&names(&rows)) {
        return;
    }
    report.title("remote: published blocks of 16 to 512 B, in batches of 10 000");
    let arena = &arena();
    let sizes = &sizes();
    let batches = settings.scaled(200);
    let mut contest = Contest::new(settings, rows);
    contest.entrant(OURS, || freed_by_thread(&Publishing(arena), sizes, batches));
    contest.entrant("mimalloc", || freed_by_thread(&MIMALLOC, sizes, batches));
    contest.entrant("snmalloc", || freed_by_thread(&SNMALLOC, sizes, batches));
    contest.entrant("glibc", || freed_by_thread(&GLIBC, sizes, batches));
    #[cfg(boost)]
    for boost in crate::rivals::boost::all() {
        let segment = boost.create(512 << 20);
        let batches = batches.div_ceil(20);
        contest.entrant(boost.name, move || {
            freed_by_thread(&segment, sizes, batches)
        });
    }
    contest.run(report);
}

fn sizes() -> Vec<u16> {
    let mut random = Random(13);
    (0..BATCH).map(|_| random.size(512) as u16).collect()
}

/// Nanoseconds for freeing about so many blocks by another thread.
pub(crate) fn in_one_row(heap: &Publishing<'_>, count: usize) -> f64 {
    freed_by_thread(heap, &sizes(), count.div_ceil(BATCH))[0]
}

/// Nanoseconds for freeing, and for allocating and freeing.
fn freed_by_thread<H: Heap>(heap: &H, sizes: &[u16], batches: usize) -> Vec<f64>
where
    H::Block: Send,
{
    let (here, there) = mpsc::channel::<Vec<H::Block>>();
    let (back, returned) = mpsc::channel();
    let free_all = move || {
        pin(1);
        for mut blocks in there {
            let free = || blocks.drain(..).for_each(|block| heap.free(block));
            let time = per_operation(BATCH, free);
            back.send((blocks, time)).expect("the other one waits");
        }
    };
    let (mut alloc, mut free) = (0.0, 0.0);
    thread::scope(|scope| {
        scope.spawn(free_all);
        let mut blocks = Vec::with_capacity(BATCH);
        for _ in 0..batches {
            let new = sizes.iter().map(|&size| heap.alloc_written(size.into()));
            alloc += per_operation(BATCH, || blocks.extend(new));
            here.send(blocks).expect("the other one waits");
            let time;
            (blocks, time) = returned.recv().expect("it answers");
            free += time;
        }
        drop(here);
    });
    let batches = batches as f64;
    vec![free / batches, (alloc + free) / batches]
}

/// The root through which blocks go from process to process.
const BOX: &str = "box";
type Letters = Mutex<collections::Vec<RelPtr<u8>>>;

fn by_processes(settings: &Settings, report: &mut Report) {
    let rows = rows("process");
    if !settings.wants(&names(&rows)) {
        return;
    }
    report.title("remote: the same by another process; mimalloc's is a thread");
    let arena_name = name("remote");
    let arena = &Arena::named(&arena_name).expect("an arena can be created");
    let letters = &*arena.root::<Letters>(BOX).expect("there is room");
    let mut worker = Worker::start(1, "remote", &[OURS, &arena_name]);
    let sizes = &sizes();
    let batches = settings.scaled(200);
    let mut contest = Contest::new(settings, rows);
    contest.entrant(OURS, || {
        let (mut alloc, mut free) = (0.0, 0.0);
        let heap = Publishing(arena);
        for _ in 0..batches {
            let mut blocks = Vec::with_capacity(BATCH);
            let new = sizes.iter().map(|&size| heap.alloc_written(size.into()));
            alloc += per_operation(BATCH, || blocks.extend(new));
            let mut letters = letters.lock().expect("free");
            letters.extend_from_slice(&blocks).expect("there is room");
            drop(letters);
            worker.order(BATCH);
            free += worker.answer();
        }
        let batches = batches as f64;
        vec![free / batches, (alloc + free) / batches]
    });
    contest.entrant("mimalloc", || freed_by_thread(&MIMALLOC, sizes, batches));
    #[cfg(boost)]
    for boost in crate::rivals::boost::all() {
        let segment = boost.create(512 << 20);
        let mut worker = Worker::start(1, "remote", &[boost.name, segment.path()]);
        let batches = batches.div_ceil(20);
        contest.entrant(boost.name, move || {
            freed_by_boost(&segment, &mut worker, sizes, batches)
        });
    }
    contest.run(report);
    Arena::unlink_named(&arena_name).expect("the arena has a name");
}

/// The handles go through a file.
#[cfg(boost)]
fn freed_by_boost(
    segment: &crate::rivals::boost::Segment,
    worker: &mut Worker,
    sizes: &[u16],
    batches: usize,
) -> Vec<f64> {
    let letters = letters_of(segment.path());
    let (mut alloc, mut free) = (0.0, 0.0);
    for _ in 0..batches {
        let mut blocks = Vec::with_capacity(BATCH);
        let new = sizes.iter().map(|&size| segment.alloc_written(size.into()));
        alloc += per_operation(BATCH, || blocks.extend(new));
        let handles = blocks
            .iter()
            .flat_map(|block| segment.handle(block).to_ne_bytes());
        std::fs::write(&letters, handles.collect::<Vec<_>>()).expect("there is room");
        worker.order(BATCH);
        free += worker.answer();
    }
    let _ = std::fs::remove_file(&letters);
    let batches = batches as f64;
    vec![free / batches, (alloc + free) / batches]
}

#[cfg(boost)]
fn letters_of(segment: &str) -> String {
    format!("{segment}-letters")
}

#[cfg(boost)]
fn play_boost(boost: crate::rivals::boost::Boost, path: &str) {
    let segment = boost.open(path);
    obey(|count| {
        let handles = std::fs::read(letters_of(path)).expect("they were written");
        let handles = handles.chunks_exact(8);
        let handles = handles.map(|bytes| u64::from_ne_bytes(bytes.try_into().expect("eight")));
        let blocks: Vec<_> = handles.map(|handle| segment.block(handle)).collect();
        per_operation(count, || {
            blocks.into_iter().for_each(|block| segment.free(block))
        })
    });
}

/// A process that frees what it is sent.
pub(crate) fn play(system: &str, arena: &str) {
    #[cfg(boost)]
    if let Some(boost) = crate::rivals::boost::named(system) {
        return play_boost(boost, arena);
    }
    assert_eq!(system, OURS);
    let arena = Arena::open_named(arena).expect("the arena is there");
    let letters = arena.find::<Letters>(BOX).expect("it is there");
    let heap = Publishing(&arena);
    obey(|count| {
        let mut guard = letters.lock().expect("free");
        let blocks: Vec<RelPtr<u8>> = guard.iter().copied().collect();
        guard.clear();
        drop(guard);
        per_operation(count, || {
            blocks.into_iter().for_each(|block| heap.free(block))
        })
    });
}
