//! Transactions: kept whole on success; undone on errors, panics and deaths; and no way around that.

mod common;

use common::{Forked, await_stage, reach};
use proptest::prelude::*;
use sharena::{
    Arena, Error, RelPtr, Result, Root, Share, Transaction,
    collections::{Box, HashMap, String, Vec},
    sync::{Mutex, Semaphore},
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::AtomicU32,
    thread,
    time::Duration,
};

#[derive(Share, Default)]
#[repr(C)]
struct World {
    lists: Vec<Vec<u64>>,
    names: HashMap<String, Vec<String>>,
    boxed: Box<u64>,
    sum: u64,
}

type Locked = Mutex<World>;

fn arena() -> (Arena, Root<Locked>) {
    let arena = Arena::options().max_size(64 << 20).in_memory().unwrap();
    let world = arena.root::<Locked>("world").unwrap();
    (arena, world)
}

/// All of a world, as `std` would have it.
#[derive(Debug, PartialEq, Clone, Default)]
struct Model {
    lists: std::vec::Vec<std::vec::Vec<u64>>,
    names: BTreeMap<std::string::String, std::vec::Vec<std::string::String>>,
    boxed: Option<u64>,
    sum: u64,
}

fn observe(world: &World) -> Model {
    let texts = |list: &Vec<String>| list.iter().map(|text| text.to_string()).collect();
    Model {
        lists: world.lists.iter().map(|list| list.to_vec()).collect(),
        names: world
            .names
            .iter()
            .map(|(name, list)| (name.to_string(), texts(list)))
            .collect(),
        boxed: world.boxed.get().copied(),
        sum: world.sum,
    }
}

