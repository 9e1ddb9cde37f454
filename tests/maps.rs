//! The hash map against `std`'s; in a full arena; with keys that panic; killed.

mod common;

use common::Forked;
use proptest::prelude::*;
use sharena::{
    Arena, Error, Share,
    collections::{HashMap, String, Vec, hash_map::Entry},
    sync::Mutex,
};
use std::{
    cell::Cell,
    collections::BTreeMap,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
};

type Words = HashMap<String, Vec<u64>>;
type Model = BTreeMap<std::string::String, std::vec::Vec<u64>>;

#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u64),
    Remove(u8),
    RemoveAndMove(u8, u8),
    Push(u8, u64),
    OrInsert(u8),
    Modify(u8),
    EntryRemove(u8),
    GetMut(u8),
    Retain(u8),
    Drain,
    Clear,
    IterMut,
    Reserve(u8),
    Shrink,
    Forget(u8),
    Commit,
    NewGuard,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u8..60;
    prop_oneof![
        6 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::Insert(k, v)),
        4 => key.clone().prop_map(Op::Remove),
        2 => (key.clone(), key.clone()).prop_map(|(a, b)| Op::RemoveAndMove(a, b)),
        6 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::Push(k, v)),
        2 => key.clone().prop_map(Op::OrInsert),
        2 => key.clone().prop_map(Op::Modify),
        2 => key.clone().prop_map(Op::EntryRemove),
        2 => key.clone().prop_map(Op::GetMut),
        1 => key.clone().prop_map(Op::Retain),
        1 => Just(Op::Drain),
        1 => Just(Op::Clear),
        1 => Just(Op::IterMut),
        1 => any::<u8>().prop_map(Op::Reserve),
        1 => Just(Op::Shrink),
        1 => key.prop_map(Op::Forget),
        1 => Just(Op::Commit),
        2 => Just(Op::NewGuard),
    ]
}

fn name(n: u8) -> std::string::String {
    format!("key {n} {}", "x".repeat(n as usize % 20))
}

fn play(op: &Op, map: &mut Words, model: &mut Model) -> sharena::Result {
    match *op {
        Op::Insert(k, v) => {
            let was_there = map.insert(name(k).as_str(), &[v, v][..])?;
            assert_eq!(was_there, model.insert(name(k), std::vec![v, v]).is_some());
        }
        Op::Remove(k) => {
            let removed = map.remove(name(k).as_str()).map(|list| list.to_vec());
            assert_eq!(removed, model.remove(&name(k)));
        }
        Op::RemoveAndMove(from, to) => {
            let list = map.get_mut(name(from).as_str()).map(std::mem::take);
            if let Some(list) = list {
                map.remove(name(from).as_str());
                map.insert(name(to).as_str(), list)?;
                let list = model.remove(&name(from)).expect("it was there");
                model.insert(name(to), list);
            }
        }
        Op::Push(k, v) => {
            map.entry(name(k).as_str()).or_default()?.push(v)?;
            model.entry(name(k)).or_default().push(v);
        }
        Op::OrInsert(k) => {
            map.entry(name(k).as_str()).or_insert(&[1][..])?;
            model.entry(name(k)).or_insert_with(|| std::vec![1]);
        }
        Op::Modify(k) => {
            let change = |list: &mut Vec<u64>| list.clear();
            map.entry(name(k).as_str())
                .and_modify(change)
                .or_insert(&[2][..])?;
            model
                .entry(name(k))
                .and_modify(|list| list.clear())
                .or_insert_with(|| std::vec![2]);
        }
        Op::EntryRemove(k) => {
            if let Entry::Occupied(entry) = map.entry(name(k).as_str()) {
                drop(entry.remove());
            }
            model.remove(&name(k));
        }
        Op::GetMut(k) => {
            if let Some(list) = map.get_mut(name(k).as_str()) {
                list.reverse();
            }
            if let Some(list) = model.get_mut(&name(k)) {
                list.reverse();
            }
        }
        Op::Retain(n) => {
            let keep = |key: &str| key.len() % 3 != n as usize % 3;
            map.retain(|key, _| keep(key));
            model.retain(|key, _| keep(key));
        }
        Op::Drain => {
            let drained: Model = map
                .drain()
                .map(|removed| (removed.key().to_string(), removed.to_vec()))
                .collect();
            assert_eq!(drained, std::mem::take(model));
        }
        Op::Clear => {
            map.clear();
            model.clear();
        }
        Op::IterMut => {
            for (_, list) in map.iter_mut() {
                list.truncate(1);
            }
            model.values_mut().for_each(|list| list.truncate(1));
        }
        Op::Reserve(n) => map.reserve(n as usize)?,
        Op::Shrink => map.shrink_to_fit()?,
        Op::Forget(k) => std::mem::forget(map.remove(name(k).as_str())),
        Op::Commit | Op::NewGuard => {}
    }
    Ok(())
}

