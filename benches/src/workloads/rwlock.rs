//! Reader-writer locks: free ones, and one that two read at once.

use super::{arena, mutex::two_threads};
use crate::{
    measure::{Bar, Contest, OURS, Row, per_operation, per_operation_waiting},
    processes::{Worker, obey},
    rivals::name,
    settings::Settings,
    table::Report,
};
use sharena::{Arena, sync::RwLock};
use std::hint::black_box;

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    free(settings, report);
    shared(settings, report);
}

/// Reads what a guard protects.
#[inline(always)]
fn look(number: &u64) {
    black_box(*number);
}

fn free(settings: &Settings, report: &mut Report) {
    let names = [
        "rwlock read+unlock",
        "rwlock read+unlock, two at a time",
        "rwlock write+unlock, one field written",
    ];
    if !settings.wants(&names) {
        return;
    }
    report.title("rwlock: free");
    let count = settings.scaled(5_000_000);
    let arena = arena();
    let one = arena.root::<RwLock<u64>>(&name("one"));
    let two = arena.root::<RwLock<u64>>(&name("two"));
    let (one, two) = (&*one.expect("there is room"), &*two.expect("there is room"));
    let (first, second) = (&parking_lot::RwLock::new(0), &parking_lot::RwLock::new(0));
    let rows = names.into_iter().zip([1.0, 1.6, 1.6]);
    let rows = rows.map(|(name, bar)| Row::new(name, &[Bar::Times("parking_lot", bar)]));
    let mut contest = Contest::new(settings, rows.collect());
    contest.entrant(OURS, || {
        let read = || (0..count).for_each(|_| look(&black_box(one).read().unwrap()));
        let both = || {
            for _ in 0..count {
                let (one, two) = (black_box(one).read(), black_box(two).read());
                look(&one.unwrap());
                look(&two.unwrap());
            }
        };
        let write = || (0..count).for_each(|_| *black_box(one).write().unwrap() += 1);
        vec![
            per_operation(count, read),
            per_operation(count, both),
            per_operation(count, write),
        ]
    });
    contest.entrant("parking_lot", || {
        let read = || (0..count).for_each(|_| look(&black_box(first).read()));
        let both = || {
            for _ in 0..count {
                let (one, two) = (black_box(first).read(), black_box(second).read());
                look(&one);
                look(&two);
            }
        };
        let write = || (0..count).for_each(|_| *black_box(first).write() += 1);
        vec![
            per_operation(count, read),
            per_operation(count, both),
            per_operation(count, write),
        ]
    });
    contest.run(report);
}

/// The root that processes read at once.
const SHARED: &str = "shared";

fn shared(settings: &Settings, report: &mut Report) {
    let names = [
        "rwlock read by 2 processes at once",
        "rwlock read by 2 threads at once",
        "rwlock, 2 threads, one of 64 writes",
    ];
    if !settings.wants(&names) {
        return;
    }
    report.title("rwlock: two read one number; parking_lot's are threads");
    let count = settings.scaled(5_000_000);
    let arena_name = name("shared");
    let arena = Arena::named(&arena_name).expect("an arena can be created");
    let ours = arena.root::<RwLock<u64>>(SHARED);
    let ours = &*ours.expect("the arena has room");
    let theirs = &parking_lot::RwLock::new(0u64);
    let mut workers = [0, 1].map(|core| Worker::start(core, "rwlock", &[&arena_name]));
    let rows = names.into_iter().zip([1.0, 1.0, 1.6]);
    let rows = rows.map(|(name, bar)| Row::new(name, &[Bar::Times("parking_lot", bar)]));
    let mut contest = Contest::new(settings, rows.collect());
    contest.entrant(OURS, || {
        workers.iter_mut().for_each(|worker| worker.order(count));
        let times = workers.each_mut().map(Worker::answer);
        let read = two_threads(count, || look(&ours.read().unwrap()));
        let mixed = two_threads(
            count,
            mix(|write| match write {
                true => *ours.write().unwrap() += 1,
                false => look(&ours.read().unwrap()),
            }),
        );
        vec![times[0].max(times[1]) / 2.0, read, mixed]
    });
    contest.entrant("parking_lot", || {
        let read = two_threads(count, || look(&theirs.read()));
        let mixed = two_threads(
            count,
            mix(|write| match write {
                true => *theirs.write() += 1,
                false => look(&theirs.read()),
            }),
        );
        vec![read, read, mixed]
    });
    contest.run(report);
    Arena::unlink_named(&arena_name).expect("the arena has a name");
}

/// Tells an operation whether it is to write: one of 64 times, for each thread.
fn mix(operation: impl Fn(bool) + Sync) -> impl Fn() + Sync {
    thread_local! {
        static TURN: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
    }
    move || {
        let turn = TURN.get().wrapping_add(1);
        TURN.set(turn);
        operation(turn.is_multiple_of(64));
    }
}

/// A reading process.
pub(crate) fn play(arena: &str) {
    let arena = Arena::open_named(arena).expect("the arena is there");
    let lock = arena.find::<RwLock<u64>>(SHARED).expect("it is there");
    obey(|count| {
        per_operation_waiting(count, || {
            for _ in 0..count {
                look(&lock.read().unwrap());
            }
        })
    });
}
