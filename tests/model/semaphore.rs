//! Semaphores: small locks without a section, the redo record of what takes effect at once, and
//! permits that come back at death. `sync::semaphore`, `journal::immediate`.
//!
//! A recoverer returns the permits of the dead one by one, as the dead slot and under its current
//! generation; on the way it may find the lock in the hands of another dead one, and recovers that
//! one too, as far as the locks: a recovery within a recovery.

use crate::{
    explore::{Model, Steps},
    mutant::Mutant,
    prove, refute,
    slots::{Claim, Life, Look, Outcome, Recovery, Slot, Stage, Tag, claim, is_held, look, tag_of},
};

const SLOTS: usize = 3;
const THREADS: usize = 2;
const SEMAPHORES: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Op {
    Attach,
    Acquire(u8),
    Release(u8),
    Post(u8),
    /// Returns what permits are left, and goes.
    Detach,
}

struct Config {
    programs: [&'static [Op]; THREADS],
    respawned: &'static [Op],
    kills: u8,
    permits: [u8; SEMAPHORES],
    mutant: Option<Mutant>,
}

/// A change of a semaphore: absolute values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Change {
    semaphore: u8,
    available: u8,
    /// Permits in the slot's cell afterwards; none for a post.
    held: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Semaphore {
    lock: Tag,
    available: u8,
    /// How many were posted: what there must be more than at the beginning.
    posted: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Pc {
    #[default]
    Done,
    Attach,
    Link,
    LookAtLock,
    TakeLock,
    Plan,
    Note,
    ApplyCount,
    ApplyCell,
    Clear,
    Unlock,
    Wait,
    Return,
    DetachGeneration,
    DetachLife,
    DetachClaim,
    /// In the journal stage: the redo record.
    Replay,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    op: u8,
    slot: u8,
    tag: Tag,
    holds: [u8; SEMAPHORES],
    read: Tag,
    /// The semaphore at hand, and how it is to be changed.
    at: u8,
    change: Change,
    /// What permits are returned of: the thread's own, or a dead slot's.
    returns: bool,
    recovery: Recovery,
    /// A recovery within that one, and where it came from.
    inner: Recovery,
    back: Pc,
    inner_back: Pc,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    slots: [Slot; SLOTS],
    /// The immediate journals.
    redo: [Option<Change>; SLOTS],
    /// Permits that a slot holds of each semaphore.
    cells: [[u8; SEMAPHORES]; SLOTS],
    semaphores: [Semaphore; SEMAPHORES],
    threads: [Thread; THREADS],
    kills: u8,
}

impl State {
    fn acting(&self, thread: usize) -> usize {
        let thread = &self.threads[thread];
        let dead = [&thread.inner, &thread.recovery]
            .into_iter()
            .find(|recovery| recovery.runs() && recovery.acts());
        dead.map_or(thread.slot, |recovery| recovery.dead) as usize
    }
}

impl Thread {
    fn innermost(&mut self) -> &mut Recovery {
        match self.inner.runs() {
            true => &mut self.inner,
            false => &mut self.recovery,
        }
    }
}

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn op(&self, state: &State, thread: usize) -> Option<Op> {
        let this = &state.threads[thread];
        let program = match this.incarnation {
            0 => self.programs[thread],
            _ => self.respawned,
        };
        program.get(this.op as usize).copied()
    }

    /// In whose name a lock is taken: one's own, or the dead slot's under its present generation.
    fn taker(&self, state: &State, thread: usize) -> Tag {
        let this = &state.threads[thread];
        if !this.recovery.acts() {
            return this.tag;
        }
        let mut slots = state.slots;
        let dead = this.recovery.dead as usize;
        if self.is(Mutant::OldTag) {
            slots[dead].generation -= 1;
        }
        tag_of(&slots, dead)
    }

    fn begin_op(&self, state: &mut State, thread: usize) {
        let op = self.op(state, thread);
        let this = &mut state.threads[thread];
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
            Some(Op::Acquire(at) | Op::Release(at) | Op::Post(at)) => {
                this.at = at;
                Pc::LookAtLock
            }
            Some(Op::Detach) => {
                (this.returns, this.at) = (true, 0);
                Pc::Return
            }
        };
    }

    fn next_op(&self, state: &mut State, thread: usize) {
        let this = &mut state.threads[thread];
        (this.at, this.change) = (0, Change::default());
        this.op += 1;
        self.begin_op(state, thread);
    }

