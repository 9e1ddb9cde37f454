//! Proofs that step through operations: `tests/crash_step`, as far as a mutant needs it.

use crate::{cases, plan::Plan, prove::Tally};

/// Start states of an operation that are stepped from.
const STARTS: usize = 4;

/// Steps through the operations of which this is a part of the name.
pub(crate) fn run(which: &str) {
    let plan = Plan::brief();
    let mut total = Tally::default();
    let named = cases::all()
        .into_iter()
        .filter(|case| case.operation.contains(which) && case.index.1 < STARTS);
    for case in named {
        total.add(&(case.prove)(&plan));
    }
    assert!(total.images > 0, "there is no operation {which}");
    assert_eq!(total.violations, 0, "violations in {} images", total.images);
}
