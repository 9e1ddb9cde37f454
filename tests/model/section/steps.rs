//! The steps of a thread: its program, sections and locks.

use super::*;
use crate::slots::{Look, Outcome, Stage, claim, look};

impl Config {
    /// What a thread can do next.
    pub(super) fn step(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if now.recovery.runs() && !now.recovery.acts() {
            return self.step_recovery(state, thread, steps);
        }
        let mut next = state.clone();
        match now.pc {
            Pc::Done => {}
            Pc::Attach => {
                let Some(slot) = (0..SLOTS).find(|&slot| state.slots[slot].is_free(self.mutant))
                else {
                    next.threads[thread].pc = Pc::Done;
                    return steps.add(thread, "finds no slot, and gives up", next);
                };
                let mine = Claim::of(thread, now.incarnation);
                claim(&mut next.slots, slot, mine, self.mutant);
                if !self.is(Mutant::ClaimKeepsDone) {
                    next.journals[slot].done = 0;
                }
                next.threads[thread].slot = slot as u8;
                next.threads[thread].pc = Pc::Link;
                steps.add(thread, "claims a slot", next);
            }
            Pc::Link => {
                let slot = now.slot as usize;
                next.slots[slot].life = Life::Alive;
                next.threads[thread].tag = tag_of(&next.slots, slot);
                self.next_op(&mut next, thread);
                steps.add(thread, "links its life word", next);
            }
            Pc::LookAtLock => self.look_at_lock(state, thread, steps),
            Pc::Sleep => {
                if state.locks[self.lock_at(state, thread)] == now.read {
                    return;
                }
                next.threads[thread].pc = Pc::LookAtLock;
                steps.add(thread, "wakes up", next);
            }
            Pc::TakeLock => {
                let lock = self.lock_at(state, thread);
                next.threads[thread].read = Tag::NOBODY;
                if state.locks[lock] != now.read {
                    next.threads[thread].pc = Pc::LookAtLock;
                    return steps.add(thread, "does not get the lock", next);
                }
                next.locks[lock] = now.tag;
                next.threads[thread].held |= 1 << lock;
                self.next_op(&mut next, thread);
                steps.add(thread, "takes the lock", next);
            }
            Pc::Record | Pc::NoteAlloc | Pc::Publish | Pc::NoteFree | Pc::Write => {
                self.change(state, thread, steps)
            }
            Pc::RecordInside | Pc::FreeFresh => self.change(state, thread, steps),
            Pc::Commit => {
                self.commit(&mut next, thread);
                steps.add(thread, "commits", next);
            }
            Pc::Release => {
                let lock = now.held.ilog2() as usize;
                let broken = self.release(&mut next, thread, lock);
                if next.threads[thread].held == 0 {
                    next.threads[thread].pc = match self.is(Mutant::ReleaseFirst) {
                        true => Pc::Commit,
                        false => Pc::Free,
                    };
                    self.skip_frees(&mut next, thread);
                }
                steps.judge(thread, "releases a lock", next, broken);
            }
            Pc::Take => self.refill(state, thread, steps),
            Pc::Free
            | Pc::FreeRemotely
            | Pc::Count
            | Pc::CountLate
            | Pc::Empty
            | Pc::ClearDoubt
            | Pc::ClearDone => self.free(state, thread, steps),
            Pc::DrainRead | Pc::DrainDoubts | Pc::DrainPublished | Pc::DrainRemote => {
                self.drain(state, thread, steps)
            }
            Pc::Slabs | Pc::GiveUp => self.give_up(state, thread, steps),
            Pc::Undo | Pc::TakeOff => self.roll_back(state, thread, steps),
            Pc::DetachGeneration | Pc::DetachLife | Pc::DetachClaim => {
                self.detach(state, thread, steps)
            }
            Pc::Reap | Pc::ReapClaims => self.reap(state, thread, steps),
        }
    }

