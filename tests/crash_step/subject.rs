//! What is stepped through: subjects, each with start states and operations.

use crate::{
    plan::Plan,
    prove::{self, Tally},
    start::Start,
    stepper::Pace,
};
use sharena::{Arena, Result};
use std::{fmt::Debug, sync::Arc};

/// Something that is done to an arena.
pub(crate) type Act = fn(&Arena) -> Result;

/// An operation, or a section.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) run: Act,
    /// What of it is a unit by itself: a death behind that keeps it.
    pub(crate) parts: &'static [Act],
}

/// An operation that takes place wholly or not at all.
pub(crate) const fn unit(name: &'static str, run: Act) -> Operation {
    Operation {
        name,
        run,
        parts: &[],
    }
}

/// An operation that is several units, one behind the other.
pub(crate) const fn units(name: &'static str, run: Act, parts: &'static [Act]) -> Operation {
    Operation { name, run, parts }
}

/// Start states, operations, and what a user sees of them.
pub(crate) struct Subject<S: 'static> {
    pub(crate) name: &'static str,
    pub(crate) starts: Vec<Start>,
    pub(crate) operations: Vec<Operation>,
    /// All that a user can see.
    pub(crate) observe: fn(&Arena) -> S,
    /// What a user goes on with: one insert, one remove.
    pub(crate) go_on: Act,
    /// Where its operations are stopped.
    pub(crate) pace: Pace,
    /// Whether a death changes nothing of what is seen between operations: permits come back.
    pub(crate) outlives: bool,
}

/// One operation from one start state.
#[derive(Clone)]
pub(crate) struct Case {
    /// The subject's name and the operation's.
    pub(crate) operation: String,
    pub(crate) start: &'static str,
    /// Which of the subject's operations it is, and which of its start states,
    pub(crate) index: (usize, usize),
    /// of so many.
    pub(crate) of: (usize, usize),
    pub(crate) prove: Arc<dyn Fn(&Plan) -> Tally + Send + Sync>,
    /// Steps in both ways, and compares.
    #[cfg(target_arch = "x86_64")]
    pub(crate) compare: Arc<dyn Fn() + Send + Sync>,
}

impl<S: PartialEq + Debug + Send + 'static> Subject<S> {
    /// Each operation from each start state.
    pub(crate) fn cases(self) -> Vec<Case> {
        let this = Arc::new(self);
        let of = (this.operations.len(), this.starts.len());
        assert!(of.1 >= 8, "{} has {} start states", this.name, of.1);
        let indices =
            (0..of.0).flat_map(|operation| (0..of.1).map(move |start| (operation, start)));
        indices
            .map(|index| {
                let proved = this.clone();
                #[cfg(target_arch = "x86_64")]
                let compared = this.clone();
                Case {
                    operation: format!("{}: {}", this.name, this.operations[index.0].name),
                    start: this.starts[index.1].name,
                    index,
                    of,
                    prove: Arc::new(move |plan| prove::prove(&proved, index, plan)),
                    #[cfg(target_arch = "x86_64")]
                    compare: Arc::new(move || prove::compare(&compared, index)),
                }
            })
            .collect()
    }
}
