//! The edges of the hash map: guards kept, forgotten and left behind; values that cannot be made;
//! locks in maps; maps in maps; keys and values without size, or with much alignment.

mod common;

use common::Forked;
use proptest::prelude::*;
use sharena::{
    Arena, Error, Result, Root, Share,
    collections::{HashMap, String, Vec, hash_map::Entry},
    share::Store,
    sync::Mutex,
};
use std::{
    collections::HashMap as StdMap,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

type Numbers = HashMap<u64, u64>;

/// An arena with one root, which is checked in the end.
struct World<T: Share + Sync + Default> {
    arena: Arena,
    root: Root<Mutex<T>>,
}

impl<T: Share + Sync + Default> World<T> {
    fn new() -> Self {
        Self::with_size(16 << 20)
    }

    fn with_size(size: u64) -> Self {
        let arena = Arena::options().max_size(size).in_memory().unwrap();
        let root = arena.root("map").unwrap();
        World { arena, root }
    }
}

impl<T: Share + Sync + Default> Drop for World<T> {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert!(self.arena.check().is_clean(), "{}", self.arena.check());
        }
    }
}

fn numbers(range: std::ops::Range<u64>) -> StdMap<u64, u64> {
    range.map(|n| (n, n * n)).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u64),
    Replace(u64, u64),
    Remove(u64),
    Add(u64),
    EntryInsert(u64, u64),
    Take(u64),
    RetainBelow(u64),
    DrainSome(usize),
    Double,
    Clear,
    ShrinkToFit,
    Reserve(usize),
    Commit,
    Unlock,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..200u64;
    prop_oneof![
        10 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::Insert(k, v)),
        3 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::Replace(k, v)),
        6 => key.clone().prop_map(Op::Remove),
        4 => key.clone().prop_map(Op::Add),
        2 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Op::EntryInsert(k, v)),
        2 => key.clone().prop_map(Op::Take),
        1 => key.prop_map(Op::RetainBelow),
        1 => (0..20usize).prop_map(Op::DrainSome),
        1 => Just(Op::Double),
        1 => Just(Op::Clear),
        1 => Just(Op::ShrinkToFit),
        1 => (0..300usize).prop_map(Op::Reserve),
        2 => Just(Op::Commit),
        2 => Just(Op::Unlock),
    ]
}

