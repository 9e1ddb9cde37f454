//! What a thread does next.

use super::*;
use crate::slots::{Outcome, Stage, claim};

impl Config {
    pub(super) fn begin_op(&self, state: &mut State, thread: usize) {
        let this = &mut state.threads[thread];
        let now = *this;
        *this = Thread {
            incarnation: now.incarnation,
            op: now.op,
            lives: now.lives,
            watches: now.watches,
            ..Thread::default()
        };
        this.pc = match self.op(this, thread) {
            None => return self.end(state, thread),
            Some(Op::Attach) => Pc::Attach,
            Some(Op::Section) => Pc::Open,
            Some(Op::Reap) => Pc::RecoverAll,
            Some(Op::Detach) => Pc::Detach,
        };
    }

    fn next_op(&self, state: &mut State, thread: usize) {
        state.threads[thread].op += 1;
        self.begin_op(state, thread);
    }

    /// What the kernel does when a thread ends, in whatever way: it marks the life words that bear the
    /// thread's number, of those that it watches; and opens the gates.
    fn end(&self, state: &mut State, thread: usize) {
        for slot in 0..SLOTS {
            let watched = state.threads[thread].watches & 1 << slot != 0;
            let named = state.numbers[slot] == self.number(thread);
            if watched && named && state.slots[slot].life == Life::Alive {
                state.slots[slot].life = Life::Dead;
            }
            if state.gates[slot] == thread as u8 + 1 {
                state.gates[slot] = 0;
            }
        }
        let this = &mut state.threads[thread];
        *this = Thread {
            incarnation: this.incarnation,
            ..Thread::default()
        };
    }

