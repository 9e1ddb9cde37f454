//! Small blocks: the cache, drains, adoption, the frees of a committed section.

use super::*;
use crate::slots::Stage;

impl Config {
    /// Takes a block out of the cache, if there is one; otherwise the next step is a refill.
    pub(super) fn take(&self, state: &mut State, thread: usize) {
        let op = self.op(state, thread);
        let this = &mut state.threads[thread];
        let Some(slab) = (0..SLABS).find(|&slab| this.cache[slab] != 0) else {
            this.pc = Pc::Take;
            return;
        };
        let bit = this.cache[slab] & this.cache[slab].wrapping_neg();
        this.cache[slab] &= !bit;
        this.block = block_at(slab, bit);
        this.tried = 0;
        this.pc = match op {
            Some(Op::Temporary) => Pc::NoteAlloc,
            _ => Pc::Record,
        };
    }

    /// `Cache::refill`: own slabs that others freed in, abandoned slabs, free ones; at last those
    /// of the dead (`Writer::or_reclaim`). In any order, each once.
    pub(super) fn refill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.slot as usize;
        let mut any = false;
        for slab in 0..SLABS {
            let stored = state.slabs[slab];
            if now.tried & 1 << slab != 0 {
                continue;
            }
            let mut next = state.clone();
            let this = &mut next.threads[thread];
            this.tried |= 1 << slab;
            this.slab = slab as u8;
            this.pc = Pc::DrainRead;
            this.behind = Pc::Take;
            match stored.owner {
                Owner::Slot(owner) if owner as usize == slot && stored.remote != 0 => {
                    self.drain(&next, thread, steps);
                }
                Owner::Abandoned if stored.published & !stored.remote != WHOLE => {
                    next.slabs[slab].owner = Owner::Slot(slot as u8);
                    steps.add(thread, "adopts a slab", next);
                }
                Owner::Free => {
                    this.cache[slab] = WHOLE;
                    next.slabs[slab].owner = Owner::Slot(slot as u8);
                    self.take(&mut next, thread);
                    steps.add(thread, "claims a free slab", next);
                }
                _ => continue,
            }
            any = true;
        }
        if any {
            return;
        }
        let mut next = state.clone();
        let dead = (0..SLOTS).find(|&dead| {
            let owns = (0..SLABS).any(|slab| state.owns(dead, slab));
            state.is_dead(dead) && owns && now.tried & 1 << (SLABS + dead) == 0
        });
        let this = &mut next.threads[thread];
        if let Some(dead) = dead {
            this.tried |= 1 << (SLABS + dead);
            this.tried &= !((1 << SLABS) - 1);
            this.back = Pc::Take;
            this.recovery = Recovery::begin(dead, true);
            return self.step_recovery(&next, thread, steps);
        }
        this.tried = 0;
        if matches!(self.op(state, thread), Some(Op::Temporary)) {
            self.next_op(&mut next, thread);
        } else {
            this.pc = Pc::Record;
        }
        steps.add(thread, "finds no memory", next);
    }

    /// `Mapping::drain`: remote bits, then all doubt words, then the two bitmaps (J9, H4).
    pub(super) fn drain(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slab = now.slab as usize;
        let acting = state.acting(thread);
        let mut next = state.clone();
        match now.pc {
            Pc::DrainRead => {
                let bits = state.slabs[slab].remote;
                next.threads[thread].bits = bits;
                next.threads[thread].pc = match self.is(Mutant::NoDoubtCheck) {
                    true => Pc::DrainPublished,
                    false => Pc::DrainDoubts,
                };
                if bits == 0 {
                    self.drained(&mut next, thread);
                }
                steps.add(thread, "drains: reads the remote bits", next);
            }
            Pc::DrainDoubts => {
                let doubt = state.journals[now.look as usize].doubt;
                let this = &mut next.threads[thread];
                if doubt != 0 && place(doubt).0 == slab {
                    this.bits &= !place(doubt).1;
                }
                this.look += 1;
                if this.look as usize == SLOTS {
                    this.look = 0;
                    this.pc = Pc::DrainPublished;
                    if this.bits == 0 {
                        self.drained(&mut next, thread);
                    }
                }
                steps.add(thread, "drains: looks at a doubt word", next);
            }
            Pc::DrainPublished => {
                next.slabs[slab].published &= !now.bits;
                next.threads[thread].pc = Pc::DrainRemote;
                let broken = (!state.owns(acting, slab)).then_some("drains another's slab");
                steps.judge(thread, "drains: clears published bits", next, broken);
            }
            _ => {
                next.slabs[slab].remote &= !now.bits;
                self.drained(&mut next, thread);
                steps.add(thread, "drains: clears remote bits", next);
            }
        }
    }

    /// A drain is over. Whatever is not published in a slab of the living is theirs to give out.
    fn drained(&self, state: &mut State, thread: usize) {
        let slab = state.threads[thread].slab as usize;
        let segment = state.threads[thread].segment;
        let this = &mut state.threads[thread];
        (this.bits, this.look) = (0, 0);
        this.pc = std::mem::take(&mut this.behind);
        if this.pc == Pc::Take {
            let mut free = !state.slabs[slab].published & WHOLE;
            if segment != 0 && place(segment).0 == slab {
                free &= !place(segment).1;
            }
            this.cache[slab] = free;
            this.slab = 0;
            self.take(state, thread);
        }
    }

    /// `Mapping::give_up_slab` for each slab of the slot, by its thread or its recoverer (R6).
    pub(super) fn give_up(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let acting = state.acting(thread);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        if this.pc == Pc::GiveUp {
            let slab = this.slab as usize;
            let stored = state.slabs[slab];
            this.slab += 1;
            this.pc = Pc::Slabs;
            next.slabs[slab].owner = match stored.published | stored.remote {
                0 => Owner::Free,
                _ => Owner::Abandoned,
            };
            self.skip_slabs(&mut next, thread);
            let broken = (!state.owns(acting, slab)).then_some("gives another's slab up");
            return steps.judge(thread, "gives a slab up", next, broken);
        }
        let slab = (this.slab as usize..SLABS).find(|&slab| state.owns(acting, slab));
        let Some(slab) = slab else {
            self.skip_slabs(&mut next, thread);
            return steps.add(thread, "has given all slabs up", next);
        };
        this.slab = slab as u8;
        this.pc = Pc::DrainRead;
        this.behind = Pc::GiveUp;
        self.drain(&next, thread, steps);
    }

    /// Goes on behind the slabs, if none is left.
    fn skip_slabs(&self, state: &mut State, thread: usize) {
        let acting = state.acting(thread);
        let from = state.threads[thread].slab as usize;
        if (from..SLABS).any(|slab| state.owns(acting, slab)) {
            return;
        }
        let this = &mut state.threads[thread];
        this.slab = 0;
        if this.recovery.acts() {
            this.recovery.stage = Stage::Claim;
            this.pc = this.back;
        } else {
            this.pc = Pc::DetachGeneration;
        }
    }

    /// The frees of a committed section, from the last to the first, by its thread (`Ctx::finish`)
    /// or by its recoverer (`replay::finish`); then the end of the journal (J8).
    pub(super) fn free(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let acting = state.acting(thread);
        let journal = &state.journals[acting];
        let mut next = state.clone();
        match now.pc {
            Pc::Free => {
                let left = |at: &u8| journal.done == 0 || *at < journal.done;
                let found = (1..=now.at).rev().filter(left).find_map(|at| {
                    match self.entry(state, acting, at) {
                        Ok(Entry::Free(block)) => Some((at, block)),
                        _ => None,
                    }
                });
                let Some((at, block)) = found else {
                    next.threads[thread].pc = match self.is(Mutant::DoneClearedFirst) {
                        true if !now.recovery.acts() && journal.done != 0 => Pc::ClearDone,
                        _ => Pc::Empty,
                    };
                    return self.free(&next, thread, steps);
                };
                next.threads[thread].at = at;
                if state.owns(acting, place(block).0) {
                    let (slab, bit) = place(block);
                    let freed = self.free_block(&mut next, acting, block);
                    next.threads[thread].at -= 1;
                    if !now.recovery.acts() {
                        next.threads[thread].cache[slab] |= bit;
                    }
                    let twice = !freed && !now.recovery.acts();
                    let broken = twice.then_some("frees a block that is free");
                    return steps.judge(thread, "frees a block of its own slab", next, broken);
                }
                next.threads[thread].pc = match now.late {
                    0 => Pc::FreeRemotely,
                    _ => Pc::CountLate,
                };
                if !self.is(Mutant::NoDoubt) {
                    next.journals[acting].doubt = block;
                }
                steps.add(thread, "says which block is in doubt", next);
            }
            Pc::FreeRemotely => {
                if let Ok(Entry::Free(block)) = self.entry(state, acting, now.at) {
                    self.free_block(&mut next, acting, block);
                }
                let this = &mut next.threads[thread];
                this.pc = Pc::Count;
                if self.is(Mutant::DoneLate) {
                    (this.late, this.pc) = (now.at, Pc::Free);
                    this.at -= 1;
                }
                steps.add(thread, "frees a block of another's slab", next);
            }
            Pc::Count => {
                next.journals[acting].done = now.at;
                next.threads[thread].at -= 1;
                next.threads[thread].pc = Pc::Free;
                steps.add(thread, "counts the free", next);
            }
            Pc::CountLate => {
                next.journals[acting].done = now.late;
                next.threads[thread].late = 0;
                next.threads[thread].pc = Pc::FreeRemotely;
                steps.add(thread, "counts the free before", next);
            }
            Pc::Empty => {
                self.empty(&mut next.journals[acting]);
                (next.threads[thread].at, next.threads[thread].late) = (0, 0);
                next.threads[thread].pc = Pc::ClearDoubt;
                if journal.doubt == 0 && !now.recovery.acts() {
                    self.forget_done(&mut next, thread);
                }
                steps.add(thread, "empties the log", next);
            }
            Pc::ClearDone => {
                next.journals[acting].done = 0;
                match journal.log {
                    0 => self.next_op(&mut next, thread),
                    _ => next.threads[thread].pc = Pc::Empty,
                }
                steps.add(thread, "forgets which frees were done", next);
            }
            _ => {
                next.journals[acting].doubt = 0;
                let this = &mut next.threads[thread];
                if this.recovery.acts() {
                    this.recovery.stage = Stage::Generation;
                    this.pc = this.back;
                } else {
                    self.forget_done(&mut next, thread);
                }
                steps.add(thread, "clears the doubt", next);
            }
        }
    }

    /// What comes behind an empty log, for its own thread: `done` is cleared.
    fn forget_done(&self, state: &mut State, thread: usize) {
        let slot = state.threads[thread].slot as usize;
        if state.journals[slot].done == 0 || self.is(Mutant::DoneKept) {
            return self.next_op(state, thread);
        }
        state.threads[thread].pc = Pc::ClearDone;
    }

    /// Frees a block on behalf of a slot. Says whether it was given out.
    pub(super) fn free_block(&self, state: &mut State, slot: usize, block: u8) -> bool {
        let (slab, bit) = place(block);
        let owned = state.owns(slot, slab);
        let stored = &mut state.slabs[slab];
        let was = stored.published & !stored.remote & bit != 0;
        match owned {
            true => stored.published &= !bit,
            false => stored.remote |= bit,
        }
        was
    }
}