fn check(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

fn no() -> Error {
    Error::other("no")
}

fn fill(world: &mut World) -> Result {
    for list in 0..4u64 {
        world.lists.push(Vec::new())?;
        for value in 0..20 {
            world.lists[list as usize].push(value)?;
        }
        let names = world
            .names
            .entry(format!("list {list}").as_str())
            .or_default()?;
        names.push_from("a name that is longer than a few bytes")?;
    }
    world.sum = 80;
    Ok(())
}

#[test]
fn an_error_undoes_everything() {
    let (arena, world) = arena();
    arena
        .transaction(|tx| fill(&mut *tx.lock(&world)?))
        .unwrap();
    let before = observe(&world.lock().unwrap());
    let used = arena.stats().used;
    for _ in 0..50 {
        let refused = arena.transaction(|tx| {
            let mut world = tx.lock(&world)?;
            world.sum += 1;
            let list = world.lists.remove(0).take();
            world.lists.push(list)?;
            world.lists.swap(0, 2);
            let taken = std::mem::take(&mut world.lists[1]);
            drop(taken);
            world.lists[0].try_extend(0..1000)?;
            world.names.remove("list 1");
            world.names.clear();
            fill(&mut world)?;
            world.lists.sort_by(|a, b| b.len().cmp(&a.len()));
            world.names.insert("new", Vec::new())?;
            world.lists.clear();
            Err::<(), _>(no())
        });
        assert!(matches!(refused, Err(Error::Other { .. })), "{refused:?}");
        assert_eq!(observe(&world.lock().unwrap()), before);
        assert_eq!(arena.stats().used, used);
        check(&arena);
    }
}

#[test]
fn a_panic_undoes_everything_and_poisons_nothing() {
    let (arena, world) = arena();
    arena
        .transaction(|tx| fill(&mut *tx.lock(&world)?))
        .unwrap();
    let before = observe(&world.lock().unwrap());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        arena.transaction(|tx| {
            let mut world = tx.lock(&world)?;
            world.lists.clear();
            assert!(world.sum == 0, "on purpose");
            Ok(())
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(observe(&world.lock().unwrap()), before);
    check(&arena);
}

#[test]
fn what_succeeds_is_kept_and_locks_are_free_behind() {
    let (arena, world) = arena();
    let other = arena.root::<Mutex<u64>>("other").unwrap();
    let found = arena
        .transaction(|tx| {
            *tx.lock(&other)? += 5;
            let mut world = tx.lock(&world)?;
            world.sum = 7;
            Ok(world.sum)
        })
        .unwrap();
    assert_eq!(found, 7);
    let free = |lock: &Root<Mutex<u64>>| {
        thread::scope(|s| s.spawn(|| lock.try_lock().is_ok()).join().unwrap())
    };
    assert!(free(&other));
    assert_eq!(*other.lock().unwrap(), 5);
    // Also those of one that was undone, and whose guards were forgotten.
    let undone = arena.transaction(|tx| {
        std::mem::forget(tx.lock(&other)?);
        Err::<(), _>(no())
    });
    assert!(undone.is_err() && free(&other));
    arena
        .transaction(|tx| {
            std::mem::forget(tx.lock(&other)?);
            Ok(())
        })
        .unwrap();
    assert!(free(&other));
    assert_eq!(*other.lock().unwrap(), 5);
}

/// Values move between containers under several locks, and back by undoing.
#[test]
fn moves_between_roots_are_undone() {
    let arena = Arena::in_memory().unwrap();
    let [a, b] = ["a", "b"].map(|name| {
        arena
            .root::<Mutex<HashMap<u64, Vec<String>>>>(name)
            .unwrap()
    });
    let mut guard = a.lock().unwrap();
    guard
        .entry(1)
        .or_default()
        .unwrap()
        .push_from("something of some length")
        .unwrap();
    drop(guard);
    for keep in [false, true] {
        let moved = arena.transaction(|tx| {
            let (mut a, mut b) = (tx.lock(&a)?, tx.lock(&b)?);
            b.insert(2, a.remove(&1).ok_or_else(no)?)?;
            let list = std::mem::take(b.get_mut(&2).ok_or_else(no)?);
            *b.entry(3).or_default()? = list;
            b.remove(&2);
            if keep { Ok(()) } else { Err(no()) }
        });
        assert_eq!(moved.is_ok(), keep);
        assert_eq!(a.lock().unwrap().len(), usize::from(!keep));
        let b = b.lock().unwrap();
        assert_eq!(b.get(&3).map_or(0, |list| list.len()), usize::from(keep));
        drop(b);
        check(&arena);
    }
}

#[test]
fn raw_blocks_are_undone() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Option<RelPtr<u64>>>>("raw").unwrap();
    let used = arena.stats().used;
    for _ in 0..100 {
        let undone = arena.transaction(|tx| {
            let mut guard = tx.lock(&root)?;
            let large = std::alloc::Layout::from_size_align(300_000, 8).map_err(Error::other)?;
            arena.alloc(large)?.into_raw()?;
            arena.alloc_value(5u64)?.link(&mut guard)?;
            Err::<(), _>(no())
        });
        assert!(undone.is_err());
        assert!(root.lock().unwrap().is_none());
        assert_eq!(arena.stats().used, used);
    }
    check(&arena);
}

#[test]
fn locks_are_taken_through_it_only() {
    let (arena, world) = arena();
    let other = arena.root::<Mutex<u64>>("other").unwrap();
    let semaphore = arena.root::<Semaphore>("semaphore").unwrap();
    arena
        .transaction(|tx| {
            assert!(matches!(other.lock(), Err(Error::InTransaction)));
            let guard = tx.lock(&other)?;
            assert!(matches!(world.lock(), Err(Error::InTransaction)));
            assert!(matches!(
                other.lock(),
                Err(Error::WouldDeadlock | Error::InTransaction)
            ));
            assert!(matches!(tx.lock(&other), Err(Error::WouldDeadlock)));
            assert!(matches!(
                arena.transaction(|_| Ok(())),
                Err(Error::InTransaction)
            ));
            assert!(matches!(
                arena.root::<Mutex<u64>>("new"),
                Err(Error::InSection)
            ));
            assert!(semaphore.try_acquire().is_err());
            drop(guard);
            // Retained: it can be taken again.
            *tx.lock(&other)? += 1;
            tx.try_lock_for(&world, Duration::from_secs(1))?.sum = 3;
            Ok(())
        })
        .unwrap();
    assert_eq!(*other.lock().unwrap(), 1);
    let _guard = other.lock().unwrap();
    assert!(matches!(
        arena.transaction(|_| Ok(())),
        Err(Error::InSection)
    ));
    let nested = arena.section(|| arena.transaction(|_| Ok(())));
    assert!(nested.is_err());
}

#[test]
fn two_arenas_are_no_transaction() {
    let (arena, _) = arena();
    let elsewhere = Arena::in_memory().unwrap();
    let lock = elsewhere.root::<Mutex<u64>>("lock").unwrap();
    let mixed = arena.transaction(|tx| tx.lock(&lock).map(|guard| *guard));
    assert!(matches!(mixed, Err(Error::OtherArena)), "{mixed:?}");
    assert_eq!(*lock.lock().unwrap(), 0);
}

#[test]
fn errors_of_a_type_of_its_own() {
    #[derive(Debug, PartialEq)]
    enum Mine {
        Refused(u32),
        Sharena,
    }
    impl From<Error> for Mine {
        fn from(_: Error) -> Self {
            Mine::Sharena
        }
    }
    let (arena, world) = arena();
    let refused = arena.try_transaction(|tx| {
        tx.lock(&world)?.sum = 9;
        Err::<(), _>(Mine::Refused(7))
    });
    assert_eq!(refused, Err(Mine::Refused(7)));
    assert_eq!(world.lock().unwrap().sum, 0);
}

thread_local! {
    static STASH: RefCell<std::vec::Vec<Vec<u64>>> = const { RefCell::new(std::vec::Vec::new()) };
}

/// A child that hides a value and must be aborted when that is to be undone.
fn hides(work: impl FnOnce(&Transaction, &mut World) -> Result + Send) {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let world = arena
        .root_with::<Locked>("world", |world| fill(world.get_mut()?))
        .unwrap();
    let before = observe(&world.lock().unwrap());
    let mut child = Forked::run(|| {
        // SAFETY: closes the child's own standard error, where it will say why it aborts.
        unsafe { libc::close(2) };
        let _ = arena.transaction(|tx| {
            work(tx, &mut *tx.lock(&world)?)?;
            Err::<(), _>(no())
        });
        0
    });
    let status = child.wait();
    assert_eq!(status & 0x7f, libc::SIGABRT, "{status:#x}");
    assert_eq!(observe(&world.lock().unwrap()), before);
    check(&arena);
}

fn stash(list: Vec<u64>) {
    STASH.with_borrow_mut(|stash| stash.push(list));
}

#[test]
fn a_hidden_value_aborts() {
    // Taken from where it was.
    hides(|_, world| {
        stash(std::mem::take(&mut world.lists[1]));
        Ok(())
    });
    // Popped: its bits are still behind the end.
    hides(|_, world| {
        stash(world.lists.pop().unwrap().take());
        Ok(())
    });
    // From a new buffer, into which the old one was moved.
    hides(|_, world| {
        world.lists.reserve(1000)?;
        stash(std::mem::take(&mut world.lists[0]));
        Ok(())
    });
    // New in this transaction.
    hides(|_, world| {
        world.lists.push(Vec::new())?;
        world.lists[4].try_extend(0..100)?;
        stash(std::mem::take(&mut world.lists[4]));
        Ok(())
    });
    // The whole list of lists.
    hides(|_, world| {
        let mut lists = std::mem::take(&mut world.lists);
        std::mem::swap(&mut lists, &mut world.lists);
        let all = std::mem::take(&mut world.lists);
        // Not put back, but leaked.
        std::mem::forget(all);
        Ok(())
    });
}

/// The same, but put back or dropped in time.
#[test]
fn a_value_that_comes_back_does_no_harm() {
    let (arena, world) = arena();
    arena
        .transaction(|tx| fill(&mut *tx.lock(&world)?))
        .unwrap();
    let before = observe(&world.lock().unwrap());
    for put_back in [true, false] {
        let undone = arena.transaction(|tx| {
            let mut world = tx.lock(&world)?;
            stash(std::mem::take(&mut world.lists[1]));
            let list = STASH.with_borrow_mut(|stash| stash.pop());
            if put_back {
                world.lists[0] = list.ok_or_else(no)?;
            }
            Err::<(), _>(no())
        });
        assert!(undone.is_err());
        assert_eq!(observe(&world.lock().unwrap()), before);
        check(&arena);
    }
}

/// Locks that lie in what another lock protects.
#[test]
fn nested_locks() {
    let arena = Arena::in_memory().unwrap();
    let outer = arena.root::<Mutex<Vec<Mutex<Vec<u64>>>>>("outer").unwrap();
    outer.lock().unwrap().push(Mutex::new(Vec::new())).unwrap();
    for keep in [false, true] {
        let done = arena.transaction(|tx| {
            let mut outer = tx.lock(&outer)?;
            tx.lock(&outer[0])?.try_extend(0..100)?;
            outer.push(Mutex::new(Vec::new()))?;
            outer.swap(0, 1);
            outer[1].get_mut()?.push(5)?;
            if keep { Ok(()) } else { Err(no()) }
        });
        assert_eq!(done.is_ok(), keep);
        let lens = arena
            .section(|| {
                let outer = outer.lock()?;
                outer
                    .iter()
                    .map(|inner| Ok(inner.lock()?.len()))
                    .collect::<Result<std::vec::Vec<_>>>()
            })
            .unwrap();
        assert_eq!(lens, if keep { vec![0, 101] } else { vec![0] });
        check(&arena);
    }
}

#[test]
fn a_killed_one_never_was() {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let stage = arena.root::<AtomicU32>("stage").unwrap();
    let world = arena
        .root_with::<Locked>("world", |world| fill(world.get_mut()?))
        .unwrap();
    let before = observe(&world.lock().unwrap());
    let mut child = Forked::run(|| {
        let _ = arena.transaction(|tx| {
            let mut world = tx.lock(&world)?;
            world.lists.clear();
            fill(&mut world)?;
            reach(&stage, 1);
            thread::sleep(Duration::from_secs(60));
            Ok(())
        });
        0
    });
    await_stage(&stage, 1);
    child.kill();
    assert_eq!(observe(&world.lock().unwrap()), before);
    check(&arena);
}

/// A transaction whose log outgrows the slot and whose arena is full ends in an error, whole.
#[test]
fn a_full_arena() {
    let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
    let world = arena
        .root_with::<Locked>("world", |world| fill(world.get_mut()?))
        .unwrap();
    let before = observe(&world.lock().unwrap());
    for _ in 0..20 {
        let full = arena.transaction(|tx| {
            let mut world = tx.lock(&world)?;
            loop {
                world.lists.push(Vec::new())?;
                let last = world.lists.len() - 1;
                world.lists[last].try_extend(0..50)?;
            }
            #[allow(unreachable_code)]
            Ok(())
        });
        assert!(
            matches!(full, Err(Error::Full { .. } | Error::NoSpace { .. })),
            "{full:?}"
        );
        assert_eq!(observe(&world.lock().unwrap()), before);
        check(&arena);
    }
    arena
        .transaction(|tx| fill(&mut *tx.lock(&world)?))
        .unwrap();
}

#[derive(Debug, Clone)]
enum Op {
    Push(u64),
    PushList,
    Pop,
    Remove(usize),
    Swap(usize, usize),
    TakeAndPut(usize, usize),
    Insert(u8),
    RemoveName(u8),
    Grow(usize, u64),
    Box(u64),
    NoBox,
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        any::<u64>().prop_map(Op::Push),
        Just(Op::PushList),
        Just(Op::Pop),
        any::<usize>().prop_map(Op::Remove),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Op::Swap(a, b)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Op::TakeAndPut(a, b)),
        (0..20u8).prop_map(Op::Insert),
        (0..20u8).prop_map(Op::RemoveName),
        (any::<usize>(), 0..400u64).prop_map(|(at, by)| Op::Grow(at, by)),
        any::<u64>().prop_map(Op::Box),
        Just(Op::NoBox),
        Just(Op::Clear),
    ]
}

