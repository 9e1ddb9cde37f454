//! A full arena can be emptied.

mod common;

use common::{Forked, await_stage, reach};
use sharena::{
    Arena, Error, RelPtr, Share,
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

/// Fills the arena to its last block, in a thread of its own, whose log goes with it: it is short.
fn fill_up(arena: &Arena) {
    let fill = || {
        let ballast = arena.root::<Mutex<Vec<Vec<u8>>>>("ballast").unwrap();
        ballast.lock().unwrap().reserve_exact(3000).unwrap();
        for size in (4..12).rev().map(|shift| 1 << shift) {
            let another = || {
                let mut ballast = ballast.lock().unwrap();
                ballast.push(Vec::new())?;
                ballast.last_mut().unwrap().reserve_exact(size)
            };
            while another().is_ok() {}
        }
    };
    std::thread::scope(|scope| scope.spawn(fill).join().unwrap());
}

#[derive(Share, Default)]
#[repr(C)]
struct Both {
    numbers: [Vec<u64>; 20],
    words: [String; 20],
    named: HashMap<u64, Vec<String>>,
}

/// The log is full of what was recorded, and cannot grow: what is dropped is noted nevertheless.
#[test]
fn what_is_dropped_when_the_log_is_full_is_noted() {
    let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
    let lists = arena.root::<Mutex<Both>>("lists").unwrap();
    for index in 0..20 {
        let mut lists = lists.lock().unwrap();
        for number in 0..16 {
            lists.numbers[index].push(number).unwrap();
        }
        lists.words[index].assign("a word").unwrap();
        let named = lists.named.entry(7).or_default().unwrap();
        for _ in 0..10 {
            named.push_from("another").unwrap();
        }
    }
    fill_up(&arena);
    let mut guard = lists.lock().unwrap();
    let value = &mut *guard;
    let refused = value
        .numbers
        .iter_mut()
        .find_map(|numbers| numbers.try_as_mut_slice().err());
    assert!(matches!(refused, Some(Error::Full { .. })), "{refused:?}");
    value.words = Default::default();
    value.named = HashMap::new();
    // What no root reaches any more, the journal names.
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
    drop(guard);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

/// A free that cannot be noted is refused, and can be made up for.
#[test]
fn a_free_that_finds_no_room_is_refused() {
    const COUNT: usize = 500;
    let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
    let root = arena
        .root::<Mutex<Vec<Option<RelPtr<u64>>>>>("blocks")
        .unwrap();
    for number in 0..COUNT as u64 {
        let block = arena.alloc_value(number).unwrap();
        let mut blocks = root.lock().unwrap();
        blocks.push(None).unwrap();
        block.link(blocks.last_mut().unwrap()).unwrap();
    }
    fill_up(&arena);
    let all: std::vec::Vec<_> = root.lock().unwrap().iter().flatten().copied().collect();
    // SAFETY: nobody uses the blocks, and the pointers to them are not followed any more.
    let free = |block: &RelPtr<u64>| unsafe { arena.dealloc(*block) };
    let mut freed = 0;
    let refused = arena.section(|| {
        let refused = all.iter().find_map(|block| {
            let refused = free(block).err();
            freed += usize::from(refused.is_none());
            refused
        });
        Ok(refused)
    });
    assert!(matches!(refused, Ok(Some(Error::Full { .. }))));
    assert!((200..COUNT).contains(&freed));
    for block in &all[freed..] {
        free(block).unwrap();
    }
    assert!(arena.check().is_clean(), "{}", arena.check());
}
