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

/// The log is full of what was recorded, more than a quarter of the arena, and cannot grow: what is dropped is noted nevertheless.
#[test]
fn what_is_dropped_when_the_log_is_full_is_noted() {
    let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
    let lists = arena.root::<Mutex<Both>>("lists").unwrap();
    for index in 0..20 {
        let mut lists = lists.lock().unwrap();
        lists.numbers[index].resize(2200, 7).unwrap();
        lists.words[index]
            .assign("a word in its own block")
            .unwrap();
        let named = lists.named.entry(7).or_default().unwrap();
        for _ in 0..10 {
            named.push_from("another in its own block").unwrap();
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

#[derive(Share, Default)]
#[repr(C)]
struct Small {
    /// Each owns a block of 16 bytes.
    blocks: Vec<Vec<u8>>,
    spare: Spare,
}

/// What fills a log, together.
type Spare = Vec<Vec<u64>>;

/// Makes so much that a log of it finds no room in a full arena, nor beyond its maximum.
fn make_spare(spare: &mut Spare, maximum: usize) {
    const NUMBERS: usize = 1000;
    let count = maximum * 3 / 8 / (NUMBERS * 8);
    while spare.len() < count {
        spare.push(Vec::new()).unwrap();
        spare.last_mut().unwrap().resize(NUMBERS, 0).unwrap();
    }
}

/// Records of it until it is refused.
fn fill_log(spare: &mut [Vec<u64>]) {
    let refused = spare
        .iter_mut()
        .find_map(|spare| spare.try_as_mut_slice().err());
    assert!(matches!(refused, Some(Error::Full { .. })), "{refused:?}");
}

/// Makes so many small blocks, each with an owner of its own.
fn make_small(small: &mut Small, count: usize) {
    small.blocks.clear();
    small.blocks.reserve_exact(count).unwrap();
    small.blocks.resize_with(count, Vec::new).unwrap();
    for index in 0..count {
        small.blocks[index].reserve_exact(16).unwrap();
    }
}

/// Records all of them, and then others, until both the arena and the log are full.
fn record_all<'a>(arena: &Arena, small: &'a mut Small) -> &'a mut [Vec<u8>] {
    let blocks = small.blocks.as_mut_slice();
    let spare = small.spare.as_mut_slice();
    fill_up(arena);
    fill_log(spare);
    blocks
}

/// Whether pages are larger than slabs: then none goes back to the system.
fn pages_are_large() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) > 4096 }
}

fn empty_ballast(arena: &Arena) {
    let ballast = arena.root::<Mutex<Vec<Vec<u8>>>>("ballast").unwrap();
    ballast.lock().unwrap().clear();
}

/// Each drop takes a word of the log, which goes on beyond the maximum.
#[test]
fn however_much_is_dropped_one_by_one_is_noted() {
    for (maximum, count) in [(2 << 20, 4_000), (16 << 20, 60_000)] {
        let arena = Arena::options().max_size(maximum).anonymous().unwrap();
        let small = arena.root::<Mutex<Small>>("small").unwrap();
        make_spare(&mut small.lock().unwrap().spare, maximum as usize);
        for round in 0..3 {
            make_small(&mut small.lock().unwrap(), count);
            let mut guard = small.lock().unwrap();
            let blocks = record_all(&arena, &mut guard);
            let (first, second) = blocks.split_at_mut(count / 2);
            first.iter_mut().for_each(|block| *block = Vec::new());
            // Nothing else gets of what the log has there.
            let refused = second[0].reserve_exact(1000);
            assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
            second.iter_mut().for_each(|block| *block = Vec::new());
            // What no root reaches any more, the journal names.
            let report = arena.check();
            assert!(report.is_clean(), "round {round}: {report}");
            let stats = arena.stats();
            assert!(stats.committed > maximum, "{stats:?}");
            drop(guard);
            let report = arena.check();
            assert!(report.is_clean(), "round {round}: {report}");
            let stats = arena.stats();
            assert!(stats.committed <= maximum || pages_are_large(), "{stats:?}");
            let sum = stats.metadata + stats.used + stats.cached + stats.free;
            assert_eq!(sum, stats.committed);
            empty_ballast(&arena);
        }
    }
}

/// What returns no `Result` does its work in a full arena, too, though each step is recorded.
#[test]
fn it_can_be_emptied_one_by_one_in_one_section() {
    const COUNT: usize = 2_000;
    let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
    let lists = arena.root::<Mutex<Vec<Vec<u8>>>>("lists").unwrap();
    let named = arena.root::<Mutex<HashMap<u64, String>>>("named").unwrap();
    for number in 0..COUNT {
        let mut named = named.lock().unwrap();
        named
            .insert(number as u64, "a name in its own block")
            .unwrap();
        drop(named);
        let mut lists = lists.lock().unwrap();
        lists.push(Vec::new()).unwrap();
        lists[number].reserve_exact(16).unwrap();
    }
    fill_up(&arena);
    type Work = fn(&mut Vec<Vec<u8>>, &mut HashMap<u64, String>);
    let work: [Work; 2] = [
        |lists, named| {
            while lists.len() > COUNT / 2 {
                lists.pop();
            }
            (0..COUNT as u64 / 2).for_each(|key| drop(named.remove(&key)));
        },
        |lists, named| {
            lists.retain(|_| false);
            named.retain(|_, _| false);
        },
    ];
    for (work, left) in work.into_iter().zip([COUNT / 2, 0]) {
        let done = arena.section(|| {
            work(&mut *lists.lock()?, &mut *named.lock()?);
            Ok(())
        });
        done.unwrap();
        assert_eq!(lists.lock().unwrap().len(), left);
        assert_eq!(named.lock().unwrap().len(), left);
        assert!(arena.check().is_clean(), "{}", arena.check());
    }
}

