//! Proofs that step through operations: `tests/crash_step`, as far as a mutant needs it.

use crate::crash_step::{Tally, cases, prove, small};
use sharena::{Arena, collections::Vec as Shared, sync::Mutex};

/// Steps through the operations of which this is a part of the name.
pub(crate) fn run(which: &str) {
    // SAFETY: the process has one thread so far.
    unsafe { std::env::set_var("SHARENA_STEP", format!("only:{which}")) };
    let mut tallies = cases::all();
    tallies.push(second_owner());
    let images: usize = tallies.iter().map(|tally| tally.images).sum();
    let violations: usize = tallies.iter().map(|tally| tally.violations).sum();
    assert!(images > 0, "there is no operation {which}");
    assert_eq!(violations, 0, "violations in {images} images");
}

type List = Mutex<Shared<u64>>;

fn push(arena: &Arena) {
    let list = arena.root::<List>("list").unwrap();
    list.lock().unwrap().push(1).unwrap();
}

/// Runs `f` in a thread that ends, so that its slot is free again.
fn elsewhere(arena: &Arena, f: impl FnOnce(&Arena) + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| f(arena)).join().unwrap();
    });
}

/// A push by a thread whose slot was another's before: the first section of each.
fn second_owner() -> Tally {
    prove(
        "a slot's second owner",
        || {
            let arena = small().in_memory().unwrap();
            elsewhere(&arena, |arena| drop(arena.root::<List>("list").unwrap()));
            elsewhere(&arena, push);
            arena
        },
        push,
        |arena| {
            let list = arena.root::<List>("list").unwrap();
            let list = list.lock().unwrap();
            list.to_vec()
        },
        push,
    )
}
