//! What a kill can not tear: a new block takes the place of an old one, or does not.

use super::{BOOST, arena};
use crate::{
    measure::{Bar, Contest, OURS, Row, names, per_operation},
    rivals::{
        heaps::{Heap, MIMALLOC},
        name,
    },
    settings::Settings,
    table::Report,
};
use sharena::{Arena, RelPtr, Share, sync::Mutex};

/// Places that own a block each.
#[derive(Share, Default)]
#[repr(C)]
struct Places {
    places: [Option<RelPtr<u64>>; 8],
}

pub(super) fn run(settings: &Settings, report: &mut Report) {
    // Eight nanoseconds where mimalloc's pair takes three.
    let bar = [Bar::Times("mimalloc", 8.0 / 3.0), BOOST];
    let rows = vec![
        Row::new("linked pair, committed one by one", &bar),
        Row::new("linked pair, a guard for each", &[]),
        Row::new("linked pair, 100 in a section", &[]),
    ];
    if !settings.wants(&names(&rows)) {
        return;
    }
    report.title("linked pair: allocate a number, link it, free the old one, crash-safe");
    let count = settings.scaled(1_000_000);
    let arena = &arena();
    let places = arena.root::<Mutex<Places>>(&name("places"));
    let places = places.expect("the arena has room");
    let mut contest = Contest::new(settings, rows);
    contest.entrant(OURS, || {
        vec![
            per_operation(count, || committing(arena, &places, count, 1)),
            per_operation(count, || locking(arena, &places, count)),
            per_operation(count, || committing(arena, &places, count, 100)),
        ]
    });
    contest.entrant("mimalloc", || {
        let time = per_operation(count, || private(&MIMALLOC, count));
        vec![time; 3]
    });
    #[cfg(boost)]
    for boost in crate::rivals::boost::all() {
        let segment = boost.create(64 << 20);
        let count = count / 10;
        contest.entrant(boost.name, move || {
            vec![per_operation(count, || private(&segment, count)); 3]
        });
    }
    contest.run(report);
}

/// Nanoseconds for each of so many, committed one by one.
pub(crate) fn in_one_row(arena: &Arena, count: usize) -> f64 {
    let places = arena.root::<Mutex<Places>>("places");
    let places = places.expect("the arena has room");
    per_operation(count, || committing(arena, &places, count, 1))
}

/// Commits after each `together` of them.
fn committing(arena: &Arena, places: &Mutex<Places>, count: usize, together: usize) {
    let mut guard = places.lock().expect("free");
    for number in 0..count {
        replace(arena, &mut guard, number);
        if number % together == together - 1 {
            guard.commit().expect("one lock is held");
        }
    }
}

fn locking(arena: &Arena, places: &Mutex<Places>, count: usize) {
    for number in 0..count {
        let mut guard = places.lock().expect("free");
        replace(arena, &mut guard, number);
    }
}

#[inline(always)]
fn replace(arena: &Arena, places: &mut Places, number: usize) {
    let place = &mut places.places[number % 8];
    let new = arena.alloc_value(number as u64).expect("there is room");
    let old = place.take();
    new.link(place).expect("the place is in the arena");
    if let Some(old) = old {
        // SAFETY: it was linked here only, and is no longer.
        unsafe { arena.dealloc(old) }.expect("it was linked");
    }
}

/// The same without safety.
fn private(heap: &impl Heap, count: usize) {
    let mut places = [const { None }; 8];
    for number in 0..count {
        let new = heap.alloc_written(8);
        let place = std::hint::black_box(&mut places[number % 8]);
        if let Some(old) = place.replace(new) {
            heap.free(old);
        }
    }
    places
        .into_iter()
        .flatten()
        .for_each(|block| heap.free(block));
}
