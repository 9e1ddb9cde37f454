//! What holds in every state.

use super::*;
use crate::slots::Life;

impl Config {
    pub(super) fn check_state(&self, state: &State) -> Result<(), String> {
        for lock in 0..LOCKS {
            self.check_cell(state, lock)?;
        }
        for slab in 0..SLABS {
            self.check_slab(state, slab)?;
        }
        for (slot, stored) in state.slots.iter().enumerate() {
            if stored.is_free(self.mutant) && state.journals[slot].log != 0 {
                return Err(format!("slot {slot} can be claimed, and is not over"));
            }
        }
        Ok(())
    }

    /// A cell that no journal will undo owns a whole span, in which is what was written.
    fn check_cell(&self, state: &State, lock: usize) -> Result<(), String> {
        let cell = state.cells[lock];
        let undoes =
            |entry: &Entry| matches!(entry, Entry::Undo { cell, .. } if *cell == lock as u8);
        let open = state
            .journals
            .iter()
            .any(|journal| !journal.committed && journal.entries.iter().any(undoes));
        if cell.span == 0 || open {
            return Ok(());
        }
        let head = cell.head();
        if state.slabs[head].word.kind != Kind::Span || state.slabs[head].count < cell.len {
            return Err(format!("the span of cell {lock} is not whole"));
        }
        for distance in 0..cell.len as usize {
            let slab = &state.slabs[head + distance];
            if distance > 0
                && (slab.word.kind, slab.word.generation as usize) != (Kind::Tail, distance)
            {
                return Err(format!("a tail of cell {lock} is another's"));
            }
            if slab.token != cell.token {
                return Err(format!(
                    "what is in the span of cell {lock} was overwritten"
                ));
            }
        }
        Ok(())
    }

    /// A slab is free, or something has it.
    fn check_slab(&self, state: &State, slab: usize) -> Result<(), String> {
        let word = state.slabs[slab].word;
        let known = match word.kind {
            Kind::Free => true,
            Kind::Reserved | Kind::Freeing => state.slots[word.slot as usize].life != Life::Nobody,
            Kind::Span => {
                state
                    .cells
                    .iter()
                    .any(|cell| cell.span as usize == slab + 1)
                    || self.is_named(state, slab)
            }
            Kind::Tail => self.has_head(state, slab, word.generation as usize),
        };
        if !known {
            return Err(format!("slab {slab} is lost"));
        }
        Ok(())
    }

    fn is_named(&self, state: &State, slab: usize) -> bool {
        let names = |entry: &Entry| match *entry {
            Entry::AllocSpan { head, .. } | Entry::FreeSpan { head, .. } => head as usize == slab,
            Entry::Undo { old, .. } => old.span as usize == slab + 1,
            _ => false,
        };
        let mut journals = state.journals.iter();
        journals.any(|journal| journal.entries.iter().any(names))
    }

    fn has_head(&self, state: &State, slab: usize, distance: usize) -> bool {
        let Some(head) = slab.checked_sub(distance) else {
            return false;
        };
        let grows =
            |entry: &Entry| matches!(*entry, Entry::GrowSpan { head: h, .. } if h as usize == head);
        match state.slabs[head].word.kind {
            Kind::Span => {
                state.slabs[head].count as usize > distance
                    || state
                        .journals
                        .iter()
                        .any(|journal| journal.entries.iter().any(grows))
            }
            Kind::Reserved | Kind::Freeing => true,
            _ => false,
        }
    }
}
