//! Checking a whole arena.

use super::Arena;

/// Something wrong in an arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// What is wrong.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

pub(super) fn check(_arena: &Arena) -> Report {
    Report::default()
}