fn play(op: &Op, world: &mut World) -> Result {
    let len = world.lists.len();
    match *op {
        Op::PushList => world.lists.push(Vec::new())?,
        Op::Push(value) if len > 0 => world.lists[len - 1].push(value)?,
        Op::Pop => drop(world.lists.pop()),
        Op::Remove(at) if len > 0 => drop(world.lists.remove(at % len)),
        Op::Swap(a, b) if len > 0 => world.lists.swap(a % len, b % len),
        Op::TakeAndPut(a, b) if len > 0 => {
            let list = std::mem::take(&mut world.lists[a % len]);
            world.lists[b % len] = list;
        }
        Op::Grow(at, by) if len > 0 => world.lists[at % len].try_extend(0..by)?,
        Op::Insert(key) => {
            let list = world
                .names
                .entry(format!("key {key}").as_str())
                .or_default()?;
            list.push_from("text".repeat(key.into()).as_str())?;
        }
        Op::RemoveName(key) => drop(world.names.remove(format!("key {key}").as_str())),
        Op::Box(value) => drop(world.boxed.set(value)?),
        Op::NoBox => world.boxed.clear(),
        Op::Clear => world.lists.clear(),
        _ => {}
    }
    world.sum += 1;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Rounds of operations, each kept or undone: what is there is what the kept ones did, and the
    /// memory is that of an arena in which the others never were.
    #[test]
    fn rounds_are_kept_or_undone(rounds in prop::collection::vec((prop::collection::vec(op(), 0..30), any::<bool>()), 1..12)) {
        let (arena, world) = arena();
        let (other, alone) = self::arena();
        for (ops, keep) in &rounds {
            let done = arena.transaction(|tx| {
                let mut world = tx.lock(&world)?;
                ops.iter().try_for_each(|op| play(op, &mut world))?;
                if *keep { Ok(()) } else { Err(no()) }
            });
            prop_assert_eq!(done.is_ok(), *keep);
            if *keep {
                let mut alone = alone.lock().unwrap();
                ops.iter().try_for_each(|op| play(op, &mut alone)).unwrap();
            }
            prop_assert_eq!(observe(&world.lock().unwrap()), observe(&alone.lock().unwrap()));
        }
        let (report, expected) = (arena.check(), other.check());
        prop_assert!(report.is_clean(), "{}", report);
        prop_assert_eq!(report.blocks(), expected.blocks());
    }
}

/// A small map of plain pairs is recorded whole as soon as an eighth of it was changed; what is changed
/// before and behind that comes back.
#[test]
fn small_maps_come_back_whole() {
    let arena = Arena::in_memory().unwrap();
    let map = arena.root::<Mutex<HashMap<u64, u64>>>("map").unwrap();
    for key in 0..1000 {
        map.lock().unwrap().insert(key, key).unwrap();
    }
    for changed in [3, 100, 200, 1000] {
        let undone: Result = arena.transaction(|tx| {
            let mut map = tx.lock(&map)?;
            for key in 0..changed {
                map.remove(&key);
                map.insert(key + 5000, 7)?;
                *map.get_mut(&(999 - key % 400)).unwrap_or(&mut 0) += 1;
            }
            Err("undo it".into())
        });
        assert!(undone.is_err());
        let map = map.lock().unwrap();
        assert_eq!(map.len(), 1000);
        assert!(
            (0..1000).all(|key| map.get(&key) == Some(&key)),
            "{changed}"
        );
    }
    assert!(arena.check().is_clean());
}