    fn kill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if state.kills == 0 || matches!(now.pc, Pc::Done | Pc::Attach) {
            return;
        }
        let mut next = state.clone();
        next.kills -= 1;
        let slot = &mut next.slots[now.slot as usize];
        if slot.claim == Claim::of(thread, now.incarnation) && slot.life == Life::Alive {
            slot.life = Life::Dead;
        }
        next.threads[thread] = Thread {
            incarnation: now.incarnation + 1,
            ..Thread::default()
        };
        self.begin_op(&mut next, thread);
        steps.add(thread, "IS KILLED", next);
    }

    fn step(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let frame = match now.inner.runs() {
            true => &now.inner,
            false => &now.recovery,
        };
        if frame.runs() && !frame.acts() {
            return self.recover(state, thread, steps);
        }
        let slot = now.slot as usize;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Done => return,
            Pc::Attach => {
                let free = (0..SLOTS).find(|&slot| state.slots[slot].is_free(self.mutant));
                let Some(slot) = free else {
                    this.pc = Pc::Done;
                    return steps.add(thread, "finds no slot, and gives up", next);
                };
                (this.slot, this.pc) = (slot as u8, Pc::Link);
                let mine = Claim::of(thread, now.incarnation);
                claim(&mut next.slots, slot, mine, self.mutant);
                "claims a slot"
            }
            Pc::Link => {
                next.slots[slot].life = Life::Alive;
                this.tag = tag_of(&state.slots, slot);
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
            Pc::DetachClaim => {
                next.slots[slot].claim = Claim::NONE;
                self.next_op(&mut next, thread);
                "clears its claim"
            }
            Pc::Wait => return self.wait(state, thread, steps),
            Pc::Return => return self.give_back(state, thread, steps),
            Pc::LookAtLock | Pc::TakeLock => return self.lock(state, thread, steps),
            _ => return self.change(state, thread, steps),
        };
        steps.add(thread, name, next);
    }

    /// `Internal::take`.
    fn lock(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let at = now.at as usize;
        let word = state.semaphores[at].lock;
        let tag = self.taker(state, thread);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        if now.pc == Pc::TakeLock {
            let read = std::mem::take(&mut this.read);
            this.pc = Pc::Plan;
            if word != read {
                this.pc = Pc::LookAtLock;
                return steps.add(thread, "does not get the lock", next);
            }
            next.semaphores[at].lock = tag;
            return steps.add(thread, "takes the lock", next);
        }
        let mine = now.recovery.acts() && word == now.tag;
        match look(&state.slots, word, tag) {
            Look::Free => {
                (this.read, this.pc) = (word, Pc::TakeLock);
                steps.add(thread, "finds the lock free", next);
            }
            Look::Mine => {
                let broken = Some("a lock names a thread that does not hold it");
                steps.judge(thread, "finds its own name in the lock", next, broken);
            }
            _ if mine => {
                let broken = Some("a recoverer has a lock of its own");
                steps.judge(
                    thread,
                    "finds the recoverer's name in the lock",
                    next,
                    broken,
                );
            }
            Look::Dead(_) if self.is(Mutant::NoLifeWord) => {}
            Look::Dead(holder) => {
                let recovery = Recovery::begin(holder, false);
                if now.recovery.runs() {
                    (this.inner, this.inner_back) = (recovery, Pc::LookAtLock);
                } else {
                    (this.recovery, this.back) = (recovery, Pc::LookAtLock);
                }
                self.recover(&next, thread, steps);
            }
            Look::Held => {}
        }
    }

    /// `Semaphore::change` under the lock, and `Immediate::perform`; also their repetition.
    fn change(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let acting = state.acting(thread);
        let Change {
            semaphore,
            available,
            held,
        } = now.change;
        let replays = now.innermost_stage() == Stage::Journal;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Plan => {
                let at = now.at as usize;
                let available = state.semaphores[at].available;
                let cell = state.cells[acting][at];
                let returned = now.returns || now.recovery.acts();
                let planned = match self.op(state, thread) {
                    _ if returned => Some((available + cell, Some(0))),
                    Some(Op::Acquire(_)) if available == 0 => None,
                    Some(Op::Acquire(_)) => Some((available - 1, Some(cell + 1))),
                    Some(Op::Release(_)) => Some((available + 1, Some(cell - 1))),
                    _ => Some((available + 1, None)),
                };
                this.pc = Pc::Unlock;
                if let Some((available, held)) = planned {
                    this.pc = Pc::Note;
                    this.change = Change {
                        semaphore: now.at,
                        available,
                        held,
                    };
                }
                "reads the count"
            }
            Pc::Note => {
                next.redo[acting] = (!self.is(Mutant::NoRedo)).then_some(now.change);
                next.semaphores[semaphore as usize].posted += u8::from(held.is_none());
                this.pc = Pc::ApplyCount;
                "writes the redo record: from here it will happen"
            }
            Pc::Replay => {
                this.pc = Pc::ApplyCount;
                let Some(change) = state.redo[acting] else {
                    this.innermost().stage = Stage::Generation;
                    this.pc = Pc::Replay;
                    return steps.add(thread, "finds no redo record", next);
                };
                this.change = change;
                "finds a redo record"
            }
            Pc::ApplyCount => {
                next.semaphores[semaphore as usize].available = available;
                this.pc = Pc::ApplyCell;
                "stores the count"
            }
            Pc::ApplyCell => {
                if let Some(held) = held {
                    next.cells[acting][semaphore as usize] = held;
                }
                this.pc = match self.is(Mutant::RedoLate) && !replays {
                    true => Pc::Unlock,
                    false => Pc::Clear,
                };
                "stores the permits in its cell"
            }
            Pc::Clear => {
                next.redo[acting] = None;
                this.pc = Pc::Unlock;
                if replays {
                    this.innermost().stage = Stage::Generation;
                    (this.pc, this.change) = (Pc::Replay, Change::default());
                } else if self.is(Mutant::RedoLate) {
                    self.changed(&mut next, thread);
                }
                "clears the redo record"
            }
            _ => {
                let lost = state.semaphores[now.at as usize].lock != self.taker(state, thread);
                next.semaphores[now.at as usize].lock = Tag::NOBODY;
                if self.is(Mutant::RedoLate) && state.redo[acting].is_some() {
                    this.pc = Pc::Clear;
                } else {
                    self.changed(&mut next, thread);
                }
                let broken = lost.then_some("releases a lock that somebody else has");
                return steps.judge(thread, "releases the lock", next, broken);
            }
        };
        steps.add(thread, name, next);
    }

    /// Goes on behind a change.
    fn changed(&self, state: &mut State, thread: usize) {
        let op = self.op(state, thread);
        let this = &mut state.threads[thread];
        let done = this.change != Change::default();
        this.change = Change::default();
        if this.recovery.acts() || this.returns {
            this.pc = Pc::Return;
            return;
        }
        let at = this.at as usize;
        match op {
            Some(Op::Acquire(_)) if !done => {
                this.pc = Pc::Wait;
                return;
            }
            Some(Op::Acquire(_)) => this.holds[at] += 1,
            Some(Op::Release(_)) => this.holds[at] -= 1,
            _ => {}
        }
        self.next_op(state, thread);
    }

    /// `acquire_with`, where there was no permit: somebody dead may hold it.
    fn wait(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        if state.semaphores[this.at as usize].available > 0 {
            this.pc = Pc::LookAtLock;
            return steps.add(thread, "finds a permit", next);
        }
        for dead in (0..SLOTS).filter(|&slot| state.slots[slot].life == Life::Dead) {
            let lease = state.slots[dead].lease;
            let busy = is_held(&state.slots, lease)
                && lease
                    .slot()
                    .is_some_and(|holder| state.slots[holder].life != Life::Dead);
            if !busy {
                this.recovery = Recovery::begin(dead, true);
                this.back = Pc::Wait;
                return self.recover(&next, thread, steps);
            }
        }
    }

    /// `return_permits`: of a dead slot, or of one that its thread leaves.
    fn give_back(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let acting = state.acting(thread);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let held = (this.at as usize..SEMAPHORES).find(|&at| state.cells[acting][at] != 0);
        if let Some(at) = held.filter(|_| !self.is(Mutant::PermitsKept)) {
            (this.at, this.pc) = (at as u8, Pc::LookAtLock);
            return self.lock(&next, thread, steps);
        }
        if this.recovery.acts() {
            this.recovery.stage = Stage::Claim;
            next.cells[acting] = [0; SEMAPHORES];
        } else {
            this.returns = false;
            this.holds = [0; SEMAPHORES];
            this.pc = Pc::DetachGeneration;
        }
        steps.add(thread, "has returned all permits", next);
    }

    fn recover(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let (by, inner) = (this.tag, this.inner.runs());
        let outcome = this.innermost().step(&mut next.slots, by, self.mutant);
        match outcome {
            Outcome::Blocked => {}
            Outcome::Went(name) => {
                match this.innermost().stage {
                    Stage::Journal => this.pc = Pc::Replay,
                    Stage::Rest => {
                        // What the recoverer was doing itself waits in its program.
                        (this.pc, this.at) = (Pc::Return, 0);
                    }
                    _ => {}
                }
                steps.add(thread, name, next);
            }
            Outcome::Over(name) => {
                this.pc = match inner {
                    true => std::mem::take(&mut this.inner_back),
                    false => std::mem::take(&mut this.back),
                };
                if !inner && let Some(Op::Acquire(at)) = self.op(state, thread) {
                    next.threads[thread].at = at;
                }
                steps.add(thread, name, next);
            }
        }
    }
}

