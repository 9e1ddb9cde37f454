//! Whether it matters how many threads have the arena.

use super::{
    alloc::{batch, churn::Churn, freed_by_thread, linked, pair},
    arena,
};
use crate::{
    measure::{Bar, Contest, OURS, Row, per_operation},
    rivals::heaps::{Publishing, Reserving},
    settings::Settings,
    table::Report,
};
use sharena::{
    Arena,
    collections::{self, HashMap},
    sync::{Mutex, RwLock},
};
use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        mpsc::{self, Sender},
    },
    thread,
};

/// The same arena with few threads attached.
const FEW: &str = "2 slots";

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    let names = [
        "pair, 64 B, with 64 slots attached",
        "batch alloc, with 64 slots attached",
        "batch free, with 64 slots attached",
        "churn 1 thread, with 64 slots attached",
        "remote free by another thread, with 64 slots attached",
        "linked pair, with 64 slots attached",
        "vec push, with 64 slots attached",
        "mutex, one field written, with 64 slots attached",
        "map lock, insert, unlock, with 64 slots attached",
        "map find, with 64 slots attached",
        "rwlock read+unlock, with 64 slots attached",
    ];
    if !settings.wants(&names) {
        return;
    }
    report.title("64 slots attached instead of 2");
    let rows = names.map(|name| Row::new(name, &[Bar::Times(FEW, 1.05)]));
    let count = settings.scaled(1_000_000);
    let (many, few) = (Crowded::new(63), Crowded::new(1));
    let mut contest = Contest::new(settings, rows.into());
    contest.entrant(OURS, || many.round(count));
    contest.entrant(FEW, || few.round(count));
    contest.run(report);
}

/// An arena that other threads have attached to; they do nothing.
struct Crowded {
    arena: Arena,
    /// The others live as long as this does.
    _others: Vec<Sender<()>>,
}

impl Crowded {
    fn new(others: usize) -> Crowded {
        let arena = arena();
        let attached = Arc::new(Barrier::new(others + 1));
        let attach = |_| {
            let (alive, end) = mpsc::channel();
            let (arena, attached) = (arena.clone(), attached.clone());
            thread::spawn(move || {
                let root = arena.root::<Mutex<u64>>("everybody's");
                drop(root.expect("there is room").lock().expect("free"));
                attached.wait();
                // Until the sender is dropped.
                let _ = end.recv();
            });
            alive
        };
        let _others = (0..others).map(attach).collect();
        attached.wait();
        Crowded { arena, _others }
    }

    fn round(&self, count: usize) -> Vec<f64> {
        let arena = &self.arena;
        let heap = Reserving(arena);
        let number = arena.root::<Mutex<u64>>("number").expect("there is room");
        let map = arena.root::<Mutex<HashMap<u64, u64>>>("map");
        let map = map.expect("there is room");
        let key = |index: usize| (index % 1000) as u64;
        let lock = || (0..count).for_each(|_| *number.lock().unwrap() += 1);
        let insert = || {
            for index in 0..count {
                map.lock().unwrap().insert(key(index), 1).unwrap();
            }
        };
        let find = || {
            let map = map.lock().unwrap();
            (0..count).for_each(|index| _ = black_box(map.get(&key(index))));
        };
        let numbers = arena.root::<Mutex<collections::Vec<u64>>>("numbers");
        let numbers = numbers.expect("there is room");
        numbers.lock().unwrap().reserve(count).unwrap();
        let push = || {
            let mut numbers = numbers.lock().unwrap();
            numbers.clear();
            (0..count as u64).for_each(|number| numbers.push(number).unwrap());
        };
        let read = arena.root::<RwLock<u64>>("read");
        let read = read.expect("there is room");
        let read = || (0..count).for_each(|_| _ = black_box(*read.read().unwrap()));
        let batch = batch(&heap);
        vec![
            pair(&heap, 64, count),
            batch[0],
            batch[1],
            Churn::once(&heap, count, 7),
            freed_by_thread(&Publishing(arena), count),
            linked(arena, count),
            per_operation(count, push),
            per_operation(count, lock),
            per_operation(count, insert),
            per_operation(count, find),
            per_operation(count, read),
        ]
    }
}
