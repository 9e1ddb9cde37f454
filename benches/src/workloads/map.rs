//! Hash maps: many operations under one guard, and each under a guard of its own.

use super::arena;
use crate::{
    measure::{Bar, Contest, OURS, Random, Row, names, per_operation},
    rivals::{
        boost::{BOOST, NEWER},
        maps::{Hashbrown, InArena, Key, Lmdb, LongText, Map, Private, Text},
        name,
        same_hash::SameHash,
    },
    settings::Settings,
    table::Report,
};
use sharena::{Arena, collections::HashMap, sync::Mutex};
use std::cell::Cell;

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    numbers(settings, report);
    texts(settings, report);
    long_texts(settings, report);
    locked(settings, report);
}

const PHASES: [&str; 5] = ["insert growing", "hit", "miss", "iterate", "remove"];

/// A line for each phase; the bars are for `hashbrown`.
fn rows(map: &str, bars: [f64; 5]) -> Vec<Row> {
    let row = |(phase, bar): (&str, f64)| {
        let bars = [
            Bar::Times("hashbrown", bar),
            Bar::Below("LMDB"),
            Bar::Below(BOOST),
            Bar::Below(NEWER),
        ];
        Row::new(format!("map {map}, {phase}"), &bars)
    };
    PHASES.into_iter().zip(bars).map(row).collect()
}

/// What is looked for in maps.
struct Keys<K> {
    present: Vec<K>,
    absent: Vec<K>,
    /// Those that are present, in another order.
    shuffled: Vec<K>,
}

impl<K: Clone> Keys<K> {
    fn new(count: usize, mut make: impl FnMut(&mut Random) -> K) -> Keys<K> {
        let mut random = Random(3);
        let present: Vec<K> = (0..count).map(|_| make(&mut random)).collect();
        let absent = (0..count).map(|_| make(&mut random)).collect();
        let order = random.order(count);
        let at = |&index: &u32| present[index as usize].clone();
        let shuffled = order.iter().map(at).collect();
        Keys {
            present,
            absent,
            shuffled,
        }
    }
}

fn phases<K>(map: &mut impl Map<K>, keys: &Keys<K>) -> Vec<f64> {
    let count = keys.present.len();
    let results = vec![
        per_operation(count, || map.insert_all(&keys.present)),
        per_operation(count, || {
            assert_eq!(map.find_all(&keys.shuffled), count as u64);
        }),
        per_operation(count, || assert_eq!(map.find_all(&keys.absent), 0)),
        per_operation(count, || {
            assert_eq!(map.sum(), (count * (count - 1) / 2) as u64);
        }),
        per_operation(count, || map.remove_all(&keys.shuffled)),
    ];
    map.reset();
    results
}

type Entrant<'a> = (&'static str, Box<dyn FnMut() -> Vec<f64> + 'a>);

fn contest<K: Key>(
    settings: &Settings,
    report: &mut Report,
    rows: Vec<Row>,
    keys: &Keys<K>,
    boosts: Vec<Entrant<'_>>,
) {
    let arena = arena();
    let mut ours = InArena::<K>::new(&arena);
    let mut hashbrown = Hashbrown::<K>::new();
    let mut lmdb = Lmdb::new();
    let mut contest = Contest::new(settings, rows);
    contest.entrant(OURS, || phases(&mut ours, keys));
    contest.entrant("hashbrown", || phases(&mut hashbrown, keys));
    contest.entrant("LMDB", || phases::<K>(&mut lmdb, keys));
    for (name, boost) in boosts {
        contest.entrant(name, boost);
    }
    contest.run(report);
}

/// Boost's maps as entrants, where there is Boost.
macro_rules! boosts {
    ($key:ty, $keys:expr) => {{
        #[cfg(boost)]
        {
            let as_entrant = |boost: crate::rivals::boost::Boost| -> Entrant<'_> {
                let mut map = crate::rivals::boost::SegmentMap::<$key>::new(boost, 1 << 30);
                (boost.name, Box::new(move || phases(&mut map, $keys)))
            };
            crate::rivals::boost::all()
                .into_iter()
                .map(as_entrant)
                .collect()
        }
        #[cfg(not(boost))]
        Vec::new()
    }};
}

