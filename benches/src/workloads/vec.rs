//! Vectors: filled, summed, indexed under one guard.

use super::arena;
use crate::{
    measure::{Bar, Contest, OURS, Random, Row, per_operation},
    rivals::name,
    settings::Settings,
    table::Report,
};
use sharena::{collections, sync::Mutex};

const PHASES: [(&str, f64); 4] = [
    ("push growing", 1.1),
    ("push reserved", 1.5),
    ("sum over slice", 1.0),
    ("random index", 1.05),
];

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    let names = PHASES.map(|(phase, _)| format!("vec {phase}"));
    if !settings.wants(&names) {
        return;
    }
    let count = settings.scaled(10_000_000);
    report.title(&format!("vec: Vec<u64> of {count}, under one guard"));
    let row = |(phase, bar)| Row::new(format!("vec {phase}"), &[Bar::Times("std", bar)]);
    let mut random = Random(5);
    let indices: Vec<u32> = (0..count).map(|_| random.below(count) as u32).collect();
    let arena = arena();
    let shared = arena.root::<Mutex<collections::Vec<u64>>>(&name("vec"));
    let shared = shared.expect("the arena has room");
    let mut contest = Contest::new(settings, PHASES.map(row).into());
    contest.entrant(OURS, || ours(&shared, &indices));
    contest.entrant("std", || std(&indices));
    contest.run(report);
}

fn ours(shared: &Mutex<collections::Vec<u64>>, indices: &[u32]) -> Vec<f64> {
    let count = indices.len();
    let empty = || {
        let mut vec = shared.lock().unwrap();
        vec.clear();
        vec.shrink_to_fit().unwrap();
    };
    let fill = || {
        let mut guard = shared.lock().unwrap();
        // Once: each time a guard is dereferenced mutably, it asks whether its value is recorded.
        let vec = &mut *guard;
        for value in 0..count as u64 {
            vec.push(value).unwrap();
        }
    };
    empty();
    let growing = per_operation(count, fill);
    empty();
    shared.lock().unwrap().reserve_exact(count).unwrap();
    let reserved = per_operation(count, fill);
    let guard = shared.lock().unwrap();
    let vec = &*guard;
    vec![
        growing,
        reserved,
        per_operation(count, || vec.as_slice().iter().sum::<u64>()),
        per_operation(count, || {
            let at = |&index: &u32| vec[index as usize];
            indices.iter().map(at).fold(0, u64::wrapping_add)
        }),
    ]
}

fn std(indices: &[u32]) -> Vec<f64> {
    let count = indices.len();
    let fill = |mut vec: Vec<u64>| {
        for value in 0..count as u64 {
            vec.push(value);
        }
        vec
    };
    let growing = per_operation(count, || fill(Vec::new()));
    let empty = Vec::with_capacity(count);
    let mut vec = Vec::new();
    let reserved = per_operation(count, || vec = fill(empty));
    vec![
        growing,
        reserved,
        per_operation(count, || vec.as_slice().iter().sum::<u64>()),
        per_operation(count, || {
            let at = |&index: &u32| vec[index as usize];
            indices.iter().map(at).fold(0, u64::wrapping_add)
        }),
    ]
}
