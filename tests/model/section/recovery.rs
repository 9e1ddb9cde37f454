//! Resolving a dead slot's journal: undone, or its frees finished (R2, R3).

use super::*;

impl Config {
    /// The entry that ends at a position, if its bytes are still there.
    pub(super) fn entry(&self, state: &State, slot: usize, at: u8) -> Result<Entry, &'static str> {
        let journal = &state.journals[slot];
        let in_segment = at > self.inline;
        if in_segment && state.contents[journal.segment as usize - 1] != slot as u8 + 1 {
            return Err("a segment of the log was overwritten");
        }
        Ok(journal.entries[at as usize - 1])
    }

    /// `resolve_journal`.
    pub(super) fn begin_journal(&self, state: &mut State, thread: usize) {
        let journal = &state.journals[state.acting(thread)];
        let this = &mut state.threads[thread];
        this.at = journal.log;
        this.pc = match journal.log {
            0 => Pc::ClearDoubt,
            _ if journal.committed => Pc::Free,
            _ => Pc::Undo,
        };
    }

    /// `replay::roll_back`: each entry is undone, then taken off the log.
    pub(super) fn roll_back(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let dead = state.acting(thread);
        let mut next = state.clone();
        if now.pc == Pc::TakeOff {
            let this = &mut next.threads[thread];
            this.at -= 1;
            this.pc = match this.at {
                0 => Pc::ClearDoubt,
                _ => Pc::Undo,
            };
            if !self.is(Mutant::KeepLog) {
                let journal = &mut next.journals[dead];
                journal.log -= 1;
                journal.entries[journal.log as usize] = Entry::None;
                if journal.log == 0 {
                    self.empty(journal);
                }
            } else if now.at == 1 {
                next.threads[thread].pc = Pc::Empty;
            }
            return steps.add(thread, "takes the entry off the log", next);
        }
        let entry = match self.entry(state, dead, now.at) {
            Ok(entry) => entry,
            Err(why) => return steps.judge(thread, "reads the log", next, Some(why)),
        };
        let mut broken = None;
        match entry {
            Entry::Undo { word, old } => {
                next.words[word as usize] = old;
                let holder = state.locks[word as usize % LOCKS];
                if holder != tag_of(&state.slots, dead) {
                    broken = Some("undoes what the dead one has no lock for any more");
                }
            }
            Entry::UndoInside(block) => next.contents[block as usize - 1] = 0,
            Entry::Alloc(block) if state.owns(dead, place(block).0) => {
                let (slab, bit) = place(block);
                next.slabs[slab].published &= !bit;
            }
            Entry::Alloc(_) => broken = Some("a block of the journal is in another's slab"),
            Entry::Free(_) | Entry::None => {}
        }
        next.threads[thread].pc = Pc::TakeOff;
        steps.judge(thread, "undoes an entry", next, broken);
    }
}
