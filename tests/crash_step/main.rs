//! Proof by exhaustion: an operation is stopped at every instruction, and what a kill would leave
//! there is recovered, checked and used.
//!
//! Each distinct crash state is handled once. States that recovery itself goes through join the
//! list, which covers kills inside recovery, to any depth. At each a survivor may act first, while
//! the dead one is still lying there.
//!
//! Each operation of a [`subject`] is stepped from each of its start states. With `SHARENA_STEP=all`
//! every state is looked at, and every recovery stepped through but where there are very many
//! ([`prove`]), which takes half an hour; otherwise some states of each pair, and few recoveries; what
//! was left out is said. `SHARENA_STEP=name` is as `all` for what has `name` in its name.
#![cfg(target_os = "linux")]
// In the tables of operations, what gives nothing is called in `Ok(..)`.
#![allow(clippy::unit_arg)]

mod cases;
mod image;
mod plan;
mod prove;
mod start;
mod stepper;
mod subject;
mod survivor;
mod workers;

use plan::Plan;

#[test]
fn every_instruction() {
    let plan = Plan::from_environment();
    let every = cases::all();
    let chosen = plan.choose(&every);
    assert!(!chosen.is_empty(), "nothing has that name");
    if workers::worked(&chosen, &plan) {
        return;
    }
    let (operations, total) = workers::prove_all(&chosen);
    for (operation, tally) in &operations {
        println!("{operation}: {tally}");
    }
    println!("{}", plan.left_out(chosen.len(), every.len(), &total));
    println!(
        "operations: {} pairs: {} {total}",
        operations.len(),
        chosen.len()
    );
    assert_eq!(total.violations, 0);
}

/// All ways of stepping see the same crash states, of an operation and of a recovery.
#[cfg(target_arch = "x86_64")]
#[test]
fn all_ways_of_stepping_agree() {
    for case in cases::all() {
        // Reading all of the arena at each instruction is slow: not where there are very many.
        let (subject, _) = case.operation.split_once(": ").unwrap();
        let long = ["section", "doomed", "overflow"]
            .iter()
            .any(|long| subject.contains(long));
        if case.index == (0, 3) && !long {
            (case.compare)();
        }
    }
}