    /// SIGKILL: the kernel marks the life word, and what is private is gone.
    pub(super) fn kill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if state.kills == 0 || matches!(now.pc, Pc::Done | Pc::Attach) {
            return;
        }
        let mut next = state.clone();
        next.kills -= 1;
        if state.slots[now.slot as usize].claim == Claim::of(thread, now.incarnation)
            && state.slots[now.slot as usize].life == Life::Alive
        {
            next.slots[now.slot as usize].life = Life::Dead;
        }
        next.threads[thread] = Thread {
            incarnation: now.incarnation + 1,
            ..Thread::default()
        };
        self.begin_op(&mut next, thread);
        steps.add(thread, "IS KILLED", next);
    }

    pub(super) fn next_op(&self, state: &mut State, thread: usize) {
        state.threads[thread].op += 1;
        self.begin_op(state, thread);
    }

    /// Sets a thread to the first step of the operation at hand.
    pub(super) fn begin_op(&self, state: &mut State, thread: usize) {
        let pc = match self.op(state, thread) {
            None => {
                state.threads[thread] = Thread {
                    incarnation: state.threads[thread].incarnation,
                    ..Thread::default()
                };
                Pc::Done
            }
            Some(Op::Attach) => Pc::Attach,
            Some(Op::Lock(_)) => Pc::LookAtLock,
            Some(Op::DropGuard(lock)) => {
                if self.is(Mutant::ReleaseEarly) {
                    self.release(state, thread, lock as usize);
                }
                return self.next_op(state, thread);
            }
            Some(Op::Toggle(_)) if self.is(Mutant::RecordLate) => Pc::Write,
            Some(Op::Toggle(_) | Op::Clear(_)) => Pc::Record,
            Some(Op::Replace(_) | Op::Temporary) => {
                state.threads[thread].tried = 0;
                return self.take(state, thread);
            }
            Some(Op::End) if self.is(Mutant::ReleaseFirst) => Pc::Release,
            Some(Op::Commit | Op::End) => Pc::Commit,
            Some(Op::Reap) => {
                state.threads[thread].tried = 0;
                Pc::Reap
            }
            Some(Op::Detach) => {
                let this = &mut state.threads[thread];
                this.cache = [0; SLABS];
                (this.segment, this.slab) = (0, 0);
                Pc::Slabs
            }
        };
        state.threads[thread].pc = pc;
    }

    fn lock_at(&self, state: &State, thread: usize) -> usize {
        match self.op(state, thread) {
            Some(Op::Lock(lock)) => lock as usize,
            other => unreachable!("no lock is taken in {other:?}"),
        }
    }

    /// `Taker::take_loop`. A sleep is a step that cannot be taken until what it watches changes.
    fn look_at_lock(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let lock = self.lock_at(state, thread);
        let word = state.locks[lock];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        match look(&state.slots, word, this.tag) {
            Look::Free => {
                this.read = word;
                this.pc = Pc::TakeLock;
                steps.add(thread, "finds the lock free", next);
            }
            Look::Mine => {
                let broken = Some("a lock names a thread that does not hold it");
                steps.judge(thread, "finds its own name in the lock", next, broken);
            }
            _ if self.is(Mutant::NoLifeWord) => {
                this.read = word;
                this.pc = Pc::Sleep;
                steps.add(thread, "falls asleep on the lock alone", next);
            }
            Look::Dead(holder) => {
                this.back = Pc::LookAtLock;
                this.recovery = Recovery::begin(holder, false);
                self.step_recovery(&next, thread, steps);
            }
            Look::Held => {}
        }
    }

    /// The steps of recovery that all models share.
    pub(super) fn step_recovery(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let by = state.threads[thread].tag;
        let recovery = &mut next.threads[thread].recovery;
        match recovery.step(&mut next.slots, by, self.mutant) {
            Outcome::Blocked => {}
            Outcome::Went(name) => {
                match next.threads[thread].recovery.stage {
                    Stage::Journal => self.begin_journal(&mut next, thread),
                    Stage::Rest => {
                        next.threads[thread].slab = 0;
                        next.threads[thread].pc = Pc::Slabs;
                    }
                    _ => {}
                }
                steps.add(thread, name, next);
            }
            Outcome::Over(name) => {
                let this = &mut next.threads[thread];
                this.pc = std::mem::take(&mut this.back);
                steps.add(thread, name, next);
            }
        }
    }

    /// Record, allocate, write (J1): the operations on what a lock guards.
    fn change(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.slot as usize;
        let op = self.op(state, thread).expect("an operation is at hand");
        let (word, is_cell) = match op {
            Op::Toggle(lock) => (LOCKS + lock as usize, false),
            Op::Replace(cell) | Op::Clear(cell) => (cell as usize, true),
            _ => (0, false),
        };
        let old = state.words[word];
        let frees = is_cell && old != 0;
        let mut next = state.clone();
        if self.is_log_full(state, thread) && matches!(now.pc, Pc::Record | Pc::NoteAlloc) {
            return self.grow_log(state, thread, steps);
        }
        let name = match now.pc {
            Pc::Record => {
                self.append(
                    &mut next,
                    thread,
                    Entry::Undo {
                        word: word as u8,
                        old,
                    },
                );
                next.threads[thread].pc = match is_cell {
                    false => Pc::Write,
                    true if now.block != 0 => Pc::NoteAlloc,
                    true if frees => Pc::NoteFree,
                    true => Pc::Write,
                };
                if self.is(Mutant::RecordLate) && !is_cell {
                    self.next_op(&mut next, thread);
                }
                "records what it will overwrite"
            }
            Pc::NoteAlloc => {
                self.append(&mut next, thread, Entry::Alloc(now.block));
                next.threads[thread].pc = Pc::Publish;
                "notes the block that it allocates"
            }
            Pc::Publish => {
                let (slab, bit) = place(now.block);
                next.slabs[slab].published |= bit;
                next.contents[now.block as usize - 1] = 0;
                next.threads[thread].pc = match op {
                    Op::Temporary => Pc::RecordInside,
                    _ if frees => Pc::NoteFree,
                    _ => Pc::Write,
                };
                let broken = (!state.owns(slot, slab)).then_some("publishes in another's slab");
                return steps.judge(thread, "publishes the block", next, broken);
            }
            Pc::NoteFree if self.is(Mutant::FreeFirst) => {
                self.free_block(&mut next, slot, old);
                next.threads[thread].pc = Pc::Write;
                "frees the old block at once"
            }
            Pc::NoteFree => {
                self.append(&mut next, thread, Entry::Free(old));
                next.threads[thread].pc = Pc::Write;
                "notes the block to free"
            }
            Pc::Write => {
                let without = state.locks[word % LOCKS] != now.tag;
                next.words[word] = match is_cell {
                    true => now.block,
                    false => old ^ 1,
                };
                next.threads[thread].block = 0;
                if self.is(Mutant::RecordLate) && !is_cell {
                    next.threads[thread].pc = Pc::Record;
                } else {
                    self.next_op(&mut next, thread);
                }
                let broken = without.then_some("writes without the lock");
                return steps.judge(thread, "writes", next, broken);
            }
            Pc::RecordInside => {
                self.append(&mut next, thread, Entry::UndoInside(now.block));
                next.threads[thread].pc = Pc::FreeFresh;
                "records bytes inside the fresh block"
            }
            Pc::FreeFresh => {
                let (slab, bit) = place(now.block);
                next.slabs[slab].published &= !bit;
                next.threads[thread].cache[slab] |= bit;
                next.threads[thread].block = 0;
                self.next_op(&mut next, thread);
                "frees the fresh block at once"
            }
            _ => unreachable!("no change"),
        };
        steps.add(thread, name, next);
    }

    /// Adds an entry to the thread's log: valid at once, by the store of the position.
    fn append(&self, state: &mut State, thread: usize, entry: Entry) {
        if self.is(Mutant::NoJournal) {
            return;
        }
        let slot = state.threads[thread].slot;
        let journal = &mut state.journals[slot as usize];
        if journal.log >= self.inline {
            state.contents[journal.segment as usize - 1] = slot + 1;
        }
        journal.entries[journal.log as usize] = entry;
        journal.log += 1;
    }

    /// Whether the log needs a segment before the operation's entries (three at most).
    fn is_log_full(&self, state: &State, thread: usize) -> bool {
        let this = &state.threads[thread];
        let journal = &state.journals[this.slot as usize];
        let has_segment = this.segment != 0 && journal.segment == this.segment;
        journal.log + 3 > self.inline && !has_segment
    }

    /// `Writer::grow_log`: the segment is a block that is never published (J7). Without one, the
    /// operation fails before it changed anything.
    fn grow_log(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        if this.segment == 0 {
            let found = (0..SLABS).find(|&slab| this.cache[slab] != 0);
            let Some(slab) = found else {
                let block = std::mem::take(&mut this.block);
                if block != 0 {
                    let (slab, bit) = place(block);
                    this.cache[slab] |= bit;
                }
                self.next_op(&mut next, thread);
                return steps.add(thread, "cannot record: the operation fails", next);
            };
            let bit = this.cache[slab] & this.cache[slab].wrapping_neg();
            this.cache[slab] &= !bit;
            this.segment = block_at(slab, bit);
        }
        let segment = this.segment;
        next.journals[this.slot as usize].segment = segment;
        steps.add(thread, "gives the log a segment", next);
    }

    /// Commits: one store (J8).
    fn commit(&self, state: &mut State, thread: usize) {
        let journal = &mut state.journals[state.threads[thread].slot as usize];
        let frees = |entry: &Entry| matches!(entry, Entry::Free(_));
        let at = journal.log;
        if journal.entries[..at as usize].iter().any(frees) {
            journal.committed = true;
        } else {
            self.empty(journal);
        }
        let ends = matches!(self.op(state, thread), Some(Op::End));
        let this = &mut state.threads[thread];
        this.at = at;
        this.pc = match ends && this.held != 0 {
            true => Pc::Release,
            false => Pc::Free,
        };
        self.skip_frees(state, thread);
    }

    /// The section is over if there is nothing to free.
    fn skip_frees(&self, state: &mut State, thread: usize) {
        let this = &state.threads[thread];
        if this.pc == Pc::Free && !state.journals[this.slot as usize].committed {
            self.next_op(state, thread);
        }
    }

    pub(super) fn empty(&self, journal: &mut Journal) {
        *journal = Journal {
            doubt: journal.doubt,
            done: journal.done,
            ..Journal::default()
        };
    }

    fn release(&self, state: &mut State, thread: usize, lock: usize) -> Option<&'static str> {
        let this = &mut state.threads[thread];
        let lost = state.locks[lock] != this.tag;
        this.held &= !(1 << lock);
        state.locks[lock] = Tag::NOBODY;
        lost.then_some("releases a lock that somebody else has")
    }

    /// The end of `detach` (R6); its slabs are given up by now.
    fn detach(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let slot = state.threads[thread].slot as usize;
        match state.threads[thread].pc {
            Pc::DetachGeneration => {
                next.slots[slot].generation += 1;
                next.threads[thread].pc = Pc::DetachLife;
                steps.add(thread, "raises its generation", next);
            }
            Pc::DetachLife => {
                next.slots[slot].life = Life::Nobody;
                next.threads[thread].pc = Pc::DetachClaim;
                steps.add(thread, "clears its life word", next);
            }
            _ => {
                next.slots[slot].claim = Claim::NONE;
                next.threads[thread].slot = 0;
                next.threads[thread].tag = Tag::NOBODY;
                self.next_op(&mut next, thread);
                steps.add(thread, "clears its claim", next);
            }
        }
    }

    /// `Arena::reap`.
    fn reap(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let tried = state.threads[thread].tried;
        let untried = |slot: &usize| tried & 1 << slot == 0;
        let this = &mut next.threads[thread];
        if this.pc == Pc::Reap {
            let dead = (0..SLOTS).find(|slot| untried(slot) && state.is_dead(*slot));
            match dead {
                Some(dead) => {
                    this.tried |= 1 << dead;
                    this.back = Pc::Reap;
                    this.recovery = Recovery::begin(dead, true);
                    self.step_recovery(&next, thread, steps);
                }
                None => {
                    (this.tried, this.pc) = (0, Pc::ReapClaims);
                    self.reap(&next, thread, steps);
                }
            }
            return;
        }
        let incarnation = |thread: usize| state.threads[thread].incarnation;
        let lost = (0..SLOTS).find(|&slot| {
            let stored = &state.slots[slot];
            stored.claim != Claim::NONE
                && stored.life == Life::Nobody
                && stored.claim.is_gone(incarnation)
        });
        match lost {
            Some(slot) => {
                next.slots[slot].claim = Claim::NONE;
                steps.add(thread, "frees a claim without life", next);
            }
            None => {
                self.next_op(&mut next, thread);
                steps.add(thread, "has reaped", next);
            }
        }
    }
}
