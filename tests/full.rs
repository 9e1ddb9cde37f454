//! A full arena can be emptied.

mod common;

use common::{Forked, await_stage, reach};
use sharena::{
    Arena, Error,
    collections::{HashMap, String, Vec},
    sync::Mutex,
};
use std::{sync::atomic::AtomicU32, time::Duration};

type World = Mutex<HashMap<u64, Vec<String>>>;

fn fill(world: &World) -> usize {
    let mut count = 0;
    for key in 0.. {
        let mut guard = world.lock().unwrap();
        let list = match guard.entry(key).or_default() {
            Ok(list) => list,
            Err(Error::Full { .. } | Error::NoSpace { .. }) => return count,
            Err(error) => panic!("{error}"),
        };
        for _ in 0..50 {
            if list.push_from("twenty bytes and more").is_err() {
                return count;
            }
            count += 1;
        }
    }
    count
}

#[test]
fn what_is_dropped_in_a_full_arena_is_freed() {
    let arena = Arena::options().max_size(4 << 20).in_memory().unwrap();
    let world = arena.root::<World>("world").unwrap();
    let first = fill(&world);
    for round in 0..5 {
        world.lock().unwrap().clear();
        assert!(arena.check().is_clean(), "round {round}: {}", arena.check());
        let again = fill(&world);
        assert!(again * 10 > first * 9, "{first} fitted, then {again}");
    }
    *world.lock().unwrap() = HashMap::new();
    assert!(arena.check().is_clean(), "{}", arena.check());
}

/// A transaction that drops more than the slot's log holds, and is undone.
#[test]
fn undoing_brings_it_back() {
    let arena = Arena::options().max_size(4 << 20).in_memory().unwrap();
    let world = arena.root::<World>("world").unwrap();
    let count = fill(&world);
    let undone = arena.transaction(|tx| {
        tx.lock(&world)?.clear();
        Err::<(), _>(Error::other("no"))
    });
    assert!(undone.is_err());
    let words: usize = world.lock().unwrap().values().map(|list| list.len()).sum();
    assert_eq!(words, count);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

type Lists = Mutex<Vec<Vec<String>>>;

fn fill_lists(lists: &Lists) -> usize {
    let mut count = 0;
    loop {
        let mut lists = lists.lock().unwrap();
        if lists.push(Vec::new()).is_err() {
            return count;
        }
        let last = lists.len() - 1;
        for _ in 0..40 {
            if lists[last].push_from("twenty bytes and more").is_err() {
                return count;
            }
            count += 1;
        }
    }
}

#[test]
fn vectors_too() {
    let arena = Arena::options().max_size(4 << 20).in_memory().unwrap();
    let lists = arena.root::<Lists>("lists").unwrap();
    let first = fill_lists(&lists);
    for round in 0..5 {
        match round {
            0 => lists.lock().unwrap().clear(),
            1 => *lists.lock().unwrap() = Vec::new(),
            2 => drop(std::mem::take(&mut *lists.lock().unwrap())),
            3 => lists.lock().unwrap().truncate(0),
            _ => {
                let mut lists = lists.lock().unwrap();
                let taken = std::mem::take(&mut *lists);
                drop(lists);
                // Outside of its section, on the stack: without a lock.
                drop(taken);
            }
        }
        assert!(arena.check().is_clean(), "round {round}: {}", arena.check());
        let again = fill_lists(&lists);
        assert!(
            again * 10 > first * 9,
            "round {round}: {first} fitted, then {again}"
        );
    }
}

/// What a death after the commit, before everything was freed, leaves: in an arena whose slabs
/// belong to the dead one, to a living one, to nobody.
#[test]
fn what_a_death_leaves_of_it_is_freed() {
    for remote in [false, true] {
        let arena = Arena::options().max_size(4 << 20).anonymous().unwrap();
        let world = arena.root::<World>("world").unwrap();
        let stage = arena.root::<AtomicU32>("stage").unwrap();
        let mut kills = 0;
        for round in 0..60u64 {
            let reached = u32::try_from(round).unwrap() + 1;
            if remote {
                fill(&world);
            }
            let mut child = Forked::run(|| {
                if !remote {
                    fill(&world);
                }
                reach(&stage, reached);
                let mut guard = world.lock().unwrap();
                guard.clear();
                drop(guard);
                0
            });
            await_stage(&stage, reached);
            std::thread::sleep(Duration::from_micros(round * 97 % 6000));
            kills += u32::from(!child.ended());
            child.kill();
            arena.reap().unwrap();
            let report = arena.check();
            assert!(report.is_clean(), "round {round}: {report}");
            world.lock().unwrap().clear();
            assert!(arena.check().is_clean(), "round {round}: {}", arena.check());
        }
        println!("{kills} killed in the midst");
    }
}
