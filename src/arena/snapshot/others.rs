//! What other threads are at while a snapshot is taken.

use crate::{
    layout::{Doubt, Slot},
    mapping::Mapping,
    section::Ctx,
};
use std::{mem::offset_of, sync::atomic::Ordering::*};

/// The slots of other threads.
pub(super) struct Others<'m> {
    mapping: &'m Mapping,
    own: usize,
    high: usize,
}

impl<'m> Others<'m> {
    pub(super) fn of(ctx: &'m Ctx) -> Self {
        Others {
            mapping: ctx.mapping(),
            own: ctx.index(),
            high: ctx.mapping().slots_high(),
        }
    }

    fn indices(&self) -> impl Iterator<Item = usize> {
        let own = self.own;
        (0..self.high).filter(move |&index| index != own)
    }

    /// Whether nobody has something to undo, or to finish.
    pub(super) fn are_quiet(&self) -> bool {
        self.indices().all(|index| {
            let slot = self.mapping.slot(index);
            slot.log.load(Acquire) == 0 && slot.burying.load(Acquire) == 0
        })
    }

    /// Whether nobody came who is beyond them.
    pub(super) fn are_all(&self) -> bool {
        self.mapping.slots_high() == self.high
    }

    /// Takes out of the front part of a copy what would be undone or finished there: logs that go on
    /// beyond what was read with them.
    pub(super) fn forget_journals(&self, front: &mut [u8]) {
        let geometry = self.mapping.geometry();
        for index in (0..geometry.slots).filter(|&index| index != self.own) {
            let slot = geometry.slots_at as usize + index * geometry.page;
            let doubt = geometry.doubts_at as usize + index * size_of::<Doubt>();
            for (at, len) in [
                (slot + offset_of!(Slot, log), 8),
                (slot + offset_of!(Slot, done), 8),
                (slot + offset_of!(Slot, burying), 8),
                (slot + offset_of!(Slot, immediate), 64),
                (doubt + offset_of!(Doubt, block), 8),
            ] {
                front[at..at + len].fill(0);
            }
        }
    }
}
