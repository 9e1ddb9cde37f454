//! Checking a whole arena: its structures, every object, and that no block is lost.
//!
//! In this order, each relying on what came before only as far as it says:
//! 1. the header's numbers, and that the file is as long as they promise;
//! 2. the slots of threads and their journals; 3. the states of slabs;
//! 4. the directory, and each root's value through its type;
//! 5. that the blocks given out are those reached in 4, plus those that journals name; the others
//!    are listed as *unowned*.
//!
//! Nothing is trusted: see the rules of `walk`, which hold here too. A check changes nothing, but
//! recovers the dead first where the arena is mapped for writing: what they left half done is not
//! wrong.

mod blocks;
mod directory;
mod report;
mod slabs;
mod slots;

pub use crate::walk::ProblemKind;
pub use report::{Problem, Report, Unowned};

use super::Arena;
use crate::{
    journal,
    layout::{Header, Tag, WAITERS_BIT},
    mapping::{Access, Backing, Mapping},
    walk::{self, Plan, ProblemKind as Kind, Visitor, Walk},
};
use std::{collections::HashSet, fmt, mem::offset_of, sync::atomic::Ordering::*};

pub(super) fn check(arena: &Arena) -> Report {
    let mapping = arena.mapping();
    if mapping.access() == Access::ReadWrite {
        // What cannot be recovered is found below.
        let _ = journal::recover_all(mapping);
    }
    let mut check = Check {
        mapping,
        report: Report::default(),
        journaled: HashSet::new(),
        growing: HashSet::new(),
    };
    if check.header() {
        check.slots();
        check.slabs();
        check.objects();
    }
    check.report
}

/// A check that is under way.
struct Check<'m> {
    mapping: &'m Mapping,
    report: Report,
    /// Blocks that journals name.
    journaled: HashSet<u64>,
    /// Spans that journals say are being made longer.
    growing: HashSet<u64>,
}

/// What walks over the roots' values note.
struct Found<'r> {
    report: &'r mut Report,
    /// The place of the present root's plan.
    plan: usize,
    /// Pointers to be followed when all that is owned was walked over: plan, target, type.
    pointers: Vec<(usize, u64, crate::share::TypeIndex)>,
}

impl Visitor for Found<'_> {
    fn pointer(&mut self, _at: u64, to: u64, of: crate::share::TypeIndex) {
        self.report.pointers += 1;
        self.pointers.push((self.plan, to, of));
    }

    fn wrong(&mut self, kind: Kind, at: u64, what: fmt::Arguments<'_>) {
        self.report.wrong(kind, at, what);
    }
}

impl Check<'_> {
    fn wrong(&mut self, kind: Kind, at: u64, what: fmt::Arguments<'_>) {
        self.report.wrong(kind, at, what);
    }

    /// The header. `false` if nothing else can be looked at.
    fn header(&mut self) -> bool {
        let header = self.mapping.header();
        let at = |field: usize| field as u64;
        let committed = header.committed.load(Acquire);
        let watermark = header.watermark.load(Acquire);
        let slabs = self.mapping.geometry().all_slabs() as u64;
        if committed > slabs {
            self.wrong(
                Kind::Header,
                at(offset_of!(Header, committed)),
                format_args!("expected at most {slabs} committed slabs, found {committed}"),
            );
        }
        if watermark > committed {
            self.wrong(
                Kind::Header,
                at(offset_of!(Header, watermark)),
                format_args!("expected a watermark of at most {committed}, found {watermark}"),
            );
        }
        let high = header.slots_high.load(Acquire) as usize;
        if high > self.mapping.geometry().slots {
            self.wrong(
                Kind::Header,
                at(offset_of!(Header, slots_high)),
                format_args!(
                    "expected at most {} slots, found {high}",
                    self.mapping.geometry().slots
                ),
            );
        }
        let next_root = header.next_root.load(Acquire);
        if next_root == 0 || next_root >> 63 != 0 {
            self.wrong(
                Kind::Header,
                at(offset_of!(Header, next_root)),
                format_args!("expected the number of the next root, found {next_root:#x}"),
            );
        }
        let word = header.directory.0.load(Acquire);
        self.tag(at(offset_of!(Header, directory)), word & !WAITERS_BIT);
        self.length()
    }

    /// Whether the file is as long as the header says: what lies behind its end cannot be touched.
    fn length(&mut self) -> bool {
        let Backing::File { file, .. } = &self.mapping.backing else {
            return true;
        };
        let expected = self.mapping.geometry().end_of(self.mapping.committed());
        let found = file.metadata().map_or(0, |metadata| metadata.len());
        if found < expected {
            self.wrong(
                Kind::Header,
                offset_of!(Header, committed) as u64,
                format_args!("expected a file of at least {expected} bytes, found {found}"),
            );
        }
        found >= expected
    }

    /// A word that names a slot in one of its generations, or nobody.
    fn tag(&mut self, at: u64, word: u64) {
        if let Some(tag) = Tag::of_word(word)
            && let Err(why) = walk::check_holder(self.mapping, tag)
        {
            self.wrong(
                Kind::Lock,
                at,
                format_args!("expected a lock that is free or held by a thread, found {why}"),
            );
        }
    }

    /// The roots, and what they own and point to; then what else is given out.
    fn objects(&mut self) {
        let mapping = self.mapping;
        let mut report = std::mem::take(&mut self.report);
        let found = Found {
            report: &mut report,
            plan: 0,
            pointers: Vec::new(),
        };
        let mut walk = Walk::new(mapping, found);
        let mut plans = Vec::new();
        directory::walk_roots(mapping, &mut walk, &mut plans);
        follow_pointers(mapping, &mut walk, &plans);
        blocks::compare(mapping, &mut walk, &self.journaled);
        self.report = report;
    }
}

/// Follows the raw pointers that were met, and those met behind them. Nothing behind them is wrong.
fn follow_pointers(mapping: &Mapping, walk: &mut Walk<'_, Found<'_>>, plans: &[Plan]) {
    let committed = (mapping.committed() as u64) << mapping.geometry().slab_shift;
    walk.follow_leniently(16 * committed);
    let mut seen = HashSet::new();
    while let Some(pointer) = walk.visitor.pointers.pop() {
        if !seen.insert(pointer) {
            continue;
        }
        let (plan, to, of) = pointer;
        walk.visitor.plan = plan;
        if !walk.behind_pointer(&plans[plan], to, of) {
            walk.visitor.report.stale += 1;
        }
    }
    if walk.is_exhausted() {
        walk.visitor.report.wrong(
            Kind::Value,
            0,
            format_args!(
                "expected raw pointers that do not overlap much, found so many overlapping that \
                 not all were followed"
            ),
        );
    }
}
