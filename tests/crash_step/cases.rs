//! What is stepped through.

use super::{Tally, prove, small};
use sharena::{
    Arena, RelPtr, Share,
    collections::{HashMap, String, Vec as Shared},
    sync::{Mutex, Semaphore},
};

#[derive(Share, Default)]
#[repr(C)]
struct Links {
    a: Option<RelPtr<u64>>,
    b: Option<RelPtr<u64>>,
    sum: u64,
}

type Two = [Mutex<u64>; 2];

fn two(arena: &Arena) -> Vec<u64> {
    let root = arena.root::<Two>("two").unwrap();
    root.iter().map(|m| *m.lock().unwrap()).collect()
}

fn links(arena: &Arena) -> (Option<u64>, Option<u64>, u64) {
    let root = arena.root::<Mutex<Links>>("links").unwrap();
    let guard = root.lock().unwrap();
    // SAFETY: what is linked is allocated, and the lock is held.
    let get = |p: Option<RelPtr<u64>>| p.map(|p| unsafe { *p.resolve(arena).unwrap() });
    (get(guard.a), get(guard.b), guard.sum)
}

fn make_links(arena: &Arena) {
    let root = arena.root::<Mutex<Links>>("links").unwrap();
    let block = arena.alloc_value(1u64).unwrap();
    block.link(&mut root.lock().unwrap().a).unwrap();
}

fn replace(arena: &Arena) {
    let root = arena.root::<Mutex<Links>>("links").unwrap();
    let block = arena.alloc_value(2u64).unwrap();
    let mut guard = root.lock().unwrap();
    let old = guard.a.take();
    block.link(&mut guard.a).unwrap();
    if let Some(old) = old {
        // SAFETY: linked here only, and taken out just now.
        unsafe { arena.dealloc(old).unwrap() };
    }
    guard.sum += 1;
}

pub(crate) fn all() -> Vec<Tally> {
    let mut tallies = Vec::new();
    tallies.push(prove(
        "section: two locks",
        || {
            let arena = small().in_memory().unwrap();
            arena.root::<Two>("two").unwrap();
            arena
        },
        |arena| {
            let root = arena.root::<Two>("two").unwrap();
            arena
                .section(|| {
                    *root[0].lock()? += 1;
                    *root[1].lock()? += 1;
                    Ok(())
                })
                .unwrap();
        },
        two,
        |arena| *arena.root::<Two>("two").unwrap()[0].lock().unwrap() += 5,
    ));
    tallies.push(prove(
        "link and free the old",
        || {
            let arena = small().in_memory().unwrap();
            make_links(&arena);
            arena
        },
        replace,
        links,
        replace,
    ));
    tallies.push(prove(
        "link a span",
        || {
            let arena = small().in_memory().unwrap();
            arena.root::<Mutex<Option<RelPtr<u8>>>>("span").unwrap();
            arena
        },
        |arena| {
            let root = arena.root::<Mutex<Option<RelPtr<u8>>>>("span").unwrap();
            let layout = std::alloc::Layout::from_size_align(20_000, 8).unwrap();
            let block = arena.alloc(layout).unwrap();
            block.link(&mut root.lock().unwrap()).unwrap();
            let mut guard = root.lock().unwrap();
            let old = guard.take().unwrap();
            // SAFETY: linked here only, and taken out just now.
            unsafe { arena.dealloc(old).unwrap() };
        },
        |_| (),
        |arena| {
            for _ in 0..3 {
                let layout = std::alloc::Layout::from_size_align(20_000, 8).unwrap();
                drop(arena.alloc(layout).unwrap());
            }
        },
    ));
    tallies.push(prove(
        "create a root",
        || small().in_memory().unwrap(),
        |arena| {
            arena.root::<Mutex<u64>>("new").unwrap();
        },
        |arena| arena.roots().unwrap().len(),
        |arena| {
            arena.root::<Mutex<u64>>("other").unwrap();
        },
    ));
    tallies.push(prove(
        "remove a root",
        || {
            let arena = small().in_memory().unwrap();
            arena.root::<Mutex<u64>>("old").unwrap();
            arena.root::<Mutex<u64>>("stays").unwrap();
            arena
        },
        |arena| arena.remove("old").unwrap(),
        |arena| arena.roots().unwrap().len(),
        |arena| {
            arena.root::<Mutex<u64>>("old").unwrap();
        },
    ));
    tallies.push(prove(
        "semaphore",
        || {
            let arena = small().in_memory().unwrap();
            let fill = |s: &mut Semaphore| {
                *s = Semaphore::new(2);
                Ok(())
            };
            arena.root_with::<Semaphore>("s", fill).unwrap();
            arena
        },
        |arena| {
            let root = arena.find::<Semaphore>("s").unwrap();
            let permit = root.acquire().unwrap();
            drop(root.acquire().unwrap());
            drop(permit);
        },
        |arena| arena.find::<Semaphore>("s").unwrap().available(),
        |arena| {
            let root = arena.find::<Semaphore>("s").unwrap();
            drop(root.acquire().unwrap());
        },
    ));
    tallies.extend(containers());
    tallies.extend(maps());
    tallies
}

