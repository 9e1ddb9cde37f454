//! The steps of a thread: its program, sections, and what `heap::span` does in them.

use super::*;
use crate::slots::{Life, Look, Outcome, Stage, claim, look, tag_of};

impl Config {
    pub(super) fn step(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if now.recovery.runs() && !now.recovery.acts() {
            return self.step_recovery(state, thread, steps);
        }
        match now.pc {
            Pc::Done => {}
            Pc::Attach | Pc::Link | Pc::DetachGeneration | Pc::DetachLife | Pc::DetachClaim => {
                self.attach(state, thread, steps)
            }
            Pc::LookAtLock | Pc::TakeLock | Pc::Commit | Pc::Release => {
                self.lock(state, thread, steps)
            }
            Pc::Claim | Pc::ClaimNext | Pc::ReleaseRun => self.claim_run(state, thread, steps),
            Pc::Record
            | Pc::NoteAlloc
            | Pc::Tails
            | Pc::Fill
            | Pc::RecordInside
            | Pc::NoteFree
            | Pc::Write => self.change(state, thread, steps),
            Pc::Free | Pc::FreeTails | Pc::FreeHead | Pc::Empty => self.free(state, thread, steps),
            Pc::Undo | Pc::UndoGrowth | Pc::TakeOff => self.roll_back(state, thread, steps),
            Pc::ReleaseReserved => self.release_reserved(state, thread, steps),
            Pc::Reap => self.reap(state, thread, steps),
        }
    }