/// The same, killed in the midst of it.
#[test]
fn a_death_amid_many_small_drops_leaves_nothing() {
    const COUNT: usize = 6_000;
    const MAXIMUM: u64 = 2 << 20;
    let arena = Arena::options().max_size(MAXIMUM).anonymous().unwrap();
    let small = arena.root::<Mutex<Small>>("small").unwrap();
    make_spare(&mut small.lock().unwrap().spare, MAXIMUM as usize);
    let stage = arena.root::<AtomicU32>("stage").unwrap();
    let mut kills = 0;
    for round in 0..40u64 {
        let reached = u32::try_from(round).unwrap() + 1;
        make_small(&mut small.lock().unwrap(), COUNT);
        let mut child = Forked::run(|| {
            let mut guard = small.lock().unwrap();
            let blocks = record_all(&arena, &mut guard);
            blocks.iter_mut().for_each(|block| *block = Vec::new());
            reach(&stage, reached);
            drop(guard);
            0
        });
        await_stage(&stage, reached);
        std::thread::sleep(Duration::from_micros(round * 17 % 400));
        kills += u32::from(!child.ended());
        child.kill();
        arena.reap().unwrap();
        let owns = |block: &&Vec<u8>| block.capacity() != 0;
        let left = small.lock().unwrap().blocks.iter().filter(owns).count();
        assert!(left == 0 || left == COUNT, "{left} of {COUNT}");
        let report = arena.check();
        assert!(report.is_clean(), "round {round}: {report}");
        // What its log had beyond the maximum went back.
        let stats = arena.stats();
        assert!(stats.committed <= MAXIMUM || pages_are_large(), "{stats:?}");
        small.lock().unwrap().blocks.clear();
        empty_ballast(&arena);
    }
    println!("{kills} killed in the midst");
}

/// The logs of several threads beyond the maximum do not get into each other's way.
#[test]
fn several_at_once_empty_it() {
    const COUNT: usize = 4_000;
    const MAXIMUM: u64 = 4 << 20;
    let arena = Arena::options().max_size(MAXIMUM).anonymous().unwrap();
    let names = ["first", "second", "third"];
    for round in 0..5 {
        let barrier = std::sync::Barrier::new(names.len());
        let work = |name| {
            let blocks = arena.root::<Mutex<Vec<Vec<u8>>>>(name).unwrap();
            let mut guard = blocks.lock().unwrap();
            guard.reserve_exact(COUNT).unwrap();
            for index in 0..COUNT {
                guard.push(Vec::new()).unwrap();
                guard[index].reserve_exact(16).unwrap();
            }
            drop(guard);
            if barrier.wait().is_leader() {
                fill_up(&arena);
            }
            barrier.wait();
            let mut guard = blocks.lock().unwrap();
            if round % 2 == 0 {
                while guard.len() > COUNT / 2 {
                    guard.pop();
                }
            }
            guard
                .as_mut_slice()
                .iter_mut()
                .for_each(|block| *block = Vec::new());
            barrier.wait();
            let report = arena.check();
            assert!(report.is_clean(), "round {round}: {report}");
            barrier.wait();
            guard.clear();
        };
        std::thread::scope(|scope| {
            for name in names {
                scope.spawn(move || work(name));
            }
        });
        let report = arena.check();
        assert!(report.is_clean(), "round {round}: {report}");
        let stats = arena.stats();
        assert!(stats.committed <= MAXIMUM || pages_are_large(), "{stats:?}");
        empty_ballast(&arena);
    }
}

/// A free by hand that cannot be noted is refused, and can be made up for.
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
    let spare = arena.root::<Mutex<Spare>>("spare").unwrap();
    make_spare(&mut spare.lock().unwrap(), 1 << 20);
    fill_up(&arena);
    let all: std::vec::Vec<_> = root.lock().unwrap().iter().flatten().copied().collect();
    // SAFETY: nobody uses the blocks, and the pointers to them are not followed any more.
    let free = |block: &RelPtr<u64>| unsafe { arena.dealloc(*block) };
    let mut freed = 0;
    let refused = arena.section(|| {
        let mut spare = spare.lock()?;
        fill_log(spare.as_mut_slice());
        let refused = all.iter().find_map(|block| {
            let refused = free(block).err();
            freed += usize::from(refused.is_none());
            refused
        });
        Ok(refused)
    });
    assert!(matches!(refused, Ok(Some(Error::Full { .. }))));
    assert!(freed < 10, "{freed} without room");
    for block in &all[freed..] {
        free(block).unwrap();
    }
    assert!(arena.check().is_clean(), "{}", arena.check());
}
