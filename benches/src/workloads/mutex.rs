//! Mutexes: free ones, and one that two want at once.

use super::arena;
use crate::{
    measure::{Bar, Contest, OURS, Row, per_operation, per_operation_waiting, pin},
    processes::{Worker, obey},
    rivals::{folder, name},
    settings::Settings,
    table::Report,
};
use mmap_sync::synchronizer::Synchronizer;
use sharena::{Arena, Share, sync::Mutex};
use std::{hint::black_box, sync::Barrier, thread, time::Instant};

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    free(settings, report);
    contended(settings, report);
    value(settings, report);
}

fn free(settings: &Settings, report: &mut Report) {
    let names = [
        "mutex lock+unlock, nothing written",
        "mutex lock+unlock, one field written",
    ];
    if !settings.wants(&names) {
        return;
    }
    report.title("mutex: free");
    let count = settings.scaled(5_000_000);
    let arena = arena();
    let ours = arena.root::<Mutex<u64>>(&name("mutex"));
    let ours = &*ours.expect("the arena has room");
    let theirs = &parking_lot::Mutex::new(0u64);
    let rows = names.into_iter().zip([1.15, 1.6]);
    let rows = rows.map(|(name, bar)| Row::new(name, &[Bar::Times("parking_lot", bar)]));
    let mut contest = Contest::new(settings, rows.collect());
    contest.entrant(OURS, || {
        let read = || (0..count).for_each(|_| look(&black_box(ours).lock().unwrap()));
        let write = || (0..count).for_each(|_| *black_box(ours).lock().unwrap() += 1);
        vec![per_operation(count, read), per_operation(count, write)]
    });
    contest.entrant("parking_lot", || {
        let read = || (0..count).for_each(|_| look(&black_box(theirs).lock()));
        let write = || (0..count).for_each(|_| *black_box(theirs).lock() += 1);
        vec![per_operation(count, read), per_operation(count, write)]
    });
    contest.run(report);
}

/// Reads what a guard protects.
#[inline(always)]
fn look(number: &u64) {
    black_box(*number);
}

/// The root that contending processes lock.
const CONTENDED: &str = "contended";

fn contended(settings: &Settings, report: &mut Report) {
    let names = [
        "mutex contended by 2 processes",
        "mutex contended by 2 threads",
    ];
    if !settings.wants(&names) {
        return;
    }
    report.title("mutex: two add to one number; parking_lot's are threads");
    // Long enough for the two to meet, also where one begins late.
    let count = settings.scaled(5_000_000).max(2_000_000);
    let arena_name = name("contended");
    let arena = Arena::named(&arena_name).expect("an arena can be created");
    let ours = arena.root::<Mutex<u64>>(CONTENDED);
    let ours = &*ours.expect("the arena has room");
    let theirs = &parking_lot::Mutex::new(0u64);
    let mut workers = [0, 1].map(|core| Worker::start(core, "mutex", &[&arena_name]));
    let rows = names.map(|name| Row::new(name, &[Bar::Times("parking_lot", 1.3)]));
    let mut contest = Contest::new(settings, rows.into());
    contest.entrant(OURS, || {
        let processes = per_operation_waiting(2 * count, || {
            workers.iter_mut().for_each(|worker| worker.order(count));
            workers.each_mut().map(Worker::answer)
        });
        let threads = two_threads(count, || *ours.lock().unwrap() += 1);
        vec![processes, threads]
    });
    contest.entrant("parking_lot", || {
        let time = two_threads(count, || *theirs.lock() += 1);
        vec![time, time]
    });
    contest.run(report);
    Arena::unlink_named(&arena_name).expect("the arena has a name");
}

/// Nanoseconds for each of the operations that two threads do at once, `count` each: from the first
/// one's begin to the last one's end.
pub(super) fn two_threads(count: usize, operation: impl Fn() + Sync) -> f64 {
    let begin = Barrier::new(2);
    let run = &|core| {
        pin(core);
        begin.wait();
        let start = Instant::now();
        (0..count).for_each(|_| operation());
        (start, Instant::now())
    };
    thread::scope(|scope| {
        let threads = [0, 1].map(|core| scope.spawn(move || run(core)));
        let [one, other] = threads.map(|thread| thread.join().expect("it does not panic"));
        let time = one.1.max(other.1) - one.0.min(other.0);
        time.as_nanos() as f64 / (2 * count) as f64
    })
}

/// What is read and written as a whole.
#[derive(Share)]
#[repr(C)]
struct Value {
    words: [u64; 128],
}

impl Default for Value {
    fn default() -> Value {
        Value { words: [1; 128] }
    }
}

/// One value that many read and one replaces: what `mmap-sync` is made for.
fn value(settings: &Settings, report: &mut Report) {
    let names = [
        "mutex, a value of 1 KiB read",
        "mutex, a value of 1 KiB written",
    ];
    if !settings.wants(&names) {
        return;
    }
    report.title("mutex: a value of 1 KiB; mmap-sync has one writer, and readers that do not wait");
    let arena = arena();
    let ours = arena.root::<Mutex<Value>>(&name("value"));
    let ours = ours.expect("the arena has room");
    let prefix = folder().join(name("mmap-sync"));
    let mut theirs = Synchronizer::new(prefix.as_os_str());
    let count = settings.scaled(1_000_000);
    let writes = count / 10;
    let rows = names.map(|name| Row::new(name, &[]));
    let mut contest = Contest::new(settings, rows.into());
    contest.entrant(OURS, || {
        let sum = || -> u64 { ours.lock().unwrap().words.iter().sum() };
        let read = || (0..count).map(|_| sum()).fold(0, u64::wrapping_add);
        let write = || (0..writes).for_each(|n| ours.lock().unwrap().words = [n as u64; 128]);
        let write = per_operation(writes, write);
        vec![per_operation(count, read), write]
    });
    contest.entrant("mmap-sync", || {
        let patience = std::time::Duration::from_secs(1);
        let write = per_operation(writes, || {
            for n in 0..writes {
                let written = theirs.write(&[n as u64; 128], patience);
                written.expect("nobody reads");
            }
        });
        let mut sum = || -> u64 {
            // SAFETY: this type was written.
            let value = unsafe { theirs.read::<[u64; 128]>(false) };
            value.expect("it was written").iter().sum()
        };
        let read = || (0..count).map(|_| sum()).fold(0, u64::wrapping_add);
        vec![per_operation(count, read), write]
    });
    contest.run(report);
    for file in ["state", "data_0", "data_1"] {
        let mut path = prefix.clone().into_os_string();
        path.push(format!("_{file}"));
        let _ = std::fs::remove_file(path);
    }
}

/// A contending process.
pub(crate) fn play(arena: &str) {
    let arena = Arena::open_named(arena).expect("the arena is there");
    let mutex = arena.find::<Mutex<u64>>(CONTENDED).expect("it is there");
    obey(|count| {
        per_operation_waiting(count, || {
            for _ in 0..count {
                *mutex.lock().unwrap() += 1;
            }
        })
    });
}