    pub(super) fn kill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if state.kills == 0 || matches!(now.pc, Pc::Done | Pc::Attach) {
            return;
        }
        let mut next = state.clone();
        next.kills -= 1;
        let slot = &mut next.slots[now.slot as usize];
        if slot.claim == now.claim(thread) && slot.life == Life::Alive {
            slot.life = Life::Dead;
        }
        next.threads[thread] = Thread {
            incarnation: now.incarnation + 1,
            ..Thread::default()
        };
        self.begin_op(&mut next, thread);
        steps.add(thread, "IS KILLED", next);
    }

    pub(super) fn next_op(&self, state: &mut State, thread: usize) {
        let this = &mut state.threads[thread];
        (this.run, this.from, this.to) = (0, 0, 0);
        this.op += 1;
        self.begin_op(state, thread);
    }

    pub(super) fn begin_op(&self, state: &mut State, thread: usize) {
        let op = self.op(state, thread);
        let this = &mut state.threads[thread];
        this.tried = 0;
        this.pc = match op {
            None => {
                let incarnation = this.incarnation;
                *this = Thread {
                    incarnation,
                    ..Thread::default()
                };
                Pc::Done
            }
            Some(Op::Attach) => Pc::Attach,
            Some(Op::Lock(_)) => Pc::LookAtLock,
            Some(Op::Replace(..) | Op::Clear(_) | Op::Grow(_)) => Pc::Record,
            Some(Op::End) => Pc::Commit,
            Some(Op::Reap) => Pc::Reap,
            Some(Op::Detach) => Pc::DetachGeneration,
        };
    }

    /// Attaching and detaching; a thread that detaches has no slab of its own here.
    fn attach(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.slot as usize;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Attach => {
                let free = (0..SLOTS).find(|&slot| state.slots[slot].is_free(self.mutant));
                let Some(slot) = free else {
                    this.pc = Pc::Done;
                    return steps.add(thread, "finds no slot, and gives up", next);
                };
                (this.slot, this.pc) = (slot as u8, Pc::Link);
                claim(&mut next.slots, slot, now.claim(thread), self.mutant);
                "claims a slot"
            }
            Pc::Link => {
                next.slots[slot].life = Life::Alive;
                this.tag = tag_of(&next.slots, slot);
                self.next_op(&mut next, thread);
                "links its life word"
            }
            Pc::DetachGeneration => {
                next.slots[slot].generation += 1;
                this.pc = Pc::DetachLife;
                "raises its generation"
            }
            Pc::DetachLife => {
                next.slots[slot].life = Life::Nobody;
                this.pc = Pc::DetachClaim;
                "clears its life word"
            }
            _ => {
                next.slots[slot].claim = Claim::NONE;
                self.next_op(&mut next, thread);
                "clears its claim"
            }
        };
        steps.add(thread, name, next);
    }

    fn lock(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        match (now.pc, self.op(state, thread)) {
            (Pc::LookAtLock, Some(Op::Lock(lock))) => {
                let word = state.locks[lock as usize];
                match look(&state.slots, word, now.tag) {
                    Look::Free => {
                        (this.read, this.pc) = (word, Pc::TakeLock);
                        steps.add(thread, "finds the lock free", next);
                    }
                    Look::Dead(holder) => {
                        this.recovery = Recovery::begin(holder, false);
                        this.back = Pc::LookAtLock;
                        self.step_recovery(&next, thread, steps);
                    }
                    Look::Held => {}
                    Look::Mine => {
                        let broken = Some("a lock names a thread that does not hold it");
                        steps.judge(thread, "finds its own name in the lock", next, broken);
                    }
                }
            }
            (Pc::TakeLock, Some(Op::Lock(lock))) => {
                let read = std::mem::take(&mut this.read);
                if state.locks[lock as usize] != read {
                    this.pc = Pc::LookAtLock;
                    return steps.add(thread, "does not get the lock", next);
                }
                this.held |= 1 << lock;
                next.locks[lock as usize] = now.tag;
                self.next_op(&mut next, thread);
                steps.add(thread, "takes the lock", next);
            }
            (Pc::Commit, _) => {
                let journal = &mut next.journals[now.slot as usize];
                let frees = |entry: &Entry| matches!(entry, Entry::FreeSpan { .. });
                this.at = 0;
                if journal.entries.iter().any(frees) {
                    journal.committed = true;
                    this.at = journal.log;
                } else {
                    *journal = Journal::default();
                }
                this.pc = Pc::Release;
                steps.add(thread, "commits", next);
            }
            _ => {
                let lock = now.held.ilog2() as usize;
                this.held &= !(1 << lock);
                next.locks[lock] = Tag::NOBODY;
                if this.held == 0 {
                    this.pc = Pc::Free;
                    if !state.journals[now.slot as usize].committed {
                        self.next_op(&mut next, thread);
                    }
                }
                steps.add(thread, "releases a lock", next);
            }
        }
    }

    pub(super) fn step_recovery(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let by = state.threads[thread].tag;
        let recovery = &mut next.threads[thread].recovery;
        match recovery.step(&mut next.slots, by, self.mutant) {
            Outcome::Blocked => {}
            Outcome::Went(name) => {
                match next.threads[thread].recovery.stage {
                    Stage::Journal => self.begin_journal(&mut next, thread),
                    Stage::Rest => next.threads[thread].pc = Pc::ReleaseReserved,
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

    /// `Mapping::claim_run`, from any place where the slabs are free: one compare-and-swap each.
    fn claim_run(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let (count, behind) = match self.op(state, thread) {
            Some(Op::Replace(_, count)) => (count as usize, None),
            Some(Op::Grow(lock)) => {
                let head = state.cells[lock as usize].head();
                (1, Some(head + state.slabs[head].count as usize))
            }
            other => unreachable!("no run is claimed in {other:?}"),
        };
        let is_free = |slab: usize| slab < SLABS && state.slabs[slab].word.kind == Kind::Free;
        let mut next = state.clone();
        match now.pc {
            Pc::Claim => {
                let mut any = false;
                for first in 0..SLABS {
                    let wanted = behind.is_none_or(|behind| behind == first);
                    if !wanted || !(first..first + count).all(is_free) {
                        continue;
                    }
                    let mut next = state.clone();
                    next.threads[thread].run = first as u8 + 1;
                    self.reserve(&mut next, thread, first);
                    steps.add(thread, "reserves a slab", next);
                    any = true;
                }
                if any {
                    return;
                }
                let dead = (0..SLOTS).find(|&slot| {
                    state.slots[slot].life == Life::Dead && now.tried & 1 << slot == 0
                });
                if let Some(dead) = dead {
                    let this = &mut next.threads[thread];
                    this.tried |= 1 << dead;
                    this.back = Pc::Claim;
                    this.recovery = Recovery::begin(dead, true);
                    return self.step_recovery(&next, thread, steps);
                }
                self.without_memory(&mut next, thread);
                steps.add(thread, "finds no memory", next);
            }
            Pc::ClaimNext => {
                let slab = now.run as usize - 1 + now.from as usize;
                if is_free(slab) {
                    self.reserve(&mut next, thread, slab);
                    return steps.add(thread, "reserves a slab", next);
                }
                next.threads[thread].pc = Pc::ReleaseRun;
                self.claim_run(&next, thread, steps);
            }
            _ => {
                let this = &mut next.threads[thread];
                this.from -= 1;
                let slab = now.run as usize - 1 + this.from as usize;
                if this.from == 0 {
                    (this.pc, this.run) = (Pc::Claim, 0);
                }
                let word = &mut next.slabs[slab].word;
                *word = word.next(Kind::Free, 0);
                steps.add(thread, "frees a slab that it reserved", next);
            }
        }
    }

    fn reserve(&self, state: &mut State, thread: usize, slab: usize) {
        let op = self.op(state, thread);
        let this = &mut state.threads[thread];
        let word = &mut state.slabs[slab].word;
        *word = word.next(Kind::Reserved, this.slot);
        this.from += 1;
        this.pc = match op {
            Some(Op::Replace(_, count)) if this.from < count => Pc::ClaimNext,
            Some(Op::Replace(_, count)) => {
                (this.from, this.to) = (1, count);
                // `claim_span` notes the length as soon as the run is claimed.
                state.slabs[this.run as usize - 1].count = count;
                match self.is(Mutant::SpanUnnamed) {
                    true => Pc::Tails,
                    false => Pc::NoteAlloc,
                }
            }
            _ => Pc::NoteAlloc,
        };
    }

    fn without_memory(&self, state: &mut State, thread: usize) {
        let op = self.op(state, thread);
        state.threads[thread].tried = 0;
        match op {
            Some(Op::Replace(lock, _)) if state.cells[lock as usize].span != 0 => {
                state.threads[thread].pc = Pc::NoteFree;
            }
            _ => self.next_op(state, thread),
        }
    }

    /// The operations on a cell, in the order of J1.
    fn change(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let op = self.op(state, thread).expect("an operation is at hand");
        let (lock, grows) = match op {
            Op::Replace(lock, _) | Op::Clear(lock) => (lock as usize, false),
            Op::Grow(lock) => (lock as usize, true),
            other => unreachable!("{other:?} changes nothing"),
        };
        let old = state.cells[lock];
        let run = (now.run as usize).wrapping_sub(1);
        let mine = token(thread, now.incarnation);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Record => {
                this.pc = match op {
                    Op::Replace(..) => Pc::Claim,
                    Op::Grow(_) if old.span != 0 => Pc::Claim,
                    Op::Clear(_) if old.span != 0 => Pc::NoteFree,
                    _ => {
                        self.next_op(&mut next, thread);
                        return steps.add(thread, "finds nothing to change", next);
                    }
                };
                let cell = lock as u8;
                self.append(&mut next, thread, Entry::Undo { cell, old });
                "records the cell"
            }
            Pc::NoteAlloc if grows => {
                let head = old.head();
                let before = state.slabs[head].count;
                (this.run, this.from, this.to) = (old.span, before, before + 1);
                this.pc = Pc::Tails;
                let entry = Entry::GrowSpan {
                    head: head as u8,
                    before,
                    after: before + 1,
                };
                self.append(&mut next, thread, entry);
                "notes the growth"
            }
            Pc::NoteAlloc => {
                this.pc = match self.is(Mutant::SpanUnnamed) {
                    true => Pc::Fill,
                    false => Pc::Tails,
                };
                let entry = Entry::AllocSpan {
                    head: run as u8,
                    count: now.to,
                    claimed: state.slabs[run].word.generation,
                };
                self.append(&mut next, thread, entry);
                "notes the span that it allocates"
            }
            Pc::Tails if now.from < now.to => {
                this.from += 1;
                let slab = &mut next.slabs[run + now.from as usize];
                slab.kept = slab.word.generation;
                slab.word = Word {
                    kind: Kind::Tail,
                    slot: 0,
                    generation: now.from,
                };
                "makes a slab a tail"
            }
            Pc::Tails if grows => {
                next.slabs[run].count = now.to;
                this.pc = Pc::Fill;
                "makes the span longer"
            }
            Pc::Tails => {
                let word = &mut next.slabs[run].word;
                *word = word.next(Kind::Span, 0);
                this.pc = match self.is(Mutant::SpanUnnamed) {
                    true => Pc::NoteAlloc,
                    false => Pc::Fill,
                };
                "publishes the span"
            }
            Pc::Fill => {
                let from = if grows { old.len as usize } else { 0 };
                for slab in &mut next.slabs[run + from..run + now.to as usize] {
                    slab.token = if grows { old.token } else { mine };
                }
                this.pc = Pc::RecordInside;
                "fills the new slabs"
            }
            Pc::RecordInside => {
                let slab = run + now.to as usize - 1;
                let old_token = state.slabs[slab].token;
                this.pc = match op {
                    Op::Replace(..) if old.span != 0 => Pc::NoteFree,
                    _ => Pc::Write,
                };
                let entry = Entry::UndoInside {
                    slab: slab as u8,
                    old: old_token,
                };
                self.append(&mut next, thread, entry);
                "records bytes inside the new slabs"
            }
            Pc::NoteFree => {
                this.pc = Pc::Write;
                let entry = Entry::FreeSpan {
                    head: old.head() as u8,
                    exact: state.slabs[old.head()].word,
                };
                self.append(&mut next, thread, entry);
                "notes the span to free"
            }
            _ => {
                let without = state.locks[lock] != now.tag;
                next.cells[lock] = match op {
                    Op::Grow(_) => Cell { len: now.to, ..old },
                    Op::Replace(..) if now.run != 0 => Cell {
                        span: now.run,
                        len: now.to,
                        token: mine,
                    },
                    _ => Cell::default(),
                };
                self.next_op(&mut next, thread);
                let broken = without.then_some("writes without the lock");
                return steps.judge(thread, "writes the cell", next, broken);
            }
        };
        steps.add(thread, name, next);
    }

    fn append(&self, state: &mut State, thread: usize, entry: Entry) {
        let journal = &mut state.journals[state.threads[thread].slot as usize];
        journal.entries[journal.log as usize] = entry;
        journal.log += 1;
    }

    fn reap(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let dead = (0..SLOTS)
            .find(|&slot| state.slots[slot].life == Life::Dead && this.tried & 1 << slot == 0);
        match dead {
            Some(dead) => {
                this.tried |= 1 << dead;
                this.back = Pc::Reap;
                this.recovery = Recovery::begin(dead, true);
                self.step_recovery(&next, thread, steps);
            }
            None => {
                self.next_op(&mut next, thread);
                steps.add(thread, "has reaped", next);
            }
        }
    }
}