type Words = Mutex<Shared<String>>;

fn words(arena: &Arena) -> Vec<std::string::String> {
    let root = arena.root::<Words>("words").unwrap();
    let guard = root.lock().unwrap();
    guard.iter().map(|word| word.to_string()).collect()
}

fn with_words(texts: &[&str]) -> Arena {
    let arena = small().in_memory().unwrap();
    let root = arena.root::<Words>("words").unwrap();
    let mut guard = root.lock().unwrap();
    for &text in texts {
        guard.push_from(text).unwrap();
    }
    drop(guard);
    arena
}

fn change(arena: &Arena, f: impl FnOnce(&mut Shared<String>)) {
    let root = arena.root::<Words>("words").unwrap();
    f(&mut root.lock().unwrap());
}

fn one_more(arena: &Arena) {
    change(arena, |words| {
        words.push_from("one more").unwrap();
        words.pop();
    });
}

fn containers() -> Vec<Tally> {
    let three = ["a", "a word that is longer", "c"];
    let prove_words = |name: &str, start: &[&str], f: fn(&mut Shared<String>)| {
        prove(
            name,
            || with_words(start),
            |arena| change(arena, f),
            words,
            one_more,
        )
    };
    vec![
        prove_words("vec: push to empty", &[], |words| {
            words.push_from("first").unwrap();
        }),
        prove_words("vec: push", &three, |words| {
            words.push_from("fourth").unwrap();
        }),
        prove_words("vec: pop", &three, |words| {
            words.pop();
        }),
        prove_words("vec: truncate", &three, |words| words.truncate(1)),
        prove_words("vec: drain", &three, |words| drop(words.drain(..2))),
        prove_words("vec: move an element", &three, |words| {
            let text = words.remove(0).take();
            words.insert(1, text).unwrap();
        }),
        prove_words("vec: retain", &three, |words| words.retain(|w| w.len() > 1)),
        prove_words("vec: remove", &three, |words| {
            drop(words.remove(0));
        }),
        prove_words("vec: clear", &three, |words| words.clear()),
        prove_words("vec: swap", &three, |words| words.swap(0, 2)),
        prove_words("vec: sort", &three, |words| {
            words.sort_by(|a, b| b.as_str().cmp(a.as_str()));
        }),
        prove_words("vec: take and put back", &three, |words| {
            let word = std::mem::take(&mut words[1]);
            words[0] = word;
        }),
        prove_words("vec: drop all", &three, |words| {
            *words = Shared::new();
        }),
        prove_words("string: push_str", &three, |words| {
            words[0].push_str("bcdefghijklmnopqrstuvwxyz").unwrap();
        }),
    ]
}

type Counts = Mutex<HashMap<String, Shared<u64>>>;

fn counts(arena: &Arena) -> std::collections::BTreeMap<std::string::String, Vec<u64>> {
    let root = arena.root::<Counts>("counts").unwrap();
    let guard = root.lock().unwrap();
    guard
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_vec()))
        .collect()
}

fn with_counts(entries: usize) -> Arena {
    let arena = small().in_memory().unwrap();
    let root = arena.root::<Counts>("counts").unwrap();
    let mut guard = root.lock().unwrap();
    for entry in 0..entries {
        let key = format!("key {entry}");
        guard
            .entry(key.as_str())
            .or_default()
            .unwrap()
            .push(entry as u64)
            .unwrap();
    }
    drop(guard);
    arena
}

fn change_counts(arena: &Arena, f: impl FnOnce(&mut HashMap<String, Shared<u64>>)) {
    let root = arena.root::<Counts>("counts").unwrap();
    f(&mut root.lock().unwrap());
}

fn maps() -> Vec<Tally> {
    let prove_counts = |name: &str, entries: usize, f: fn(&mut HashMap<String, Shared<u64>>)| {
        prove(
            name,
            || with_counts(entries),
            |arena| change_counts(arena, f),
            counts,
            |arena| {
                change_counts(arena, |map| {
                    map.entry("later").or_default().unwrap().push(9).unwrap();
                    map.remove("key 0");
                });
            },
        )
    };
    vec![
        prove_counts("map: first insert", 0, |map| {
            map.entry("key 0").or_default().unwrap().push(1).unwrap();
        }),
        prove_counts("map: insert that grows", 14, |map| {
            map.entry("new").or_default().unwrap().push(1).unwrap();
        }),
        prove_counts("map: insert", 3, |map| {
            map.entry("new").or_default().unwrap().push(1).unwrap();
        }),
        prove_counts("map: change a value", 3, |map| {
            map.get_mut("key 1").unwrap().push(7).unwrap();
        }),
        prove_counts("map: remove", 3, |map| {
            map.remove("key 1");
        }),
        prove_counts("map: remove and insert", 7, |map| {
            map.remove("key 1");
            map.entry("other").or_default().unwrap().push(7).unwrap();
        }),
        prove_counts("map: clear", 5, |map| map.clear()),
        prove_counts("map: replace the whole", 5, |map| *map = HashMap::new()),
    ]
}
