//! The proofs by their names.

use crate::{scenes, steps};

/// Runs a proof: it panics, or ends the process, if something is not as it must be.
pub(crate) fn run(proof: &str) {
    match proof.split_once(": ") {
        Some(("step", which)) => steps::run(which),
        Some(("scene", which)) => scenes::run(which),
        _ => panic!("there is no proof {proof}"),
    }
}
