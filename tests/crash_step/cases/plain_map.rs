//! Hash maps of plain pairs: those that are small are recorded whole by whoever changes much.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit, units},
};
use sharena::{Arena, Result, collections::HashMap, sync::Mutex};
use std::collections::BTreeMap;

type Map = HashMap<u64, u64>;
type Pairs = Mutex<Map>;

pub(super) fn subject() -> Subject<BTreeMap<u64, u64>> {
    let mut starts = vec![
        Start::own("empty", |arena| with(arena, 0)),
        Start::own("one pair", |arena| with(arena, 1)),
        Start::own("a hundred pairs", |arena| with(arena, 100)),
        Start::own("at rehash", at_rehash),
        Start::own("after removals", |arena| removed(arena, 7, 3)),
        Start::own("many removed", |arena| removed(arena, 100, 95)),
        Start::own("removed to the last", |arena| removed(arena, 4, 4)),
        Start::own("three pairs", |arena| with(arena, 3)),
    ];
    starts.extend(Start::in_all_conditions(|arena| with(arena, 20)));
    Subject {
        name: "plain map",
        starts,
        operations: vec![
            unit("insert", |arena| {
                change(arena, |map| map.insert(5000, 1).map(drop))
            }),
            unit("insert over", |arena| {
                change(arena, |map| map.insert(0, 2).map(drop))
            }),
            unit("change many values", |arena| {
                change(arena, |map| {
                    Ok(map.values_mut().take(30).for_each(|value| *value += 8))
                })
            }),
            unit("remove", |arena| {
                change(arena, |map| Ok(drop(map.remove(&0))))
            }),
            unit("remove and insert", |arena| {
                change(arena, |map| {
                    map.remove(&0);
                    *map.entry(5000).or_default()? += 7;
                    Ok(())
                })
            }),
            // The buckets that become free are filled again.
            unit("remove and put back another value", |arena| {
                change(arena, |map| {
                    (0..3).try_for_each(|key| {
                        map.remove(&key);
                        map.insert(key, key + 1000).map(drop)
                    })
                })
            }),
            unit("remove and insert, twenty times", |arena| {
                change(arena, |map| swap_keys(map, 20))
            }),
            unit("thirty inserts", |arena| {
                change(arena, |map| {
                    (5000..5030).try_for_each(|key| map.insert(key, key).map(drop))
                })
            }),
            units(
                "change, commit, change",
                change_twice,
                &[|arena| change(arena, |map| swap_keys(map, 3))],
            ),
            unit("drop all", |arena| {
                change(arena, |map| {
                    *map = HashMap::new();
                    Ok(())
                })
            }),
            unit("retain", |arena| {
                change(arena, |map| Ok(map.retain(|key, _| key % 90 != 0)))
            }),
            unit("drain", |arena| change(arena, |map| Ok(drop(map.drain())))),
            unit("reserve", |arena| change(arena, |map| map.reserve(20))),
            unit("shrink_to_fit", |arena| change(arena, Map::shrink_to_fit)),
            unit("clear and insert", |arena| {
                change(arena, |map| {
                    map.clear();
                    map.insert(3, 4).map(drop)
                })
            }),
        ],
        observe,
        go_on: |arena| {
            change(arena, |map| {
                map.insert(9000, 9)?;
                map.remove(&1);
                Ok(())
            })
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn change(arena: &Arena, f: impl FnOnce(&mut Map) -> Result) -> Result {
    let root = start::root::<Pairs>(arena, "pairs")?;
    let mut guard = root.lock()?;
    f(&mut guard)
}

fn with(arena: &Arena, pairs: u64) -> Result {
    change(arena, |map| {
        (0..pairs).try_for_each(|key| map.insert(key, key * 3).map(drop))
    })
}

/// The next insert makes it grow.
fn at_rehash(arena: &Arena) -> Result {
    with(arena, 1)?;
    change(arena, |map| {
        let free = map.len()..map.capacity();
        free.map(|key| key as u64)
            .try_for_each(|key| map.insert(key, key).map(drop))
    })
}

fn removed(arena: &Arena, pairs: u64, less: u64) -> Result {
    with(arena, pairs)?;
    change(arena, |map| {
        (0..less).for_each(|key| {
            map.remove(&(key + 1).rem_euclid(pairs));
        });
        Ok(())
    })
}

fn swap_keys(map: &mut Map, times: u64) -> Result {
    (0..times).try_for_each(|key| {
        map.remove(&key);
        map.insert(6000 + key, key).map(drop)
    })
}

fn change_twice(arena: &Arena) -> Result {
    let root = start::root::<Pairs>(arena, "pairs")?;
    let mut guard = root.lock()?;
    swap_keys(&mut guard, 3)?;
    guard.commit()?;
    guard.remove(&6000);
    guard.insert(6003, 6003).map(drop)
}

fn observe(arena: &Arena) -> BTreeMap<u64, u64> {
    let root = start::root::<Pairs>(arena, "pairs").unwrap();
    let guard = root.lock().unwrap();
    guard.iter().map(|(key, value)| (*key, *value)).collect()
}
