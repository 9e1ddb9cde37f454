//! Hash maps, from strings to vectors.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit},
};
use sharena::{
    Arena, Result,
    collections::{HashMap, String, Vec as Shared},
    sync::Mutex,
};
use std::collections::BTreeMap;

type Map = HashMap<String, Shared<u64>>;
type Counts = Mutex<Map>;

pub(super) fn subject() -> Subject<BTreeMap<std::string::String, Vec<u64>>> {
    let mut starts = vec![
        Start::own("empty", |arena| with(arena, 0)),
        Start::own("one entry", |arena| with(arena, 1)),
        Start::own("three entries", |arena| with(arena, 3)),
        Start::own("at rehash", at_rehash),
        Start::own("after removals", after_removals),
        Start::own("removed to the last", removed_to_the_last),
        Start::own("long values", long_values),
        Start::own("many entries", |arena| with(arena, 40)),
    ];
    starts.extend(Start::in_all_conditions(|arena| with(arena, 5)));
    Subject {
        name: "map",
        starts,
        operations: vec![
            unit("insert", |arena| insert(arena, "a new key, in a block", 1)),
            unit("insert over", |arena| {
                insert(arena, "key of some length, 0", 2)
            }),
            unit("change a value", |arena| {
                change(arena, |map| match map.get_mut("key of some length, 0") {
                    Some(value) => value.push(7),
                    None => Ok(()),
                })
            }),
            unit("change all values", |arena| {
                change(arena, |map| {
                    map.values_mut().try_for_each(|value| value.push(8))
                })
            }),
            unit("remove", |arena| remove(arena, "key of some length, 0")),
            unit("take a value", take_a_value),
            unit("remove and insert", |arena| {
                change(arena, |map| {
                    map.remove("key of some length, 0");
                    map.entry("another key, in a block").or_default()?.push(7)
                })
            }),
            unit("replace all", replace_all),
            unit("retain", |arena| {
                change(arena, |map| {
                    Ok(map.retain(|key, _| key.as_str() != "key of some length, 0"))
                })
            }),
            unit("drain", |arena| {
                change(arena, |map| {
                    drop(map.drain());
                    Ok(())
                })
            }),
            unit("reserve", |arena| change(arena, |map| map.reserve(20))),
            unit("shrink_to_fit", |arena| change(arena, Map::shrink_to_fit)),
            unit("extend", |arena| {
                change(arena, |map| {
                    map.try_extend([
                        ("x", Shared::new()),
                        ("key of some length, 0", Shared::new()),
                    ])
                })
            }),
            unit("clear", |arena| change(arena, |map| Ok(map.clear()))),
            unit("drop all", |arena| {
                change(arena, |map| {
                    *map = HashMap::new();
                    Ok(())
                })
            }),
        ],
        observe,
        go_on: |arena| {
            insert(arena, "later", 9)?;
            remove(arena, "key of some length, 1")
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn change(arena: &Arena, f: impl FnOnce(&mut Map) -> Result) -> Result {
    let root = start::root::<Counts>(arena, "counts")?;
    let mut guard = root.lock()?;
    f(&mut guard)
}

fn insert(arena: &Arena, key: &str, value: u64) -> Result {
    change(arena, |map| map.entry(key).or_default()?.push(value))
}

fn remove(arena: &Arena, key: &str) -> Result {
    change(arena, |map| {
        map.remove(key);
        Ok(())
    })
}

fn with(arena: &Arena, entries: u64) -> Result {
    change(arena, |_| Ok(()))?;
    (0..entries).try_for_each(|entry| insert(arena, &format!("key of some length, {entry}"), entry))
}

/// The next insert makes it grow.
fn at_rehash(arena: &Arena) -> Result {
    with(arena, 1)?;
    change(arena, |map| {
        for entry in map.len()..map.capacity() {
            map.entry(format!("key of some length, {entry}").as_str())
                .or_default()?
                .push(3)?;
        }
        Ok(())
    })
}

fn after_removals(arena: &Arena) -> Result {
    with(arena, 7)?;
    (3..6).try_for_each(|entry| remove(arena, &format!("key of some length, {entry}")))
}

fn removed_to_the_last(arena: &Arena) -> Result {
    with(arena, 4)?;
    (0..4).try_for_each(|entry| remove(arena, &format!("key of some length, {entry}")))
}

fn long_values(arena: &Arena) -> Result {
    with(arena, 2)?;
    change(arena, |map| {
        let value = map.get_mut("key of some length, 0").expect("inserted");
        (0..700).try_for_each(|number| value.push(number))
    })
}

fn take_a_value(arena: &Arena) -> Result {
    change(arena, |map| {
        let Some(removed) = map.remove("key of some length, 0") else {
            return Ok(());
        };
        let value = removed.take();
        map.insert("taken, in its own block", value).map(drop)
    })
}

/// Fills buckets that were full when the section began: first with others, then with the same.
fn replace_all(arena: &Arena) -> Result {
    change(arena, |map| {
        let mut keys: Vec<_> = map.keys().map(|key| key.to_string()).collect();
        keys.sort();
        for key in &keys {
            map.remove(key.as_str());
            map.insert(format!("not {key}").as_str(), Shared::new())?;
        }
        for key in &keys {
            map.remove(format!("not {key}").as_str());
            map.entry(key.as_str()).or_default()?.push(5)?;
        }
        Ok(())
    })
}

fn observe(arena: &Arena) -> BTreeMap<std::string::String, Vec<u64>> {
    let root = start::root::<Counts>(arena, "counts").unwrap();
    let guard = root.lock().unwrap();
    guard
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_vec()))
        .collect()
}