impl Thread {
    fn innermost_stage(&self) -> Stage {
        match self.inner.runs() {
            true => self.inner.stage,
            false => self.recovery.stage,
        }
    }
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            slots: Default::default(),
            redo: Default::default(),
            cells: Default::default(),
            semaphores: Default::default(),
            threads: Default::default(),
            kills: self.kills,
        };
        for (semaphore, permits) in state.semaphores.iter_mut().zip(self.permits) {
            semaphore.available = permits;
        }
        for thread in 0..THREADS {
            self.begin_op(&mut state, thread);
        }
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for thread in 0..THREADS {
            self.step(state, thread, steps);
            self.kill(state, thread, steps);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for (at, semaphore) in state.semaphores.iter().enumerate() {
            if is_held(&state.slots, semaphore.lock) {
                continue;
            }
            let held: u8 = state.cells.iter().map(|cells| cells[at]).sum();
            let expected = self.permits[at] + semaphore.posted;
            if semaphore.available + held != expected {
                let available = semaphore.available;
                return Err(format!(
                    "semaphore {at} has {available} permits and {held} are held, of {expected}"
                ));
            }
        }
        for (slot, redo) in state.redo.iter().enumerate() {
            if let Some(change) = redo {
                let lock = state.semaphores[change.semaphore as usize].lock;
                if lock != tag_of(&state.slots, slot) {
                    return Err(format!("slot {slot} has a redo record, but not the lock"));
                }
            }
            let held = state.cells[slot].iter().any(|&held| held != 0);
            if state.slots[slot].is_free(self.mutant) && (redo.is_some() || held) {
                return Err(format!("slot {slot} can be claimed, and is not over"));
            }
        }
        let quiet = |thread: &&Thread| thread.pc == Pc::Wait && !thread.recovery.runs();
        for thread in state.threads.iter().filter(quiet) {
            if thread.holds != state.cells[thread.slot as usize] {
                return Err("a thread's permits are not in its cell".into());
            }
        }
        Ok(())
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        if state.threads.iter().any(|thread| thread.pc != Pc::Done) {
            return Err("somebody waits for ever".into());
        }
        Ok(())
    }
}

