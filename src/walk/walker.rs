//! The walk itself: a list of what is still to be done, and one step after the other.

use super::{
    Block, Kind, Plan, block_at, bytes,
    maps::Pairs,
    plan::{Look, Parts},
    reached::Reached,
};
use crate::{
    layout::FROZEN_TAG,
    mapping::Mapping,
    share::{Primitive, TypeIndex},
};
use std::{collections::HashMap, fmt};

/// That a container owns a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Edge {
    /// Where the container lies.
    pub(crate) header: u64,
    /// Bytes of its header.
    pub(crate) header_size: u64,
    /// Where its block begins.
    pub(crate) block: u64,
}

/// Who takes a walk.
pub(crate) trait Visitor {
    /// An owned block, which the walk goes into now.
    fn owned(&mut self, _edge: Edge) {}

    /// A raw pointer that is not null, and lies at `at`.
    fn pointer(&mut self, _at: u64, _to: u64, _of: TypeIndex) {}

    /// A mutex or `RwLock` at `at`, whose word is `word`. Says whether to go inside.
    fn mutex(&mut self, _at: u64, _word: u64) -> bool {
        true
    }

    /// A semaphore at `at`.
    fn semaphore(&mut self, _at: u64) {}

    /// Something that makes no sense.
    fn wrong(&mut self, _kind: Kind, _at: u64, _what: fmt::Arguments<'_>) {}
}

/// What is still to be done.
pub(super) enum Job {
    /// So many values of a type, one behind the other.
    Values { of: TypeIndex, at: u64, left: u64 },
    /// The pairs of a map, from a bucket on.
    Pairs(Pairs),
}

/// A walk over any number of values, which goes into each block once.
pub(crate) struct Walk<'m, V> {
    pub(super) mapping: &'m Mapping,
    pub(crate) visitor: V,
    /// The blocks that were reached, and by whom.
    reached: Reached,
    /// Whether what makes no sense is told to the visitor: not behind raw pointers (W5).
    pub(super) strict: bool,
    /// Bytes that may still be walked over, behind raw pointers.
    pub(super) budget: u64,
    jobs: Vec<Job>,
}

impl<'m, V: Visitor> Walk<'m, V> {
    pub(crate) fn new(mapping: &'m Mapping, visitor: V) -> Self {
        Walk {
            mapping,
            visitor,
            reached: Reached::default(),
            strict: true,
            budget: u64::MAX,
            jobs: Vec::new(),
        }
    }

    /// Whether the walk reached that block of that slab.
    pub(crate) fn has_reached(&self, slab: usize, index: usize) -> bool {
        self.reached.contains(slab, index)
    }

    /// Notes that a raw pointer leads into a block.
    pub(super) fn mark(&mut self, block: &Block) {
        self.reached.mark(block);
    }

    /// Walks over the value at `at`, which is of the plan's type `of`.
    pub(crate) fn value(&mut self, plan: &Plan, of: TypeIndex, at: u64) {
        self.push_values(plan, of, at, 1);
        while let Some(job) = self.jobs.pop() {
            match job {
                Job::Values { of, at, left } => {
                    let size = plan.size(of);
                    self.budget = self.budget.saturating_sub(size.max(1));
                    if self.budget == 0 {
                        self.jobs.clear();
                        return;
                    }
                    if left > 1 {
                        // Stays inside the block: `push_values` was told so.
                        self.push_values(plan, of, at + size, left - 1);
                    }
                    self.look(plan, of, at);
                }
                Job::Pairs(pairs) => self.next_pair(plan, pairs),
            }
        }
    }

    /// Leaves values to be looked at. All of them lie in one block, or where the walk begins.
    pub(super) fn push_values(&mut self, plan: &Plan, of: TypeIndex, at: u64, left: u64) {
        if left > 0 && !plan.is_skipped(of) {
            self.jobs.push(Job::Values { of, at, left });
        }
    }

    pub(super) fn push_pairs(&mut self, pairs: Pairs) {
        self.jobs.push(Job::Pairs(pairs));
    }

    fn push_parts(&mut self, plan: &Plan, parts: &Parts, at: u64) {
        for &(offset, of) in parts {
            self.push_values(plan, of, at + offset, 1);
        }
    }

    /// Tells the visitor what makes no sense.
    pub(super) fn wrong(&mut self, kind: Kind, at: u64, what: fmt::Arguments<'_>) {
        if self.strict {
            self.visitor.wrong(kind, at, what);
        }
    }

    /// Notes that the block which begins at `offset` is owned, from `owner`; it must hold `needed`
    /// bytes. `None` if there is no such block, or if it was reached before.
    pub(crate) fn reach(&mut self, owner: u64, offset: u64, needed: Option<u64>) -> Option<Block> {
        let Some(block) = block_at(self.mapping, offset) else {
            self.wrong(
                Kind::Dangling,
                owner,
                format_args!(
                    "expected the block at {offset:#x} to be given out, found that it is not"
                ),
            );
            return None;
        };
        if let Some(other) = self.reached.insert(&block, owner) {
            self.wrong(
                Kind::TwoOwners,
                owner,
                format_args!(
                    "expected to be the only owner of the block at {offset:#x}, found another \
                     at {other:#x}"
                ),
            );
            return None;
        }
        let fits = needed.is_some_and(|needed| needed <= block.size);
        if !fits {
            let needed: &dyn fmt::Display = match &needed {
                Some(needed) => needed,
                None => &"more than 2^64",
            };
            self.wrong(
                Kind::BlockSize,
                owner,
                format_args!(
                    "expected a block of {needed} bytes at {offset:#x}, found one of {}",
                    block.size
                ),
            );
        }
        fits.then_some(block)
    }

