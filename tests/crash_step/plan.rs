//! What is stepped through: everything, or of each pair so much.

use crate::{prove::Tally, subject::Case};

/// How much of everything is done.
pub(crate) struct Plan {
    /// What has this in its name is done.
    name: String,
    /// Crash states of an operation that are looked at, at most: of more than these, every so manyth.
    pub(crate) images_most: usize,
    /// Of how many crash states one is opened by a survivor first.
    pub(crate) survivors_every: usize,
    /// Of how many crash states the recovery of one is stepped through.
    pub(crate) nested_every: usize,
    /// Recoveries that are stepped through at most, for each pair.
    pub(crate) nested_most: usize,
    /// The same for operations of thousands of crash states, and where recovery has hundreds.
    pub(crate) long_nested_most: usize,
    /// Which part of how many is done.
    part: (usize, usize),
    /// So many were done before.
    done: usize,
}

impl Plan {
    /// As `SHARENA_STEP` says.
    pub(crate) fn from_environment() -> Self {
        let part = std::env::var("SHARENA_STEP_PART").ok();
        let part = part.as_deref().map_or((1, 1), part_of);
        let done = std::env::var("SHARENA_STEP_DONE").ok();
        let done = done.map_or(0, |done| {
            done.parse().expect("SHARENA_STEP_DONE is a number")
        });
        let whole = |name: String| Plan {
            name,
            images_most: usize::MAX,
            survivors_every: 1,
            nested_every: 1,
            nested_most: usize::MAX,
            long_nested_most: 50,
            part,
            done,
        };
        match std::env::var("SHARENA_STEP") {
            Ok(all) if all == "all" => whole(String::new()),
            Ok(name) => whole(name),
            Err(_) => Plan {
                name: String::new(),
                images_most: 300,
                survivors_every: 2,
                nested_every: 8,
                nested_most: 8,
                long_nested_most: 2,
                part,
                done,
            },
        }
    }

    /// A little of everything: for a proof of which one violation is enough.
    #[allow(dead_code)]
    pub(crate) fn brief() -> Self {
        Plan {
            name: String::new(),
            images_most: 400,
            survivors_every: 2,
            nested_every: 16,
            nested_most: 5,
            long_nested_most: 1,
            part: (1, 1),
            done: 0,
        }
    }

    /// The cases to prove.
    pub(crate) fn choose(&self, every: &[Case]) -> Vec<Case> {
        let named =
            |case: &&Case| format!("{}, {}", case.operation, case.start).contains(&self.name);
        let mut chosen: Vec<Case> = every.iter().filter(named).cloned().collect();
        // Every operation and every start state soon comes by, wherever it is stopped.
        chosen.sort_by_key(|case| (case.index.0 + case.index.1) % case.of.1);
        let (part, parts) = self.part;
        let chosen = chosen.into_iter().skip(part - 1).step_by(parts);
        chosen.skip(self.done).collect()
    }

    /// What the plan did not do, and how to do all of it.
    pub(crate) fn left_out(&self, chosen: usize, every: usize, total: &Tally) -> String {
        format!(
            "left out: {} of {every} (operation, start) pairs; of those stepped: {} images that were only \
             seen, nested recovery of {} of {} images, survivors of {}; the whole set: \
             SHARENA_STEP=all cargo test --release --test crash_step -- --nocapture",
            every - chosen,
            total.skipped,
            total.images - total.nested,
            total.images,
            total.images - total.survived,
        )
    }
}

/// `k/n`: the `k`th part of `n`.
fn part_of(text: &str) -> (usize, usize) {
    let numbers = text.split_once('/').and_then(|(part, parts)| {
        let part: usize = part.parse().ok()?;
        let parts: usize = parts.parse().ok()?;
        (1..=parts).contains(&part).then_some((part, parts))
    });
    numbers.expect("SHARENA_STEP_PART is such as 1/4")
}
