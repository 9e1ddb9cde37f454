//! What is stepped through: everything, or a sample.

use crate::{prove::Tally, subject::Case};
use std::collections::HashSet;

/// How much of everything is done.
pub(crate) struct Plan {
    what: What,
    /// Of how many crash states one is opened by a survivor first.
    pub(crate) survivors_every: usize,
    /// Of how many crash states the recovery of one is stepped through.
    pub(crate) nested_every: usize,
    /// Recoveries that are stepped through at most, for each pair.
    pub(crate) nested_most: usize,
}

enum What {
    /// Each operation and each start state, but not each of one from each of the other.
    Sample,
    /// All whose names contain this.
    All(String),
}

impl Plan {
    /// As `SHARENA_STEP` says.
    pub(crate) fn from_environment() -> Self {
        let whole = |name: String| Plan {
            what: What::All(name),
            survivors_every: 1,
            nested_every: 1,
            nested_most: 3000,
        };
        match std::env::var("SHARENA_STEP") {
            Ok(all) if all == "all" => whole(String::new()),
            Ok(name) => whole(name),
            Err(_) => Plan {
                what: What::Sample,
                survivors_every: 4,
                nested_every: 16,
                nested_most: 100,
            },
        }
    }

    /// The cases to prove.
    pub(crate) fn choose(&self, every: &[Case]) -> Vec<Case> {
        match &self.what {
            What::Sample => sample(every),
            What::All(name) => {
                let named =
                    |case: &&Case| format!("{}, {}", case.operation, case.start).contains(name);
                every.iter().filter(named).cloned().collect()
            }
        }
    }

    /// What the plan did not do, and how to do all of it.
    pub(crate) fn left_out(&self, chosen: usize, every: usize, total: &Tally) -> String {
        let of = |every| match every {
            1 => "0 of 1".to_owned(),
            _ => format!("{} of {every}", every - 1),
        };
        format!(
            "left out: {} of {every} (operation, start) pairs; of what was stepped: nested recovery of \
             {} images ({} images beyond the first {} of a pair), survivors of {} images; \
             the whole set: SHARENA_STEP=all cargo test --release --test crash_step -- --nocapture",
            every - chosen,
            of(self.nested_every),
            total.beyond,
            self.nested_most,
            of(self.survivors_every),
        )
    }
}

/// Each operation from some start state, each start state with some operation: going through both
/// lists side by side, over and over until each is through.
fn sample(every: &[Case]) -> Vec<Case> {
    let chosen: HashSet<_> = every
        .iter()
        .flat_map(|case| {
            let (operations, starts) = case.of;
            (0..operations.max(starts)).map(move |n| (case.subject, n % operations, n % starts))
        })
        .collect();
    let is_chosen = |case: &&Case| chosen.contains(&(case.subject, case.index.0, case.index.1));
    every.iter().filter(is_chosen).cloned().collect()
}