fn assert_same(map: &Words, model: &Model) {
    assert_eq!(map.len(), model.len());
    for (key, list) in model {
        assert_eq!(
            map.get(key.as_str()).map(|list| list.to_vec()).as_ref(),
            Some(list)
        );
    }
    let all: Model = map
        .iter()
        .map(|(key, list)| (key.to_string(), list.to_vec()))
        .collect();
    assert_eq!(&all, model);
    assert!(!map.contains_key("no such key"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn as_in_std(ops in proptest::collection::vec(op(), 1..150)) {
        let arena = Arena::options().max_size(8 << 20).in_memory().unwrap();
        let root = arena.root::<Mutex<Words>>("map").unwrap();
        let mut model = Model::new();
        let mut guard = root.lock().unwrap();
        for op in &ops {
            match op {
                Op::Commit => guard.commit().unwrap(),
                Op::NewGuard => {
                    drop(guard);
                    guard = root.lock().unwrap();
                }
                op => play(op, &mut guard, &mut model).unwrap(),
            }
            assert_same(&guard, &model);
        }
        drop(guard);
        let report = arena.check();
        prop_assert!(report.is_clean(), "{}", report);
    }

    #[test]
    fn a_death_undoes_it(
        before in proptest::collection::vec(op(), 1..60),
        after in proptest::collection::vec(op(), 1..60),
    ) {
        let arena = Arena::options().max_size(8 << 20).in_memory().unwrap();
        let root = arena.root::<Mutex<Words>>("map").unwrap();
        let mut model = Model::new();
        let mut guard = root.lock().unwrap();
        for op in &before {
            play(op, &mut guard, &mut model).unwrap();
        }
        guard.commit().unwrap();
        let mut later = model.clone();
        for op in &after {
            play(op, &mut guard, &mut later).unwrap();
        }
        let image = arena.image();
        drop(guard);
        drop((root, arena));
        let arena = Arena::from_image(&image).unwrap();
        let root = arena.find::<Mutex<Words>>("map").unwrap();
        assert_same(&root.lock().unwrap(), &model);
        let report = arena.check();
        prop_assert!(report.is_clean(), "{}", report);
    }
}

#[test]
fn a_million_numbers() {
    let arena = Arena::options().max_size(1 << 28).anonymous().unwrap();
    let root = arena.root::<Mutex<HashMap<u64, u64>>>("map").unwrap();
    let mut map = root.lock().unwrap();
    // Sequential keys, and such that differ in their upper bits only.
    for shift in [0, 40] {
        for n in 0..200_000u64 {
            assert!(!map.insert(n << shift, n).unwrap() || n == 0);
        }
        for n in 0..200_000u64 {
            assert_eq!(map.get(&(n << shift)), Some(&n));
        }
    }
    for n in 0..200_000u64 {
        assert_eq!(map.remove(&n).map(|value| *value), Some(n));
    }
    assert_eq!(map.len(), 199_999);
}

#[test]
fn a_full_arena_leaves_it_as_it_was() {
    let arena = Arena::options()
        .max_size(1 << 18)
        .slots(4)
        .in_memory()
        .unwrap();
    let root = arena.root::<Mutex<Words>>("map").unwrap();
    let mut map = root.lock().unwrap();
    let mut model = Model::new();
    let error = loop {
        let key = format!("the key of number {}", model.len());
        match map.insert(key.as_str(), &[7; 20][..]) {
            Ok(_) => {
                model.insert(key, std::vec![7; 20]);
            }
            Err(error) => break error,
        }
        if model.len().is_multiple_of(50) {
            map.commit().unwrap();
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    assert!(model.len() > 100, "{}", model.len());
    assert_same(&map, &model);
    map.commit().unwrap();
    map.remove("the key of number 0");
    map.remove("the key of number 1");
    map.commit().unwrap();
    map.insert("the key of number 0", &[7; 20][..]).unwrap();
    drop(map);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

thread_local! {
    /// How many more times a key may be hashed or compared.
    static PATIENCE: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn lose_patience() {
    let left = PATIENCE.get();
    if left == 0 {
        panic!("on purpose");
    }
    PATIENCE.set(left.saturating_sub(1));
}

#[derive(Share, Clone, Copy)]
#[repr(C)]
struct Touchy(u64);

impl Hash for Touchy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        lose_patience();
        // Only few different hashes, so that keys are compared.
        (self.0 % 4).hash(state);
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        lose_patience();
        self.0 == other.0
    }
}

impl Eq for Touchy {}

#[test]
fn keys_that_panic_leave_it_whole() {
    let arena = Arena::options().max_size(4 << 20).in_memory().unwrap();
    let root = arena
        .root::<Mutex<HashMap<Touchy, Vec<u64>>>>("map")
        .unwrap();
    let mut map = root.lock().unwrap();
    let mut model = BTreeMap::new();
    for round in 0..400u64 {
        let key = round * 7 % 60;
        PATIENCE.set((round % 23) as u32);
        let done = catch_unwind(AssertUnwindSafe(|| match round % 4 {
            3 => drop(map.remove(&Touchy(key))),
            _ => drop(map.insert(Touchy(key), &[key][..]).unwrap()),
        }));
        PATIENCE.set(u32::MAX);
        if done.is_ok() {
            match round % 4 {
                3 => drop(model.remove(&key)),
                _ => drop(model.insert(key, std::vec![key])),
            }
        }
        let found: BTreeMap<u64, std::vec::Vec<u64>> = map
            .iter()
            .map(|(key, list)| (key.0, list.to_vec()))
            .collect();
        assert_eq!(found, model);
    }
    drop(map);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn on_the_stack_and_in_other_arenas() {
    let (one, two) = (Arena::in_memory().unwrap(), Arena::in_memory().unwrap());
    let a = one.root::<Mutex<Words>>("map").unwrap();
    let b = two.root::<Mutex<Words>>("map").unwrap();
    a.lock().unwrap().insert("key", &[1][..]).unwrap();
    let mut taken = std::mem::take(&mut *a.lock().unwrap());
    assert_eq!((taken.len(), taken.is_empty()), (1, false));
    let _ = format!("{taken:?}");
    assert!(catch_unwind(AssertUnwindSafe(|| taken.get("key").is_some())).is_err());
    assert!(matches!(
        taken.insert("x", &[1][..]),
        Err(Error::NotInArena)
    ));
    {
        let mut guard = b.lock().unwrap();
        std::mem::swap(&mut *guard, &mut taken);
        assert!(matches!(
            guard.insert("x", &[1][..]),
            Err(Error::OtherArena)
        ));
        assert!(catch_unwind(AssertUnwindSafe(|| guard.get("key").is_some())).is_err());
        std::mem::swap(&mut *guard, &mut taken);
    }
    *a.lock().unwrap() = taken;
    assert_eq!(a.lock().unwrap()["key"][0], 1);
    let dropped = std::mem::take(&mut *a.lock().unwrap());
    drop(dropped);
    assert!(one.check().is_clean() && two.check().is_clean());
    let empty = HashMap::<u64, u64>::new();
    assert!(empty.get(&1).is_none() && empty.iter().next().is_none());
}

#[test]
fn values_move_between_maps_as_one_unit() {
    let arena = Arena::options().max_size(4 << 20).anonymous().unwrap();
    let from = arena.root::<Mutex<Words>>("from").unwrap();
    let to = arena.root::<Mutex<Words>>("to").unwrap();
    from.lock().unwrap().insert("key", &[1, 2, 3][..]).unwrap();
    let move_it = || -> sharena::Result {
        arena.section(|| {
            let (mut from, mut to) = (from.lock()?, to.lock()?);
            to.insert("key", from.remove("key").ok_or("nothing there")?)?;
            Ok(())
        })
    };
    Forked::run(|| {
        let _ = arena.section(|| {
            let (mut from, mut to) = (from.lock()?, to.lock()?);
            to.insert("key", from.remove("key").ok_or("nothing there")?)?;
            // SAFETY: kills this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            Ok(())
        });
        0
    })
    .wait();
    assert_eq!(from.lock().unwrap().len(), 1);
    assert!(to.lock().unwrap().is_empty());
    move_it().unwrap();
    assert!(from.lock().unwrap().is_empty());
    assert_eq!(to.lock().unwrap()["key"].as_slice(), [1, 2, 3]);
    assert!(move_it().is_err());
    arena.reap().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
}