fn numbers(settings: &Settings, report: &mut Report) {
    if !settings.wants(&PHASES.map(|phase| format!("map u64, {phase}"))) {
        return;
    }
    let count = settings.scaled(1_000_000);
    report.title(&format!(
        "map: HashMap<u64, u64> of {count}, under one guard"
    ));
    let keys = &Keys::new(count, Random::next);
    let rows = rows("u64", [1.25, 1.15, 1.15, 1.2, 1.4]);
    contest(settings, report, rows, keys, boosts!(u64, keys));
}

fn texts(settings: &Settings, report: &mut Report) {
    if !settings.wants(&PHASES.map(|phase| format!("map String, {phase}"))) {
        return;
    }
    let count = settings.scaled(500_000);
    report.title(&format!(
        "map: HashMap<String, u64> of {count} keys of 16 characters, under one guard"
    ));
    let keys = &Keys::new(count, |random| -> Text { digits(random) });
    let rows = rows("String", [1.25; 5]);
    contest(settings, report, rows, keys, boosts!(Text, keys));
}

/// What has a block for each key.
fn long_texts(settings: &Settings, report: &mut Report) {
    let rows = PHASES.map(|phase| Row::new(format!("map long String, {phase}"), &[]));
    if !settings.wants(&names(&rows)) {
        return;
    }
    let count = settings.scaled(500_000);
    report.title(&format!(
        "map: HashMap<String, u64> of {count} keys of 32 characters, under one guard"
    ));
    let keys = &Keys::new(count, |random| -> LongText { digits(random) });
    contest(settings, report, rows.into(), keys, Vec::new());
}

/// A random number in so many digits.
fn digits<const LENGTH: usize>(random: &mut Random) -> [u8; LENGTH] {
    let text = format!("{:0LENGTH$x}", random.next());
    text.as_bytes().try_into().expect("as many digits")
}

const LOCKED: [&str; 2] = [
    "map lock, insert, unlock",
    "map lock, remove, insert, unlock",
];
const LOCKED_RIVAL: &str = "parking_lot+hashbrown";

/// Each operation under a guard of its own.
fn locked(settings: &Settings, report: &mut Report) {
    if !settings.wants(&LOCKED) {
        return;
    }
    report.title("map: a guard for each operation, on keys that are there");
    let arena = &arena();
    let mut rows = locked_on(settings, arena, "1k", 1000);
    rows.extend(locked_on(settings, arena, "1M", 1_000_000));
    report.add(rows);
}

fn locked_on(settings: &Settings, arena: &Arena, size: &str, entries: usize) -> Vec<Row> {
    let count = settings.scaled(1_000_000);
    let keys = Keys::new(entries, Random::next);
    let next = Cell::new(0);
    let order = || {
        let begin = next.get();
        next.set((begin + count) % entries);
        let (behind, before) = keys.shuffled.split_at(begin);
        before.iter().chain(behind).copied().cycle().take(count)
    };
    let ours = arena.root::<Mutex<HashMap<u64, u64>>>(&name("map"));
    let ours = ours.expect("the arena has room");
    let theirs = parking_lot::Mutex::new(Private::with_hasher(SameHash::new()));
    for &key in &keys.present {
        ours.lock().unwrap().insert(key, 0).unwrap();
        theirs.lock().insert(key, 0);
    }
    let bars = [Bar::Times(LOCKED_RIVAL, 1.5)];
    let rows = LOCKED.map(|name| Row::new(format!("{name}, {size}"), &bars));
    let mut contest = Contest::new(settings, rows.into());
    contest.entrant(OURS, || {
        let insert = || {
            for key in order() {
                ours.lock().unwrap().insert(key, 1).unwrap();
            }
        };
        let replace = || {
            for key in order() {
                let mut map = ours.lock().unwrap();
                map.remove(&key);
                map.insert(key, 1).unwrap();
            }
        };
        vec![per_operation(count, insert), per_operation(count, replace)]
    });
    contest.entrant(LOCKED_RIVAL, || {
        let insert = || {
            for key in order() {
                theirs.lock().insert(key, 1);
            }
        };
        let replace = || {
            for key in order() {
                let mut map = theirs.lock();
                map.remove(&key);
                map.insert(key, 1);
            }
        };
        vec![per_operation(count, insert), per_operation(count, replace)]
    });
    contest.measure()
}
