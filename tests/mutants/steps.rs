//! Proofs that step through operations: `tests/crash_step`, as far as a mutant needs it.

use crate::{
    cases,
    plan::Plan,
    prove::{self, Tally},
    start::Start,
    stepper::Pace,
    subject::{Subject, unit},
};
use sharena::{Arena, Result, collections::Vec as Shared, sync::Mutex};

/// Start states of an operation that are stepped from.
const STARTS: usize = 4;

/// The proof that needs a slot with a history.
const SECOND_OWNER: &str = "a slot's second owner";

/// Steps through the operations of which this is a part of the name.
pub(crate) fn run(which: &str) {
    let plan = Plan::brief();
    let mut total = Tally::default();
    if which == SECOND_OWNER {
        total.add(&prove::prove(&second_owner(), (0, 0), &plan));
    }
    let named = cases::all()
        .into_iter()
        .filter(|case| case.operation.contains(which) && case.index.1 < STARTS);
    for case in named {
        total.add(&(case.prove)(&plan));
    }
    assert!(total.images > 0, "there is no operation {which}");
    assert_eq!(total.violations, 0, "violations in {} images", total.images);
}

type List = Mutex<Shared<u64>>;

fn push(arena: &Arena) -> Result {
    arena.root::<List>("list")?.lock()?.push(1)
}

/// Runs `f` in a thread that ends, so that its slot is free again.
fn elsewhere(arena: &Arena, f: impl FnOnce(&Arena) + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| f(arena)).join().unwrap();
    });
}

/// A push by a thread whose slot was another's before: the first section of each.
fn second_owner() -> Subject<Vec<u64>> {
    Subject {
        name: SECOND_OWNER,
        starts: vec![Start::own("one push", |arena| {
            elsewhere(arena, |arena| make(arena).unwrap());
            elsewhere(arena, |arena| push(arena).unwrap());
            Ok(())
        })],
        operations: vec![unit("push", push)],
        observe: |arena| {
            let list = arena.root::<List>("list").unwrap();
            let list = list.lock().unwrap();
            list.to_vec()
        },
        go_on: push,
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn make(arena: &Arena) -> Result {
    arena.root::<List>("list").map(drop)
}
