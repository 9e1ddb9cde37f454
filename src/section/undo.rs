//! Transactions: a unit that its own thread can undo.
//!
//! The log is the one that a death would undo ([`crate::journal`]), and it is worked off in the same
//! way, entry by entry, so that a kill in the midst leaves the rest to recovery. What comes on top is
//! what the living have and the dead do not: blocks go back to the thread's cache.

use super::{
    Ctx,
    frees::{DOOMED, Deferred, SmallBlock},
};
use crate::{
    error::{Error, Result},
    journal::{self, LogReader, Undone},
    layout::EntryKind,
    mapping::Mapping,
    walk,
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{Ordering::*, compiler_fence},
    },
};

impl Ctx {
    /// Opens a unit that may be undone.
    ///
    /// # Errors
    ///
    /// [`Error::InTransaction`], [`Error::InSection`] where the thread has a unit already;
    /// [`Error::OtherArena`] where it has one elsewhere.
    pub(crate) fn open_transaction(&mut self) -> Result {
        if self.in_section() || self.has_read_guards() {
            return Err(if self.transaction {
                Error::InTransaction
            } else {
                Error::InSection
            });
        }
        self.open_scope()?;
        self.transaction = true;
        Ok(())
    }

    /// Opens and closes the one way in which a transaction takes locks.
    pub(crate) fn let_lock(&mut self, may: bool) {
        self.transaction = !may;
    }

    /// Commits a transaction. Guards that were forgotten have gone, as all of them have.
    pub(crate) fn commit_transaction(&mut self) {
        self.end_transaction();
        self.end_unit();
    }

    /// Undoes a transaction, calls `look`, and releases the locks.
    pub(crate) fn undo_transaction(&mut self, look: impl FnOnce()) {
        self.flags.set_busy(true);
        self.end_transaction();
        let (slot, mapping) = (self.index(), self.mapping_kept());
        while let Some(undone) = journal::undo_last(&mapping, slot) {
            if let Undone::Block(block) = undone {
                let (body, magazines, mapping) = self.parts();
                let offset = mapping.offset_of_block(block);
                if mapping.begins_at(block, offset) {
                    body.cache.put(mapping, magazines, offset, block.class);
                }
            }
        }
        look();
        self.end_undone();
    }

    /// The mapping, to be kept.
    pub(crate) fn mapping_kept(&self) -> Arc<Mapping> {
        self.body().mapping.clone()
    }

    fn end_transaction(&mut self) {
        self.transaction = false;
        self.scopes = 0;
        self.flags.set_guards(0);
        self.retain_all_reads();
        self.body_mut().raw.clear();
    }

    /// Empties what was undone, and lets go of the locks.
    fn end_undone(&mut self) {
        compiler_fence(SeqCst);
        self.slot().log.store(0, Release);
        self.forget_frees();
        let body = self.body_mut();
        body.doomed.clear();
        body.dooms.forget_places();
        self.forget_recorded();
        self.release_all();
        self.rewind_kept();
        self.release_emptied();
        self.leave();
        self.give_turn();
    }

    /// Notes a block that nothing owns from the first.
    #[inline(always)]
    pub(super) fn note_raw(&mut self, offset: u64) {
        if self.transaction {
            self.body_mut().raw.push(offset);
        }
    }

    /// The blocks that the section will free.
    pub(crate) fn freed(&self) -> HashSet<u64> {
        let body = self.body();
        let mut types = body.doomed.iter().rev();
        let mut freed = HashSet::new();
        for free in self.frees() {
            match free {
                Deferred::Other { offset, state, .. } if state == DOOMED => {
                    let owned = types
                        .next()
                        .map(|schema| walk::owned(self.mapping(), schema, offset));
                    freed.extend(owned.into_iter().flatten().map(|edge| edge.block));
                }
                Deferred::Own(SmallBlock { offset, .. }) | Deferred::Other { offset, .. } => {
                    freed.insert(offset);
                }
            }
        }
        freed
    }

    /// The blocks that the section allocated, and has not freed, and that something should own.
    pub(crate) fn allocated(&self) -> HashSet<u64> {
        let (mapping, body) = (self.mapping(), self.body());
        let freed = self.freed();
        LogReader::new(mapping, body.index)
            .filter(|found| matches!(found.entry.kind, EntryKind::Alloc | EntryKind::AllocSpan))
            .map(|found| found.entry.offset)
            .filter(|offset| mapping.usable_size(*offset).is_ok())
            .filter(|offset| !freed.contains(offset) && !body.raw.contains(offset))
            .collect()
    }
}