fn play(op: &Op, map: &mut Numbers, model: &mut StdMap<u64, u64>) {
    match *op {
        Op::Insert(k, v) => {
            assert_eq!(map.insert(k, v).unwrap(), model.insert(k, v).is_some());
        }
        Op::Replace(k, v) => assert_eq!(map.replace(k, v).unwrap(), model.insert(k, v)),
        Op::Remove(k) => assert_eq!(map.remove(&k).map(|v| *v), model.remove(&k)),
        Op::Add(k) => {
            let (a, b) = (
                map.entry(k).or_default().unwrap(),
                model.entry(k).or_default(),
            );
            (*a, *b) = (a.wrapping_add(k), b.wrapping_add(k));
        }
        Op::EntryInsert(k, v) => {
            match map.entry(k) {
                Entry::Occupied(mut entry) => entry.insert(v).unwrap(),
                Entry::Vacant(entry) => assert_eq!(*entry.insert(v).unwrap(), v),
            }
            model.insert(k, v);
        }
        Op::Take(k) => assert_eq!(map.remove(&k).map(|v| v.take()), model.remove(&k)),
        Op::RetainBelow(limit) => {
            map.retain(|&k, v| {
                *v = v.wrapping_mul(3);
                k < limit
            });
            model.retain(|&k, v| {
                *v = v.wrapping_mul(3);
                k < limit
            });
        }
        Op::DrainSome(count) => {
            let mut drain = map.drain();
            assert_eq!(drain.len(), model.len());
            for removed in drain.by_ref().take(count) {
                assert_eq!(model.get(removed.key()), Some(&*removed));
            }
            // The rest goes with the iterator.
            drop(drain);
            model.clear();
        }
        Op::Double => {
            map.values_mut().for_each(|v| *v = v.wrapping_mul(2));
            model.values_mut().for_each(|v| *v = v.wrapping_mul(2));
        }
        Op::Clear => {
            let capacity = map.capacity();
            map.clear();
            assert!(map.capacity() >= capacity);
            model.clear();
        }
        Op::ShrinkToFit => {
            map.shrink_to_fit().unwrap();
            assert!(
                map.capacity() <= (map.len() * 16 / 7).max(7),
                "{}",
                map.capacity()
            );
        }
        Op::Reserve(n) => {
            map.reserve(n).unwrap();
            assert!(map.capacity() >= map.len() + n);
        }
        Op::Commit | Op::Unlock => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn numbers_as_in_std(ops in proptest::collection::vec(op(), 1..250)) {
        let world = World::<Numbers>::new();
        let mut model = StdMap::new();
        let mut map = world.root.lock().unwrap();
        for op in &ops {
            match op {
                Op::Commit => map.commit().unwrap(),
                Op::Unlock => {
                    drop(map);
                    map = world.root.lock().unwrap();
                }
                op => play(op, &mut map, &mut model),
            }
            prop_assert_eq!(&*map, &model);
            prop_assert!((0..210).all(|k| map.get(&k) == model.get(&k)));
        }
        drop(map);
    }

    /// Whether a loop asks for one pair after the other, or leaves the rest to `fold`.
    #[test]
    fn iterators_may_be_left_anywhere(
        ops in proptest::collection::vec(op(), 0..250),
        taken in 0usize..300,
    ) {
        let world = World::<Numbers>::new();
        let mut guard = world.root.lock().unwrap();
        let mut model = StdMap::new();
        ops.iter().for_each(|op| play(op, &mut guard, &mut model));
        let mut pairs = guard.iter();
        let mut all: std::vec::Vec<_> = pairs.by_ref().take(taken).collect();
        let left = pairs.len();
        prop_assert_eq!((all.len() + left, pairs.clone().count()), (model.len(), left));
        pairs.for_each(|pair| all.push(pair));
        let mut one_by_one = std::vec::Vec::new();
        for pair in &*guard {
            one_by_one.push(pair);
        }
        prop_assert_eq!(&all, &one_by_one);
        let sums = |of: u64, more: u64| of.wrapping_add(more);
        let expected = model.iter().fold((0, 0), |(keys, values), (key, value)| {
            (sums(keys, *key), sums(values, *value))
        });
        let keys = guard.keys().copied().fold(0, sums);
        prop_assert_eq!((keys, guard.values().copied().fold(0, sums)), expected);
    }

    #[test]
    fn a_death_undoes_numbers(
        before in proptest::collection::vec(op(), 1..100),
        after in proptest::collection::vec(op(), 1..100),
    ) {
        let arena = Arena::options().max_size(8 << 20).in_memory().unwrap();
        let root = arena.root::<Mutex<Numbers>>("map").unwrap();
        let mut model = StdMap::new();
        let mut map = root.lock().unwrap();
        for op in &before {
            play(op, &mut map, &mut model);
        }
        map.commit().unwrap();
        let mut later = model.clone();
        for op in &after {
            play(op, &mut map, &mut later);
        }
        // In the middle of an iteration, too, and of a removal.
        let mut values = map.values_mut();
        if let Some(value) = values.next() {
            *value = 77;
        }
        let image = arena.image();
        drop(map);
        drop((root, arena));
        let arena = Arena::from_image(&image).unwrap();
        let root = arena.find::<Mutex<Numbers>>("map").unwrap();
        prop_assert_eq!(&*root.lock().unwrap(), &model);
        let report = arena.check();
        prop_assert!(report.is_clean(), "{}", report);
    }
}

#[test]
fn guards_of_a_drain_are_finished_in_any_order_or_never() {
    let world = World::<Numbers>::new();
    let mut map = world.root.lock().unwrap();
    for forget_the_drain in [false, true] {
        map.clear();
        map.try_extend(numbers(0..100)).unwrap();
        let mut drain = map.drain();
        let mut kept: std::vec::Vec<_> = drain.by_ref().take(50).collect();
        if forget_the_drain {
            std::mem::forget(drain);
        } else {
            drop(drain);
        }
        let mut stay = std::vec::Vec::new();
        while !kept.is_empty() {
            let guard = kept.swap_remove(kept.len() / 2);
            assert_eq!(*guard, guard.key() * guard.key());
            if guard.key() % 3 == 0 {
                stay.push(*guard.key());
                std::mem::forget(guard);
            }
        }
        drop(kept);
        let expected = stay.len() + if forget_the_drain { 50 } else { 0 };
        assert_eq!(map.len(), expected);
        assert_eq!(map.iter().count(), expected);
        assert!(stay.iter().all(|key| map.contains_key(key)));
        map.try_extend(numbers(0..200)).unwrap();
        assert_eq!(*map, numbers(0..200));
    }
}

/// A text that cannot be stored: with an error, or a panic.
struct Unwilling {
    panic: bool,
}

// SAFETY: it never says that the slot holds something.
unsafe impl Store<String> for Unwilling {
    unsafe fn store(self, slot: *mut String) -> Result {
        // SAFETY: by contract the slot may be written. What was there must come back by itself.
        unsafe { slot.cast::<[u8; size_of::<String>()]>().write([0xee; _]) };
        assert!(!self.panic, "on purpose");
        Err(Error::other("on purpose"))
    }
}

#[test]
fn values_that_cannot_be_made_change_nothing() {
    let world = World::<HashMap<String, String>>::new();
    let mut map = world.root.lock().unwrap();
    map.insert("there", "before").unwrap();
    let same = |map: &HashMap<String, String>| {
        assert_eq!(map.len(), 1);
        assert_eq!(map["there"], "before");
        assert!(!map.contains_key("new"));
    };
    for panic in [false, true] {
        let mut fails = |f: &mut dyn FnMut(&mut HashMap<String, String>) -> bool| {
            let done = catch_unwind(AssertUnwindSafe(|| f(&mut map)));
            assert!(if panic { done.is_err() } else { done.unwrap() });
            same(&map);
        };
        for key in ["there", "new"] {
            fails(&mut |map| map.insert(key, Unwilling { panic }).is_err());
        }
        fails(&mut |map| map.entry("new").or_insert(Unwilling { panic }).is_err());
        fails(&mut |map| match map.entry("there") {
            Entry::Occupied(mut entry) => entry.insert(Unwilling { panic }).is_err(),
            Entry::Vacant(_) => false,
        });
        fails(&mut |map| {
            let make = || {
                assert!(!panic, "on purpose");
                Unwilling { panic }
            };
            map.entry("new").or_insert_with(make).is_err()
        });
    }
    let seen = catch_unwind(AssertUnwindSafe(|| {
        map.retain(|_, _| panic!("on purpose"));
    }));
    assert!(seen.is_err());
    same(&map);
    drop(map);
    world.root.clear_poison().unwrap();
}

#[test]
fn a_removed_value_stays_where_it_is_if_it_cannot_be_stored_elsewhere() {
    #[derive(Share, Default)]
    #[repr(C)]
    struct Two {
        from: HashMap<String, Vec<u8>>,
        to: HashMap<String, Vec<u8>>,
    }
    let world = World::<Two>::with_size(1 << 18);
    let mut two = world.root.lock().unwrap();
    let Two { from, to } = &mut *two;
    from.insert("key", &[1u8, 2, 3][..]).unwrap();
    // Fill the arena, coarsely and then finely.
    let mut number = 0;
    for size in [4096, 512, 64, 16, 0] {
        while to
            .insert(format!("{number:032}").as_str(), &*vec![0; size])
            .is_ok()
        {
            number += 1;
        }
    }
    let long = "a key that needs a block of its own, for which there is no room ".repeat(20);
    let removed = from.remove("key").unwrap();
    assert!(matches!(
        to.insert(long.as_str(), removed),
        Err(Error::Full { .. })
    ));
    assert_eq!(from["key"].as_slice(), [1, 2, 3]);
    assert!(!to.contains_key(long.as_str()));
    // One that was there makes room for another.
    let before = to.len();
    let Some(some) = to.keys().next().map(|key| key.to_string()) else {
        panic!("nothing fitted");
    };
    to.insert(some.as_str(), from.remove("key").unwrap())
        .unwrap();
    assert_eq!(to[some.as_str()].as_slice(), [1, 2, 3]);
    assert_eq!((from.len(), to.len()), (0, before));
}

/// J4: locks that were taken and let go inside the section lie in what is moved and freed.
#[test]
fn locks_in_maps_move_with_them() {
    type Locks = HashMap<u64, Mutex<u64>>;
    let world = World::<Locks>::new();
    let arena = &world.arena;
    let touch = |map: &Locks| {
        for lock in map.values() {
            *lock.lock().unwrap() += 1;
        }
    };
    for round in 0..4 {
        arena
            .section(|| {
                let mut map = world.root.lock()?;
                if round == 3 {
                    map.clear();
                }
                for key in 0..200 {
                    map.insert(key, Mutex::new(key))?;
                    if key % 7 == 0 {
                        touch(&map);
                    }
                }
                touch(&map);
                for key in 0..100 {
                    let removed = map.remove(&key).unwrap();
                    *removed.lock()? += 1;
                }
                map.retain(|key, lock| {
                    *lock.lock().unwrap() += 1;
                    key % 2 == 0
                });
                touch(&map);
                map.shrink_to_fit()?;
                for (_, lock) in map.iter_mut() {
                    *lock.get_mut()? = 5;
                }
                touch(&map);
                if round == 2 {
                    map.clear();
                    for key in 0..10 {
                        map.insert(key, Mutex::new(0))?;
                    }
                }
                Ok(())
            })
            .unwrap();
        // Nothing is held any more, also for others.
        thread::scope(|scope| {
            scope.spawn(|| {
                arena
                    .section(|| {
                        let map = world.root.lock()?;
                        assert!(map.values().all(|lock| lock.try_lock().is_ok()));
                        Ok(())
                    })
                    .unwrap();
            });
        });
    }
    arena
        .section(|| {
            let mut map = world.root.lock()?;
            touch(&map);
            drop(std::mem::take(&mut *map));
            Ok(())
        })
        .unwrap();
}

#[derive(Share, Default)]
#[repr(C)]
struct Node {
    inner: HashMap<u8, Node>,
}

#[test]
fn maps_in_maps_are_dropped_without_recursion() {
    let world = World::<HashMap<u8, Node>>::with_size(64 << 20);
    let mut map = world.root.lock().unwrap();
    for _ in 0..50_000 {
        let inner = std::mem::take(&mut *map);
        map.insert(1, Node { inner }).unwrap();
    }
    map.commit().unwrap();
    map.clear();
}

#[test]
fn zero_sized_and_aligned() {
    #[derive(Share, Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    #[repr(C, align(256))]
    struct Aligned(u8);
    let units = World::<HashMap<(), ()>>::new();
    let mut map = units.root.lock().unwrap();
    assert!(!map.insert((), ()).unwrap());
    assert!(map.insert((), ()).unwrap());
    assert_eq!(
        (map.len(), map.get(&()), map.iter().count()),
        (1, Some(&()), 1)
    );
    assert!(map.remove(&()).is_some() && map.is_empty());
    drop(map);
    let aligned = World::<HashMap<Aligned, Aligned>>::new();
    let mut map = aligned.root.lock().unwrap();
    for n in 0..100 {
        map.insert(Aligned(n), Aligned(n)).unwrap();
    }
    for (key, value) in &*map {
        assert_eq!(key, value);
        assert_eq!((&raw const *value).addr() % 256, 0);
    }
    drop(map);
}

#[test]
fn clearing_a_table_of_this_section_needs_no_memory() {
    let world = World::<Numbers>::with_size(1 << 20);
    let mut map = world.root.lock().unwrap();
    for _ in 0..100 {
        map.try_extend(numbers(0..5000)).unwrap();
        map.clear();
    }
    map.commit().unwrap();
    map.try_extend(numbers(0..5000)).unwrap();
    map.commit().unwrap();
    for _ in 0..100 {
        map.clear();
        map.try_extend(numbers(0..5000)).unwrap();
    }
    assert_eq!(*map, numbers(0..5000));
}

#[test]
fn adding_and_removing_for_ever_keeps_the_table_small() {
    let world = World::<Numbers>::with_size(1 << 20);
    let mut map = world.root.lock().unwrap();
    for n in 0..200_000u64 {
        map.insert(n, n).unwrap();
        if n >= 100 {
            assert_eq!(map.remove(&(n - 100)).map(|v| *v), Some(n - 100));
        }
        if n % 1000 == 0 {
            map.commit().unwrap();
        }
    }
    assert!(map.capacity() < 1000, "{}", map.capacity());
}

#[test]
fn the_parts_of_the_interface() {
    let world = World::<HashMap<String, u64>>::new();
    let mut map = world.root.lock().unwrap();
    map.extend([("one", 1u64), ("two", 2), ("three", 3)]);
    assert_eq!(
        map.get_key_value("two").map(|(k, v)| (k.as_str(), *v)),
        Some(("two", 2))
    );
    assert_eq!(map.entry("four").key(), "four");
    assert_eq!(map.entry("one").key(), "one");
    let length = |key: &str| key.len() as u64;
    assert_eq!(*map.entry("seven").or_insert_with_key(length).unwrap(), 5);
    assert_eq!(
        *map.entry("one")
            .and_modify(|n| *n += 10)
            .or_insert(0)
            .unwrap(),
        11
    );
    match map.entry("seven") {
        Entry::Occupied(mut entry) => {
            *entry.get_mut() += 1;
            assert_eq!((entry.key().as_str(), *entry.get()), ("seven", 6));
            assert_eq!(*entry.remove(), 6);
        }
        Entry::Vacant(_) => unreachable!(),
    }
    match map.entry("seven") {
        Entry::Occupied(_) => unreachable!(),
        Entry::Vacant(entry) => assert_eq!(entry.into_key(), "seven"),
    }
    *map.entry("three").or_insert(0).unwrap() = 33;
    let mut all: std::vec::Vec<_> = map.iter().map(|(k, v)| (k.to_string(), *v)).collect();
    all.sort();
    let expected = [("one", 11), ("three", 33), ("two", 2)];
    assert_eq!(all, expected.map(|(k, v)| (k.to_string(), v)));
    let mut keys: std::vec::Vec<_> = map.keys().map(String::as_str).collect();
    keys.sort();
    assert_eq!(keys, ["one", "three", "two"]);
    assert_eq!(map.iter().len() + map.values().clone().len(), 6);
    for (_, value) in &mut *map {
        *value *= 2;
    }
    assert_eq!(map.values().sum::<u64>(), 92);
    assert!(catch_unwind(AssertUnwindSafe(|| map["none"])).is_err());
    map.retain(|key, _| key == "two");
    assert_eq!(format!("{:?}", *map), r#"{"two": 4}"#);
    assert_eq!(
        format!("{:?}", map.remove("two").unwrap()),
        r#"Removed { key: "two", value: 4 }"#
    );
    drop(map);
    world.root.clear_poison().unwrap();
}

#[test]
fn removed_guards_that_a_child_inherits_do_nothing() {
    let arena = Arena::options().max_size(4 << 20).anonymous().unwrap();
    let root = arena.root::<Mutex<HashMap<u64, String>>>("map").unwrap();
    let mut map = root.lock().unwrap();
    map.insert(1, "one, in its own block").unwrap();
    map.insert(2, "two, in its own block").unwrap();
    map.commit().unwrap();
    let removed = map.remove(&1);
    let mut inherited = Some(removed);
    let mut child = Forked::run(|| {
        drop(inherited.take());
        0
    });
    assert_eq!(child.wait(), 0);
    assert_eq!(
        inherited.flatten().as_deref().map(String::as_str),
        Some("one, in its own block")
    );
    assert_eq!(map.len(), 1);
    drop(map);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn killed_while_it_changes_everything() {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let root = arena
        .root::<Mutex<HashMap<String, Vec<u64>>>>("map")
        .unwrap();
    let mut map = root.lock().unwrap();
    for n in 0..300u64 {
        map.insert(format!("key {n}").as_str(), &[n, n][..])
            .unwrap();
    }
    drop(map);
    let mut child = Forked::run(|| {
        let mut map = root.lock().unwrap();
        for n in 0..200 {
            drop(map.remove(format!("key {n}").as_str()));
        }
        for n in 0..1000u64 {
            map.insert(format!("other {n}").as_str(), &[n][..]).unwrap();
        }
        for list in map.values_mut() {
            list.clear();
        }
        map.retain(|key, _| key.len() % 2 == 0);
        map.clear();
        map.insert("last", &[1][..]).unwrap();
        // SAFETY: kills this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        0
    });
    child.wait();
    let map = root.lock().unwrap();
    assert_eq!(map.len(), 300);
    for n in 0..300u64 {
        assert_eq!(map[format!("key {n}").as_str()].as_slice(), [n, n]);
    }
    drop(map);
    arena.reap().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn keys_are_found_by_what_std_has_of_them() {
    let world = World::<HashMap<String, u64>>::new();
    let mut map = world.root.lock().unwrap();
    let name = std::string::String::from("a name that is longer than sixteen bytes");
    for (number, word) in ["one", "two"].iter().enumerate() {
        map.insert(word, number as u64).unwrap();
    }
    map.insert(&name, 2).unwrap();
    assert_eq!(map[&name], 2);
    assert_eq!(map.get(&name), map.get(name.as_str()));
    assert!(map.contains_key(&name) && map.contains_key(&"one"));
    assert_eq!(map.get(&std::borrow::Cow::from("two")), Some(&1));
    *map.get_mut(&name).unwrap() += 1;
    assert_eq!(map.remove(&name).map(|value| *value), Some(3));
    assert_eq!(map.get(&name), None);
}

#[test]
fn keys_of_bytes_are_taken_and_found_in_each_form() {
    let world = World::<HashMap<Vec<u8>, u64>>::new();
    let mut map = world.root.lock().unwrap();
    map.insert(&b"slice"[..], 1).unwrap();
    map.insert(b"array", 2).unwrap();
    map.insert(vec![7u8; 100], 3).unwrap();
    let eights = vec![8u8; 100];
    map.insert(&eights, 4).unwrap();
    *map.entry(&b"slice"[..]).or_insert(0).unwrap() += 10;
    assert_eq!(map[&b"slice"[..]], 11);
    assert_eq!(map[b"array"], 2);
    assert_eq!(map[&vec![7u8; 100]], 3);
    assert_eq!(map.get(&eights), Some(&4));
    assert_eq!(map.get(&[8u8; 100][..]), Some(&4));
    assert_eq!(map.get(&[8u8; 99]), None);
    assert_eq!(map.len(), 4);
}

#[test]
fn plain_keys_are_taken_by_reference_too() {
    let world = World::<Numbers>::new();
    let mut map = world.root.lock().unwrap();
    let seven = 7;
    for key in [&seven, &seven] {
        map.insert(key, 70).unwrap();
    }
    let more = StdMap::from([(8, 80), (9, 90)]);
    map.try_extend(&more).unwrap();
    *map.entry(&7).or_insert(0).unwrap() += 1;
    assert_eq!((map[&7], map[&8], map[&9], map.len()), (71, 80, 90, 3));
}

#[test]
fn what_is_removed_equals_what_its_value_does() {
    let world = World::<HashMap<u64, Vec<String>>>::new();
    let mut map = world.root.lock().unwrap();
    map.insert(1, ["one", "two"]).unwrap();
    assert!(map.get_mut(&1).unwrap().remove(0) == "one");
    let removed = map.remove(&1).unwrap();
    assert!(removed == ["two"] && removed != ["one"]);
    drop(removed);
    let mut numbers = HashMap::<u64, u64>::new();
    assert!(numbers.remove(&1).is_none());
}
