//! What raw pointers lead to (W5).

use super::{Plan, Visitor, Walk, block_around};
use crate::share::TypeIndex;

impl<V: Visitor> Walk<'_, V> {
    /// From here on nothing is wrong any more, and so many bytes may be walked over.
    pub(crate) fn follow_leniently(&mut self, budget: u64) {
        self.strict = false;
        self.budget = budget;
    }

    /// Whether the bytes were not enough.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.budget == 0
    }

    /// Marks the block that a raw pointer leads into as reached, and walks over what lies there if
    /// it can be a value of the type `of`. Says whether there was a block for it.
    pub(crate) fn behind_pointer(&mut self, plan: &Plan, to: u64, of: TypeIndex) -> bool {
        let Some(block) = block_around(self.mapping, to) else {
            return false;
        };
        let inside = to - block.offset;
        let fits = inside
            .checked_add(plan.size(of))
            .is_some_and(|end| end <= block.size);
        if !fits || !to.is_multiple_of(plan.align(of).max(1)) {
            return false;
        }
        debug_assert!(!self.strict);
        self.mark(&block);
        self.value(plan, of, to);
        true
    }
}