    pub(super) fn kill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        if state.kills == 0 || matches!(state.threads[thread].pc, Pc::Done | Pc::NoSlots) {
            return;
        }
        let mut next = state.clone();
        next.kills -= 1;
        self.end(&mut next, thread);
        next.threads[thread].incarnation += 1;
        self.begin_op(&mut next, thread);
        steps.add(thread, "IS KILLED", next);
    }

    /// Whether nobody else is in a slot's gate.
    fn is_open(&self, state: &State, slot: usize) -> bool {
        let told_apart = self.processes != Processes::Related && !self.is(Mutant::NoGate);
        state.gates[slot] == 0 || !told_apart
    }

    pub(super) fn step(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if now.recovery.runs() {
            return self.recover(state, thread, steps);
        }
        match now.pc {
            Pc::Done | Pc::NoSlots => {}
            Pc::Attach => self.attach(state, thread, steps),
            Pc::Open | Pc::Commit | Pc::Detach => self.work(state, thread, steps),
            Pc::EnterGate
            | Pc::LookAgain
            | Pc::Claim
            | Pc::LookBack
            | Pc::IsMine
            | Pc::Watch
            | Pc::Live => self.enter(state, thread, steps),
            Pc::LeaveGate | Pc::Die | Pc::ClearWord | Pc::Unwatch | Pc::Unclaim => {
                self.leave(state, thread, steps);
            }
            Pc::Lifeless | Pc::LifelessGate | Pc::LookAtLife | Pc::FreeClaim => {
                self.free_lifeless(state, thread, steps);
            }
            Pc::TakeGate
            | Pc::LookAtMark
            | Pc::WatchMark
            | Pc::Replace
            | Pc::StoreClaim
            | Pc::TakeGeneration => self.take_dead(state, thread, steps),
            Pc::OpenGate => {
                let mut next = state.clone();
                next.gates[now.at as usize] = 0;
                next.threads[thread].in_gate = false;
                self.go_on_outside(&mut next, thread);
                steps.add(thread, "leaves the gate", next);
            }
            _ => self.reap(state, thread, steps),
        }
    }

    fn work(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let slot = state.threads[thread].slot();
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match this.pc {
            Pc::Open => {
                this.pc = Pc::Commit;
                next.open[slot] = true;
                "records something"
            }
            Pc::Commit => {
                next.open[slot] = false;
                self.next_op(&mut next, thread);
                "commits"
            }
            _ => {
                (this.at, this.pc) = (slot as u8, Pc::LeaveGate);
                next.slots[slot].generation += 1;
                "raises its generation"
            }
        };
        steps.add(thread, name, next);
    }

    /// Goes through the gate of the slot at hand to `inside`, or does not.
    fn pass(&self, next: &mut State, thread: usize, inside: Pc) -> &'static str {
        let slot = next.threads[thread].at as usize;
        let open = self.is_open(next, slot);
        if open {
            next.gates[slot] = thread as u8 + 1;
        }
        let this = &mut next.threads[thread];
        (this.in_gate, this.pc) = (open, inside);
        if !open {
            this.then = this.otherwise;
            self.go_on_outside(next, thread);
            return "finds somebody in the gate";
        }
        "goes into the gate"
    }

    fn give_up(this: &mut Thread) {
        (this.then, this.pc) = (this.otherwise, Pc::OpenGate);
    }

    fn enter(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.at as usize;
        let mine = Claim::of(thread, now.incarnation);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::EnterGate => self.pass(&mut next, thread, Pc::LookAgain),
            Pc::LookAgain => {
                this.pc = Pc::Claim;
                if !self.is_free(state, slot) {
                    Self::give_up(this);
                }
                "looks again whether the slot is free"
            }
            Pc::Claim if state.slots[slot].claim == Claim::NONE => {
                this.pc = Pc::LookBack;
                claim(&mut next.slots, slot, mine, self.mutant);
                if self.is(Mutant::GateLeftEarly) {
                    next.gates[slot] = 0;
                }
                "claims the slot"
            }
            Pc::Claim => {
                Self::give_up(this);
                "does not get the slot"
            }
            Pc::LookBack => {
                this.pc = Pc::IsMine;
                if state.slots[slot].life != Life::Nobody && !self.is_blind() {
                    Self::give_up(this);
                    if state.slots[slot].claim == mine {
                        next.slots[slot].claim = Claim::NONE;
                    }
                }
                "looks back whether the slot has a life"
            }
            Pc::IsMine => {
                this.pc = Pc::Watch;
                if state.slots[slot].claim != mine && !self.is_blind() {
                    Self::give_up(this);
                }
                "looks back whether the claim is its own"
            }
            Pc::Watch => {
                (this.watches, this.pc) = (now.watches | 1 << slot, Pc::Live);
                "has the life word watched"
            }
            _ => {
                (this.lives, this.pc) = (now.lives | 1 << slot, Pc::OpenGate);
                next.slots[slot].life = Life::Alive;
                next.numbers[slot] = self.number(thread);
                "stores its number in the life word"
            }
        };
        steps.add(thread, name, next);
    }

    /// Whether who claimed a slot does not look back.
    fn is_blind(&self) -> bool {
        self.is(Mutant::ClaimBlindly) || self.is(Mutant::ClaimBeforeLife)
    }

    /// Who finds somebody in the gate waits. Who is refused the gate leaves the life word watched, to the thread's end.
    fn leave(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if self.refuses && now.pc == Pc::LeaveGate {
            self.is_refused(state, thread, steps);
        }
        let slot = now.at as usize;
        let outside = self.is(Mutant::LeaveOutside);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::LeaveGate if outside || self.is_open(state, slot) => {
                match outside {
                    true => this.pc = Pc::Die,
                    false => drop(self.pass(&mut next, thread, Pc::Die)),
                }
                "goes into the gate"
            }
            Pc::LeaveGate => return,
            Pc::Die => {
                (this.lives, this.pc) = (now.lives & !(1 << slot), Pc::ClearWord);
                next.slots[slot].life = Life::Nobody;
                "clears its life word"
            }
            Pc::ClearWord => {
                let stored = &mut next.slots[slot];
                if stored.life == Life::Alive && state.numbers[slot] == self.number(thread) {
                    stored.life = Life::Nobody;
                }
                this.pc = Pc::Unwatch;
                "takes its node off the list"
            }
            Pc::Unwatch => {
                (this.watches, this.pc) = (now.watches & !(1 << slot), Pc::Unclaim);
                if !now.in_gate && !outside {
                    self.go_on_outside(&mut next, thread);
                }
                "has nothing watched there any more"
            }
            _ => {
                next.slots[slot].claim = Claim::NONE;
                this.pc = Pc::OpenGate;
                if outside {
                    self.go_on_outside(&mut next, thread);
                }
                "clears the claim"
            }
        };
        steps.add(thread, name, next);
    }

    fn is_refused(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let slot = this.at as usize;
        this.lives &= !(1 << slot);
        if self.is(Mutant::MarksItself) {
            (next.slots[slot].life, this.pc) = (Life::Dead, Pc::ClearWord);
        } else {
            self.go_on_outside(&mut next, thread);
        }
        steps.add(thread, "is refused the gate", next);
    }

    fn go_on_outside(&self, state: &mut State, thread: usize) {
        let this = &mut state.threads[thread];
        (this.pc, this.at, this.read) = (this.then, 0, Claim::NONE);
        (this.then, this.otherwise) = (Pc::Done, Pc::Done);
        if this.pc == Pc::Done {
            self.next_op(state, thread);
        }
    }

    /// Whether a slot has a claim of one who may have died before it lived there.
    fn may_be_lost(&self, state: &State, slot: usize, thread: usize) -> bool {
        let Slot { claim, life, .. } = state.slots[slot];
        let asked = !self.is(Mutant::ReapLiving);
        claim != Claim::NONE
            && life == Life::Nobody
            && !(asked && self.is_there(state, claim, thread))
    }

    fn free_lifeless(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.at as usize;
        let outside = self.is(Mutant::FreeOutside);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Lifeless if self.may_be_lost(state, slot, thread) => {
                this.read = state.slots[slot].claim;
                this.pc = match outside {
                    true => Pc::LookAtLife,
                    false => Pc::LifelessGate,
                };
                "finds a claim without a life"
            }
            Pc::Lifeless => {
                this.then = this.otherwise;
                self.go_on_outside(&mut next, thread);
                "finds no claim without a life"
            }
            Pc::LifelessGate => self.pass(&mut next, thread, Pc::LookAtLife),
            Pc::LookAtLife => {
                this.pc = Pc::FreeClaim;
                if state.slots[slot].life != Life::Nobody {
                    Self::give_up(this);
                }
                "looks at the life word"
            }
            _ => {
                if state.slots[slot].claim == now.read {
                    next.slots[slot].claim = Claim::NONE;
                }
                this.pc = Pc::OpenGate;
                if outside {
                    self.go_on_outside(&mut next, thread);
                }
                "frees the claim"
            }
        };
        steps.add(thread, name, next);
    }

    fn take_dead(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.at as usize;
        let marked = state.slots[slot].life == Life::Dead;
        let outside = self.is(Mutant::TakeOutside);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::TakeGate if outside => {
                this.pc = Pc::LookAtMark;
                "stays outside the gate"
            }
            Pc::TakeGate => self.pass(&mut next, thread, Pc::LookAtMark),
            Pc::LookAtMark => {
                this.pc = Pc::WatchMark;
                if !marked {
                    Self::give_up(this);
                }
                "looks whether the mark still stands"
            }
            Pc::WatchMark => {
                (this.watches, this.pc) = (now.watches | 1 << slot, Pc::Replace);
                "has the life word watched"
            }
            Pc::Replace if marked || self.is(Mutant::TakeOverBlindly) => {
                (this.lives, this.pc) = (now.lives | 1 << slot, Pc::StoreClaim);
                next.slots[slot].life = Life::Alive;
                next.numbers[slot] = self.number(thread);
                "stores its number over the mark"
            }
            Pc::Replace => {
                this.watches &= !(1 << slot);
                Self::give_up(this);
                "finds that the mark has gone"
            }
            Pc::StoreClaim => {
                next.slots[slot].claim = Claim::of(thread, now.incarnation);
                this.pc = Pc::TakeGeneration;
                "stores its claim"
            }
            _ => {
                next.slots[slot].generation += 1;
                this.pc = Pc::OpenGate;
                "raises the generation"
            }
        };
        steps.add(thread, name, next);
    }

    /// Whether the reserved slot can be had, one way or the other.
    fn can_recover(&self, state: &State, thread: usize) -> bool {
        let takable = self.is_free(state, RESERVED)
            || self.may_be_lost(state, RESERVED, thread)
            || state.slots[RESERVED].life == Life::Dead;
        takable && self.is_open(state, RESERVED) && !self.is(Mutant::NoReserve)
    }

    /// Whether to reap helps who waits for a slot.
    fn is_worth_reaping(&self, state: &State, thread: usize) -> bool {
        self.working().any(|slot| {
            let stored = state.slots[slot];
            let dead = stored.life == Life::Dead && is_gone(&state.slots, stored.lease);
            let lost = self.may_be_lost(state, slot, thread) && self.is_open(state, slot);
            dead && self.can_recover(state, thread) || lost
        })
    }

    fn attach(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let free = |slot: &usize| self.is_free(state, *slot);
        let untried = |slot: &usize| now.tried & 1 << slot == 0;
        if let Some(slot) = self.working().find(|slot| free(slot) && untried(slot)) {
            (this.at, this.pc) = (slot as u8, Pc::EnterGate);
            (this.then, this.otherwise) = (Pc::Done, Pc::Attach);
            this.tried = now.tried | 1 << slot;
            return steps.add(thread, "finds a free slot", next);
        }
        let dead = |slot: usize| state.slots[slot].life == Life::Dead;
        let lives = |slot: usize| state.slots[slot].life != Life::Nobody;
        let hopeless = self.working().all(lives) || self.is(Mutant::NoPatience);
        if !now.has_reaped || self.is_worth_reaping(state, thread) {
            (this.tried, this.has_reaped, this.pc) = (0, true, Pc::RecoverAll);
            steps.add(thread, "finds no slot, and reaps", next);
        } else if !self.working().any(dead) && hopeless || self.is(Mutant::NoReserve) {
            this.pc = Pc::NoSlots;
            steps.add(thread, "finds no slot, and gives up", next);
        } else if self
            .working()
            .any(|slot| free(&slot) && self.is_open(state, slot))
        {
            this.tried = 0;
            steps.add(thread, "looks once more", next);
        }
    }

    /// `reap`, whose first part is `recover_all`.
    fn reap(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let is_dead = |slot: usize| state.slots[slot].life == Life::Dead;
        let go = |this: &mut Thread, to: Pc, then: Pc, otherwise: Pc| {
            (this.at, this.pc) = (RESERVED as u8, to);
            (this.then, this.otherwise) = (then, otherwise);
        };
        let name = match now.pc {
            Pc::RecoverAll => {
                let any = self.working().any(is_dead) && !self.is(Mutant::NoReserve);
                match (any, self.is_free(state, RESERVED)) {
                    (true, true) => go(this, Pc::EnterGate, Pc::Recover, Pc::ReservedLifeless),
                    (true, false) => this.pc = Pc::ReservedLifeless,
                    (false, _) => this.pc = Pc::TakeUnused,
                }
                "looks for the dead"
            }
            Pc::ReservedLifeless => {
                go(this, Pc::Lifeless, Pc::EnterAgain, Pc::EnterAgain);
                "does not get the reserved slot"
            }
            Pc::EnterAgain => {
                match self.is_free(state, RESERVED) {
                    true => go(this, Pc::EnterGate, Pc::Recover, Pc::TakeDead),
                    false => this.pc = Pc::TakeDead,
                }
                "looks at the reserved slot again"
            }
            Pc::TakeDead => {
                match is_dead(RESERVED) {
                    true => go(this, Pc::TakeGate, Pc::Recover, Pc::TakeUnused),
                    false => this.pc = Pc::TakeUnused,
                }
                "looks for a dead recoverer"
            }
            Pc::Recover => {
                let untried = |slot: &usize| now.tried & 1 << slot == 0;
                match self.working().find(|slot| is_dead(*slot) && untried(slot)) {
                    Some(dead) => {
                        this.tried |= 1 << dead;
                        this.recovery = Recovery::begin(dead, true);
                        return self.recover(&next, thread, steps);
                    }
                    None => {
                        this.tried = 0;
                        go(this, Pc::LeaveGate, Pc::TakeUnused, Pc::TakeUnused);
                        next.slots[RESERVED].generation += 1;
                        "raises the reserved slot's generation"
                    }
                }
            }
            Pc::TakeUnused => {
                match is_dead(RESERVED) {
                    true => go(this, Pc::TakeGate, Pc::LeaveUnused, Pc::AllLifeless),
                    false => this.pc = Pc::AllLifeless,
                }
                "looks for a dead recoverer once more"
            }
            Pc::LeaveUnused => {
                go(this, Pc::LeaveGate, Pc::AllLifeless, Pc::AllLifeless);
                next.slots[RESERVED].generation += 1;
                "raises the reserved slot's generation"
            }
            Pc::AllLifeless => {
                let wanted = |slot: &usize| {
                    now.tried & 1 << slot == 0 && self.may_be_lost(state, *slot, thread)
                };
                match (0..self.slots).find(wanted) {
                    Some(slot) => {
                        go(this, Pc::Lifeless, Pc::AllLifeless, Pc::AllLifeless);
                        (this.at, this.tried) = (slot as u8, now.tried | 1 << slot);
                        return self.free_lifeless(&next, thread, steps);
                    }
                    None => (this.tried, this.pc) = (0, Pc::Reaped),
                }
                "has looked for claims without a life"
            }
            _ => {
                match self.op(now, thread) {
                    Some(Op::Attach) => this.pc = Pc::Attach,
                    _ => self.next_op(&mut next, thread),
                }
                "has reaped"
            }
        };
        steps.add(thread, name, next);
    }

    fn recover(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let by = state.recoverer();
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let dead = this.recovery.dead as usize;
        match this.recovery.stage {
            Stage::Journal => {
                this.recovery.stage = Stage::Generation;
                next.open[dead] = false;
                steps.add(thread, "resolves the journal", next);
            }
            Stage::Rest => {
                this.recovery.stage = Stage::Claim;
                steps.add(thread, "gives up what else there is", next);
            }
            _ => match this.recovery.step(&mut next.slots, by, self.mutant) {
                Outcome::Blocked => {}
                Outcome::Went(name) | Outcome::Over(name) => steps.add(thread, name, next),
            },
        }
    }
}
