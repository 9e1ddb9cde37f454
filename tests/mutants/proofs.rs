//! The proofs by their names.

use crate::scenes;

/// Runs a proof: it panics, or ends the process, if something is not as it must be.
pub(crate) fn run(proof: &str) {
    match proof.split_once(": ") {
        Some(("step", which)) => step(which),
        Some(("scene", which)) => scenes::run(which),
        _ => panic!("there is no proof {proof}"),
    }
}

#[cfg(target_arch = "x86_64")]
fn step(which: &str) {
    crate::steps::run(which);
}

/// Steps can only be taken one by one on x86-64: elsewhere nothing is proved by them.
#[cfg(not(target_arch = "x86_64"))]
fn step(_: &str) {
    assert!(std::env::var_os("SHARENA_MUTANT").is_none());
}
