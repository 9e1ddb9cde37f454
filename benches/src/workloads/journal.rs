//! What the journal costs: sharena against a build of it that has none (`benches/control`).

use crate::{
    measure::{Bar, Contest, OURS, Row, names, per_operation},
    settings::Settings,
    table::Report,
};

/// What the build without a journal is called in tables.
const CONTROL: &str = "no journal";

/// Operations that one guard spans.
const TOGETHER: usize = 1000;

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    maps(settings, report);
    blocks(settings, report);
}

fn maps(settings: &Settings, report: &mut Report) {
    let row = |name: &str, bar| Row::new(name, &[Bar::Times(CONTROL, bar)]);
    let small = vec![
        row("journal: lock, remove, insert, unlock, map of 1k", 1.35),
        row("journal: 1000 of them under one guard, map of 1k", 1.1),
    ];
    let large = vec![
        row("journal: lock, remove, insert, unlock, map of 1M", 1.15),
        row("journal: 1000 of them under one guard, map of 1M", 1.1),
    ];
    if !settings.wants(&[names(&small), names(&large)].concat()) {
        return;
    }
    report.title("journal: HashMap<u64, u64>, with and without it");
    let count = settings.scaled(1_000_000);
    let mut rows = contest_of_maps(settings, small, 1000, count);
    rows.extend(contest_of_maps(settings, large, 1_000_000, count));
    report.add(rows);
}

fn contest_of_maps(settings: &Settings, rows: Vec<Row>, entries: u64, count: usize) -> Vec<Row> {
    let mut real = journalled::Map::new(entries);
    let mut control = control::Map::new(entries);
    let mut contest = Contest::new(settings, rows);
    contest.entrant(OURS, || {
        vec![
            per_operation(count, || real.one_by_one(count)),
            per_operation(count, || real.together(count)),
        ]
    });
    contest.entrant(CONTROL, || {
        vec![
            per_operation(count, || control.one_by_one(count)),
            per_operation(count, || control.together(count)),
        ]
    });
    contest.measure()
}

fn blocks(settings: &Settings, report: &mut Report) {
    let names = [
        "journal: alloc, link, free the old one",
        "journal: what it adds to that",
    ];
    if !settings.wants(&names) {
        return;
    }
    report.title("journal: an allocation that is linked, and its predecessor freed");
    let count = settings.scaled(2_000_000);
    let mut real = journalled::Places::new();
    let mut control = control::Places::new();
    let mut contest = Contest::new(settings, vec![Row::new(names[0], &[])]);
    contest.entrant(OURS, || vec![per_operation(count, || real.replace(count))]);
    contest.entrant(CONTROL, || {
        vec![per_operation(count, || control.replace(count))]
    });
    let mut rows = contest.measure();
    let added = rows[0].result(OURS).zip(rows[0].result(CONTROL));
    let mut difference = Row::new(names[1], &[Bar::AtMost(6.0)]);
    difference
        .results
        .extend(added.map(|(real, control)| (OURS, real - control)));
    rows.push(difference);
    report.add(rows);
}

/// The same work for each build.
macro_rules! with_build {
    ($name:ident, $build:ident) => {
        mod $name {
            use super::TOGETHER;
            use crate::rivals::name;
            use $build::{Arena, RelPtr, Root, collections::HashMap, sync::Mutex};

            fn arena() -> Arena {
                let name = name(stringify!($name));
                let arena = Arena::named(&name).expect("an arena can be created");
                Arena::unlink_named(&name).expect("the arena has a name");
                arena
            }

            /// A key that is in the map.
            #[inline(always)]
            fn key(number: u64) -> u64 {
                number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            }

            pub(super) struct Map {
                root: Root<Mutex<HashMap<u64, u64>>>,
                entries: u64,
                next: u64,
            }

            impl Map {
                pub(super) fn new(entries: u64) -> Map {
                    let root = arena().root::<Mutex<HashMap<u64, u64>>>("map");
                    let root = root.expect("the arena has room");
                    for number in 0..entries {
                        let mut map = root.lock().expect("free");
                        map.insert(key(number), number).expect("there is room");
                    }
                    Map {
                        root,
                        entries,
                        next: 0,
                    }
                }

                pub(super) fn one_by_one(&mut self, count: usize) {
                    for _ in 0..count {
                        let next = self.next();
                        let mut map = self.root.lock().expect("free");
                        replace(&mut map, next);
                    }
                }

                pub(super) fn together(&mut self, count: usize) {
                    for _ in 0..count / TOGETHER {
                        let numbers = [(); TOGETHER].map(|()| self.next());
                        let mut map = self.root.lock().expect("free");
                        numbers.into_iter().for_each(|next| replace(&mut map, next));
                    }
                }

                /// Goes through the keys in an order that is far from that of insertion.
                #[inline(always)]
                fn next(&mut self) -> u64 {
                    self.next = (self.next + 617_957) % self.entries;
                    self.next
                }
            }

            #[inline(always)]
            fn replace(map: &mut HashMap<u64, u64>, number: u64) {
                map.remove(&key(number)).expect("it is there");
                map.insert(key(number), number).expect("there is room");
            }

            type Links = Mutex<[Option<RelPtr<u64>>; 8]>;

            pub(super) struct Places {
                arena: Arena,
                root: Root<Links>,
            }

            impl Places {
                pub(super) fn new() -> Places {
                    let arena = arena();
                    let root = arena.root::<Links>("places");
                    let root = root.expect("the arena has room");
                    Places { arena, root }
                }

                pub(super) fn replace(&mut self, count: usize) {
                    let mut places = self.root.lock().expect("free");
                    for number in 0..count {
                        let new = self.arena.alloc_value(number as u64);
                        let new = new.expect("there is room");
                        let place = &mut places[number % 8];
                        let old = place.take();
                        new.link(place).expect("the place is in the arena");
                        if let Some(old) = old {
                            // SAFETY: it was linked here only, and is no longer.
                            unsafe { self.arena.dealloc(old) }.expect("it was linked");
                        }
                        places.commit().expect("one lock is held");
                    }
                }
            }
        }
    };
}

with_build!(journalled, sharena);
with_build!(control, sharena_control);
