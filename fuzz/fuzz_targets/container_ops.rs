//! Containers against those of `std`; and what a death in the middle of a section leaves.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sharena::{
    Arena, Share,
    collections::{HashMap, String, Vec},
    sync::Mutex,
};
use std::collections::BTreeMap;

#[derive(Arbitrary, Debug)]
enum Op {
    Push(u64),
    Pop,
    Insert(u8, u64),
    Remove(u8),
    SwapRemove(u8),
    Truncate(u8),
    Drain(u8, u8),
    Sort,
    Set(u8, u64),
    PushWord(u8),
    GrowWord(u8, u8),
    PopWord,
    MapInsert(u8, u8),
    MapRemove(u8),
    MapAppend(u8, u64),
    MapRetain(u8),
    MapClear,
    Forget,
    TakeAndPutBack,
    Commit,
    NewGuard,
    Die,
}

#[derive(Share, Default)]
#[repr(C)]
struct World {
    numbers: Vec<u64>,
    words: Vec<String>,
    counts: HashMap<String, u64>,
    lists: HashMap<u64, Vec<u64>>,
}

#[derive(Default, Clone, PartialEq, Debug)]
struct Model {
    numbers: std::vec::Vec<u64>,
    words: std::vec::Vec<std::string::String>,
    counts: BTreeMap<std::string::String, u64>,
    lists: BTreeMap<u64, std::vec::Vec<u64>>,
}

fn snapshot(world: &World) -> Model {
    Model {
        numbers: world.numbers.to_vec(),
        words: world.words.iter().map(|word| word.to_string()).collect(),
        counts: world
            .counts
            .iter()
            .map(|(k, v)| (k.to_string(), *v))
            .collect(),
        lists: world.lists.iter().map(|(k, v)| (*k, v.to_vec())).collect(),
    }
}

fn word(n: u8) -> std::string::String {
    "w".repeat(n as usize % 40) + &n.to_string()
}

/// Plays one operation on both. `false` if the arena was too full for it.
fn play(op: &Op, world: &mut World, model: &mut Model) -> bool {
    let len = model.numbers.len();
    let at = |n: u8| n as usize % len.max(1);
    match *op {
        Op::Push(n) => {
            if world.numbers.push(n).is_err() {
                return false;
            }
            model.numbers.push(n);
        }
        Op::Pop => assert_eq!(world.numbers.pop().map(|n| *n), model.numbers.pop()),
        Op::Insert(i, n) => {
            let i = i as usize % (len + 1);
            if world.numbers.insert(i, n).is_err() {
                return false;
            }
            model.numbers.insert(i, n);
        }
        Op::Remove(i) if len > 0 => {
            assert_eq!(*world.numbers.remove(at(i)), model.numbers.remove(at(i)));
        }
        Op::SwapRemove(i) if len > 0 => {
            assert_eq!(
                *world.numbers.swap_remove(at(i)),
                model.numbers.swap_remove(at(i))
            );
        }
        Op::Truncate(n) => {
            world.numbers.truncate(n as usize);
            model.numbers.truncate(n as usize);
        }
        Op::Drain(a, b) => {
            let (a, b) = (a as usize % (len + 1), b as usize % (len + 1));
            let range = a.min(b)..a.max(b);
            drop(world.numbers.drain(range.clone()));
            drop(model.numbers.drain(range));
        }
        Op::Sort => {
            world.numbers.sort_unstable();
            model.numbers.sort_unstable();
            world.words.sort();
            model.words.sort();
        }
        Op::Set(i, n) if len > 0 => {
            world.numbers[at(i)] = n;
            model.numbers[at(i)] = n;
        }
        Op::PushWord(n) => {
            if world.words.push_from(word(n).as_str()).is_err() {
                return false;
            }
            model.words.push(word(n));
        }
        Op::GrowWord(i, n) if !model.words.is_empty() => {
            let i = i as usize % model.words.len();
            if world.words[i].push_str(&word(n)).is_err() {
                return false;
            }
            model.words[i].push_str(&word(n));
        }
        Op::PopWord => {
            let popped = world.words.pop().map(|word| word.to_string());
            assert_eq!(popped, model.words.pop());
        }
        Op::MapInsert(k, v) => {
            if world.counts.insert(word(k).as_str(), u64::from(v)).is_err() {
                return false;
            }
            model.counts.insert(word(k), u64::from(v));
        }
        Op::MapRemove(k) => {
            let removed = world.counts.remove(word(k).as_str()).map(|n| *n);
            assert_eq!(removed, model.counts.remove(&word(k)));
        }
        Op::MapAppend(k, v) => {
            let Ok(list) = world.lists.entry(u64::from(k)).or_default() else {
                return false;
            };
            let pushed = list.push(v).is_ok();
            let entry = model.lists.entry(u64::from(k)).or_default();
            if !pushed {
                return false;
            }
            entry.push(v);
        }
        Op::MapRetain(n) => {
            world.lists.retain(|key, _| key % 3 != u64::from(n % 3));
            model.lists.retain(|key, _| key % 3 != u64::from(n % 3));
        }
        Op::MapClear => {
            world.counts.clear();
            model.counts.clear();
        }
        Op::Forget => {
            std::mem::forget(world.numbers.pop());
            std::mem::forget(world.counts.remove(word(0).as_str()));
        }
        Op::TakeAndPutBack => {
            let taken = std::mem::take(&mut world.words);
            assert_eq!(world.words.len(), 0);
            world.words = taken;
        }
        _ => {}
    }
    true
}

fuzz_target!(|ops: std::vec::Vec<Op>| {
    let arena = Arena::options()
        .max_size(1 << 19)
        .slots(4)
        .in_memory()
        .expect("an arena");
    let root = arena.root::<Mutex<World>>("world").expect("a root");
    let mut model = Model::default();
    let mut image = None;
    let mut guard = root.lock().expect("the lock");
    // What the world was when the section began.
    let mut begun = Model::default();
    for op in ops.iter().take(200) {
        match op {
            Op::Commit => {
                guard.commit().expect("the only guard");
                begun = model.clone();
            }
            Op::NewGuard => {
                drop(guard);
                guard = root.lock().expect("the lock");
                begun = model.clone();
            }
            Op::Die if image.is_none() => image = Some((arena.image(), begun.clone())),
            op => {
                let full = !play(op, &mut guard, &mut model);
                if full {
                    // What could not be done left things as they were, but for new empty lists.
                    for key in guard.lists.keys() {
                        model.lists.entry(*key).or_default();
                    }
                }
            }
        }
        assert_eq!(snapshot(&guard), model);
    }
    drop(guard);
    assert!(arena.check().is_clean(), "{}", arena.check());
    drop(root);
    drop(arena);
    if let Some((image, expected)) = image {
        let arena = Arena::from_image(&image).expect("an image of an arena");
        let root = arena.find::<Mutex<World>>("world").expect("the root");
        assert_eq!(snapshot(&root.lock().expect("the lock")), expected);
        assert!(arena.check().is_clean(), "{}", arena.check());
    }
});
