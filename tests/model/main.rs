//! The protocols of ARCHITECTURE.md, explored whole: each interleaving of two threads, a kill after
//! every step (also in recovery), slots used again; for small sizes, but for all of them.
//!
//! * [`section`]: sections, locks, the journal, small blocks, drains, recovery, detaching;
//! * [`spans`]: runs of slabs: claimed, published, grown, freed, undone;
//! * [`holes`]: slabs whose pages go back to the system, and come again;
//! * [`nested`]: sections in one another, guards that outlive them;
//! * [`semaphore`]: internal locks, the redo record, permits that come back at death;
//! * [`rwlock`]: readers with cells, a writer with the word, recovery, slots used again;
//! * [`calm`]: locks released by a plain store, and how nobody who sleeps is missed;
//! * [`circle`]: who waits in a circle, and is told so;
//! * [`bury`]: doomed containers, taken apart after the commit;
//! * [`gates`]: claiming and leaving slots, reserved slots, recovery when everybody is dead, reaping.
//!
//! Steps bear the names of what the code does, and rules the numbers that they have there. Each model
//! also runs with one rule broken ([`mutant`]), and must notice.
//!
//! `SHARENA_MODEL=all` explores larger sizes too; `SHARENA_TRACE` prints the steps that lead to what a
//! broken rule breaks.

mod bury;
mod calm;
mod circle;
mod explore;
mod gates;
mod holes;
mod mutant;
mod nested;
mod rwlock;
mod section;
mod semaphore;
mod slots;
mod spans;

use explore::{Found, Model, explore};

/// Explores a model that must hold.
#[track_caller]
fn prove(name: &str, model: &impl Model) {
    let (found, time) = timed(model);
    println!(
        "{name}: {} states, {} ends, {time:.1} s",
        found.states, found.ends
    );
    if let Some(violation) = found.violation {
        panic!("{name}: {}\n{}", violation.what, violation.trace);
    }
    assert!(found.ends > 0, "{name}: nothing ever ends");
}

/// Explores a model with a rule broken: it must not hold.
#[track_caller]
fn refute(name: &str, model: &impl Model) {
    let (found, time) = timed(model);
    let Some(violation) = found.violation else {
        panic!("{name}: {} states, and nothing was noticed", found.states);
    };
    println!(
        "{name}: {} after {} states, {time:.1} s",
        violation.what, found.states
    );
    if std::env::var_os("SHARENA_TRACE").is_some() {
        println!("{}", violation.trace);
    }
}

fn timed(model: &impl Model) -> (Found, f32) {
    let begin = std::time::Instant::now();
    let found = explore(model);
    (found, begin.elapsed().as_secs_f32())
}

/// Whether larger sizes are asked for, which take long.
fn all() -> bool {
    std::env::var("SHARENA_MODEL").is_ok_and(|which| which == "all")
}
