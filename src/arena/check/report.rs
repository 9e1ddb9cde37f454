//! What a check tells.

use crate::walk::ProblemKind;
use std::fmt;

/// Problems that a report lists at most; the others are only counted.
const LISTED: usize = 1000;

/// Something wrong in an arena: where, what was expected, and what was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemKind,
    offset: u64,
    what: String,
}

impl Problem {
    /// What kind of thing is wrong.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// Where in the arena, in bytes from its begin.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at offset {:#x}: {}", self.offset, self.what)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {self}", self.kind)
    }
}

/// A block that is given out, and that nothing owns or points to.
///
/// Either its owner is a value that some thread has on its stack, or a pointer that only some
/// process knows ([`Reserved::into_raw`](super::super::Reserved::into_raw)), or it was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Unowned {
    /// Where the block begins, in bytes from the arena's begin.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
}

/// What a check found.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, sync::Mutex};
///
/// let arena = Arena::in_memory()?;
/// arena.root::<Mutex<u64>>("hits")?;
/// let report = arena.check();
/// assert!(report.is_clean(), "{report}");
/// assert_eq!(report.roots(), 1);
///
/// let lost = arena.alloc_value(7u64)?.into_raw()?;
/// let report = arena.check();
/// assert!(report.is_ok() && !report.is_clean());
/// assert_eq!(report.unowned()[0].offset, lost.offset());
/// # Ok::<(), sharena::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
    pub(super) omitted: u64,
    pub(super) unowned: Vec<Unowned>,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) reachable: u64,
    pub(super) journaled: u64,
    pub(super) roots: u64,
    pub(super) removed: u64,
    pub(super) pointers: u64,
    pub(super) stale: u64,
}

impl Report {
    /// What is wrong; of very many problems only the first thousand.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether nothing is wrong. There may be blocks that nothing owns.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// Blocks that are given out, and that nothing in the arena owns or points to.
    pub fn unowned(&self) -> &[Unowned] {
        &self.unowned
    }

    /// Whether nothing is wrong, and every block has an owner.
    pub fn is_clean(&self) -> bool {
        self.is_ok() && self.unowned.is_empty()
    }

    /// Blocks that are given out.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of the blocks that are given out.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Blocks that are owned, or pointed to, by roots.
    pub fn reachable(&self) -> u64 {
        self.reachable
    }

    /// Blocks that are not, but are named by the journal of a section: its end, or its undoing,
    /// decides about them.
    pub fn journaled(&self) -> u64 {
        self.journaled
    }

    /// Roots, without removed ones.
    pub fn roots(&self) -> u64 {
        self.roots
    }

    /// Roots that were removed, and wait for their last handle.
    pub fn removed_roots(&self) -> u64 {
        self.removed
    }

    /// Raw pointers that were met: each [`RelPtr`](crate::RelPtr) that is not null.
    pub fn pointers(&self) -> u64 {
        self.pointers
    }

    /// Raw pointers that lead to no block. That is not wrong as long as nobody follows them.
    pub fn stale_pointers(&self) -> u64 {
        self.stale
    }

    /// Notes a problem.
    pub(super) fn wrong(&mut self, kind: ProblemKind, offset: u64, what: fmt::Arguments<'_>) {
        if self.problems.len() == LISTED {
            self.omitted += 1;
            return;
        }
        let what = what.to_string();
        self.problems.push(Problem { kind, offset, what });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} roots, {} blocks of {} bytes in all, {} of them reachable",
            self.roots, self.blocks, self.bytes, self.reachable
        )?;
        let counts = [
            (self.removed, "removed roots wait for their last handle"),
            (self.journaled, "blocks are named by open journals"),
            (self.stale, "raw pointers lead to no block"),
        ];
        for (count, what) in counts {
            if count > 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        if self.is_clean() {
            return write!(f, "nothing is wrong, and every block has an owner");
        }
        let unowned: u64 = self.unowned.iter().map(|block| block.size).sum();
        if !self.unowned.is_empty() {
            write!(
                f,
                "{} blocks of {unowned} bytes in all have no owner:",
                self.unowned.len()
            )?;
            for block in self.unowned.iter().take(8) {
                write!(f, " {:#x}+{}", block.offset, block.size)?;
            }
            writeln!(f, "{}", if self.unowned.len() > 8 { " ..." } else { "" })?;
        }
        let problems = self.problems.len() as u64 + self.omitted;
        write!(f, "{problems} problems")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n  ... and {} more", self.omitted)?;
        }
        Ok(())
    }
}