const ONE: &[Op] = &[Op::Attach, Op::Acquire(0), Op::Release(0), Op::Detach];
const TWO: &[Op] = &[
    Op::Attach,
    Op::Acquire(0),
    Op::Acquire(1),
    Op::Release(0),
    Op::Release(1),
    Op::Detach,
];

/// One permit of each, which come back with the dead or by leaving.
fn permits() -> Config {
    Config {
        programs: [
            TWO,
            &[Op::Attach, Op::Acquire(0), Op::Acquire(1), Op::Detach],
        ],
        respawned: TWO,
        kills: 2,
        permits: [1, 1],
        mutant: None,
    }
}

/// Posts, and those who use what was posted.
fn posts() -> Config {
    Config {
        programs: [
            &[Op::Attach, Op::Post(0), Op::Post(0), Op::Detach],
            &[Op::Attach, Op::Acquire(0), Op::Post(0), Op::Detach],
        ],
        respawned: ONE,
        permits: [1, 0],
        ..permits()
    }
}

#[test]
fn permits_come_back() {
    prove("permits", &permits());
    prove("posts", &posts());
}

#[test]
fn mutants_of_semaphores() {
    for mutant in [
        Mutant::NoRedo,
        Mutant::RedoLate,
        Mutant::PermitsKept,
        Mutant::OldTag,
        Mutant::NoLifeWord,
        Mutant::GenerationFirst,
    ] {
        let broken = Config {
            mutant: Some(mutant),
            ..permits()
        };
        refute(&format!("{mutant:?}"), &broken);
    }
}