    fn look(&mut self, plan: &Plan, of: TypeIndex, at: u64) {
        match plan.look(of) {
            Look::Skip => {}
            Look::Parts(parts) => self.push_parts(plan, parts, at),
            Look::Elements { of, len } => self.push_values(plan, *of, at, *len),
            Look::Enum { tag, variants } => self.look_at_enum(plan, at, *tag, variants),
            Look::Vec(item) => self.look_at_vec(plan, at, *item),
            Look::String => self.look_at_string(at),
            Look::Box(item) => self.look_at_box(plan, at, *item),
            Look::Map { key, value } => self.look_at_map(plan, at, *key, *value),
            Look::Mutex { value, of } => self.look_at_mutex(plan, at, *value, *of),
            Look::Lock => self.look_at_lock(at),
            Look::Semaphore => {
                self.look_at_lock(at);
                self.visitor.semaphore(at);
            }
            Look::Pointer { to, may_be_null } => self.look_at_pointer(at, *to, *may_be_null),
            Look::Bool => self.look_at_bool(at),
            Look::Char => self.look_at_char(at),
            Look::NonZero(size) => self.look_at_non_zero(at, *size),
            Look::Unknown(name) => self.wrong(
                Kind::Unsupported,
                at,
                format_args!(
                    "found a `{name}`, which this build of sharena cannot look into: \
                     what it owns counts as unowned"
                ),
            ),
        }
    }

    fn look_at_enum(
        &mut self,
        plan: &Plan,
        at: u64,
        tag: Primitive,
        variants: &HashMap<i128, Parts>,
    ) {
        let Some(found) = self.number(at, tag) else {
            return;
        };
        match variants.get(&found) {
            Some(parts) => self.push_parts(plan, parts, at),
            None => self.wrong(
                Kind::Value,
                at,
                format_args!(
                    "expected the tag of one of the {} variants of an enum, found {found}",
                    variants.len()
                ),
            ),
        }
    }

    /// An integer of at most eight bytes.
    fn number(&self, at: u64, of: Primitive) -> Option<i128> {
        let mut number: i128 = 0;
        let size = of.size() as u64;
        for byte in 0..size {
            let [byte_found] = bytes(self.mapping, at + byte)?;
            number |= i128::from(byte_found) << (8 * byte);
        }
        let bits = 8 * size;
        let negative = of.is_signed() && number >> (bits - 1) & 1 == 1;
        Some(if negative {
            number - (1i128 << bits)
        } else {
            number
        })
    }

    fn look_at_mutex(&mut self, plan: &Plan, at: u64, value: u64, of: TypeIndex) {
        let Some([word, poison, stamp]) = self.words(at) else {
            return;
        };
        if word != FROZEN_TAG {
            self.check_tag(at, word);
        }
        if poison as u32 > 1 {
            self.wrong(
                Kind::Lock,
                at,
                format_args!(
                    "expected 0 or 1 for a poisoned lock, found {}",
                    poison as u32
                ),
            );
        }
        self.check_stamp(at, stamp);
        if self.visitor.mutex(at, word) {
            self.push_values(plan, of, at + value, 1);
        }
    }

    fn look_at_lock(&mut self, at: u64) {
        if let Some([word]) = self.words(at) {
            self.check_tag(at, word);
        }
    }

    fn look_at_pointer(&mut self, at: u64, of: TypeIndex, may_be_null: bool) {
        match self.words(at) {
            Some([0]) if !may_be_null => self.wrong(
                Kind::Value,
                at,
                format_args!("expected a pointer that is never null, found null"),
            ),
            Some([0]) | None => {}
            Some([to]) => self.visitor.pointer(at, to, of),
        }
    }

    fn look_at_bool(&mut self, at: u64) {
        if let Some(found @ 2..) = bytes(self.mapping, at).map(u8::from_ne_bytes) {
            self.wrong(
                Kind::Value,
                at,
                format_args!("expected a `bool`, found {found}"),
            );
        }
    }

    fn look_at_char(&mut self, at: u64) {
        let found = bytes(self.mapping, at).map(u32::from_ne_bytes);
        if let Some(found) = found.filter(|&found| char::from_u32(found).is_none()) {
            self.wrong(
                Kind::Value,
                at,
                format_args!("expected a `char`, found {found:#x}"),
            );
        }
    }

    fn look_at_non_zero(&mut self, at: u64, size: u64) {
        let zero = (at..at + size).all(|at| bytes(self.mapping, at) == Some([0]));
        if zero {
            self.wrong(
                Kind::Value,
                at,
                format_args!("expected a number that is never 0, found 0"),
            );
        }
    }
}
