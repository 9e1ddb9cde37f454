//! What holds in every state.

use super::*;

impl Config {
    pub(super) fn check_state(&self, state: &State) -> Result<(), String> {
        for block in 1..=BLOCKS as u8 {
            self.check_block(state, block)?;
        }
        self.check_slots(state)?;
        let data = &state.words[LOCKS..];
        if (0..LOCKS).all(|lock| state.is_free(lock)) && data[0] != data[1] {
            return Err("both locks are free, and a section took place by half".into());
        }
        Ok(())
    }

    /// A block is given out, and then one cell has it or a journal names it; or it is free, and one
    /// thread at most has it.
    fn check_block(&self, state: &State, block: u8) -> Result<(), String> {
        let (slab, bit) = place(block);
        let stored = state.slabs[slab];
        let given_out = stored.published & !stored.remote & bit != 0;
        let settled =
            |cell: &usize| state.words[*cell] == block && !self.is_open(state, *cell as u8);
        let owners = (0..LOCKS).filter(settled).count();
        if owners > 1 {
            return Err(format!("two cells have block {block}"));
        }
        if owners == 1 && !given_out {
            return Err(format!("a cell has block {block}, which is free"));
        }
        let reached = (0..LOCKS).any(|cell| state.words[cell] == block);
        if given_out && !reached && !self.is_named(state, block) {
            return Err(format!("block {block} is lost"));
        }
        let has = |thread: &&Thread| {
            let unpublished = matches!(thread.pc, Pc::Record | Pc::NoteAlloc | Pc::Publish);
            thread.cache[slab] & bit != 0
                || thread.segment == block
                || thread.block == block && unpublished
        };
        let holders = state.threads.iter().filter(has).count();
        if holders > 1 {
            return Err(format!("block {block} is in two caches"));
        }
        if holders == 1 && (stored.published | stored.remote) & bit != 0 {
            return Err(format!("block {block} is given out, and in a cache"));
        }
        Ok(())
    }

    /// Whether some open journal will undo a word.
    fn is_open(&self, state: &State, word: u8) -> bool {
        let undoes = |entry: &Entry| matches!(entry, Entry::Undo { word: w, .. } if *w == word);
        state.journals.iter().any(|journal| {
            !journal.committed && journal.entries[..journal.log as usize].iter().any(undoes)
        })
    }

    fn is_named(&self, state: &State, block: u8) -> bool {
        state.journals.iter().any(|journal| {
            (1..=journal.log).any(|at| match journal.entries[at as usize - 1] {
                Entry::Free(named) if journal.committed => {
                    named == block && (journal.done == 0 || at < journal.done)
                }
                Entry::Alloc(named) | Entry::Free(named) => !journal.committed && named == block,
                Entry::Undo { word, old } => {
                    !journal.committed && (word as usize) < LOCKS && old == block
                }
                _ => false,
            })
        })
    }

    fn check_slots(&self, state: &State) -> Result<(), String> {
        for slot in 0..SLOTS {
            let journal = &state.journals[slot];
            let free = state.slots[slot].is_free(self.mutant);
            let lives = state.slots[slot].life != Life::Nobody;
            if free && (journal.log != 0 || journal.doubt != 0) {
                return Err(format!("slot {slot} can be claimed, and is not over"));
            }
            if !lives && (0..SLABS).any(|slab| state.owns(slot, slab)) {
                return Err(format!("slabs of slot {slot} are lost"));
            }
        }
        let attached = |thread: &&Thread| !matches!(thread.pc, Pc::Done | Pc::Attach);
        let mut slots = 0u32;
        let mut recovered = 0u32;
        for thread in state.threads.iter().filter(attached) {
            if slots & 1 << thread.slot != 0 {
                return Err(format!("two threads are in slot {}", thread.slot));
            }
            slots |= 1 << thread.slot;
            if thread.recovery.acts() && recovered & 1 << thread.recovery.dead != 0 {
                return Err(format!("two recover slot {}", thread.recovery.dead));
            }
            recovered |= u32::from(thread.recovery.acts()) << thread.recovery.dead;
        }
        for thread in &state.threads {
            let lost =
                |lock: &usize| thread.held & 1 << lock != 0 && state.locks[*lock] != thread.tag;
            if (0..LOCKS).any(|lock| lost(&lock)) {
                return Err("a lock is taken from a thread that holds it".into());
            }
        }
        Ok(())
    }

    /// Everybody came to the end, and what is still claimed can be recovered or reaped.
    pub(super) fn check_terminal(&self, state: &State) -> Result<(), String> {
        if state.threads.iter().any(|thread| thread.pc != Pc::Done) {
            return Err("somebody waits for ever".into());
        }
        let incarnation = |thread: usize| state.threads[thread].incarnation;
        for slot in 0..SLOTS {
            let stored = &state.slots[slot];
            let alive = stored.life == Life::Alive;
            let lost = stored.claim != Claim::NONE
                && stored.life == Life::Nobody
                && !stored.claim.is_gone(incarnation);
            if alive || lost {
                return Err(format!("slot {slot} is lost"));
            }
        }
        Ok(())
    }
}
