//! Claiming slots; the slots that are reserved for recoverers, who come when everybody is dead;
//! reaping. `journal::slots`, `journal::recover`.
//!
//! Slot 0 is reserved. At the beginning the others are those of threads that died in a section,
//! and the reserved one is that of a recoverer that died too, with a lease.

use crate::{
    explore::{Model, Steps},
    mutant::Mutant,
    prove, refute,
    slots::{Claim, Life, Outcome, Recovery, Slot, Stage, Tag, claim, tag_of},
};

const SLOTS: usize = 3;
const THREADS: usize = 2;
const RESERVED: usize = 0;

#[derive(Clone, Copy, Debug)]
enum Op {
    Attach,
    /// A section: opened and committed.
    Section,
    Reap,
    Detach,
}

struct Config {
    programs: [&'static [Op]; THREADS],
    respawned: &'static [Op],
    kills: u8,
    /// Each thread's processes are in a PID namespace of their own.
    foreign: bool,
    mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Pc {
    #[default]
    Done,
    Attach,
    Link,
    Open,
    Commit,
    RecoverAll,
    TakeClaim,
    LinkReserved,
    LinkOver,
    StoreClaim,
    RaiseGeneration,
    Dead,
    LeaveGeneration,
    LeaveLife,
    LeaveClaim,
    Claims,
    LookAtLife,
    FreeClaim,
    DetachGeneration,
    DetachLife,
    DetachClaim,
    NoSlots,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    op: u8,
    /// The slot it is in; none if 0.
    slot: u8,
    /// Whether it has the reserved slot, and is linked there.
    reserved: bool,
    by: Tag,
    /// The claim that was read.
    read: Claim,
    /// The slot at hand, and those that were.
    at: u8,
    tried: u8,
    recovery: Recovery,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    slots: [Slot; SLOTS],
    /// Whether a slot's journal is not empty.
    open: [bool; SLOTS],
    threads: [Thread; THREADS],
    kills: u8,
}

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn op(&self, thread: &Thread, index: usize) -> Option<Op> {
        let program = match thread.incarnation {
            0 => self.programs[index],
            _ => self.respawned,
        };
        program.get(thread.op as usize).copied()
    }

    fn is_foreign(&self, claim: Claim, thread: usize) -> bool {
        self.foreign && claim.thread() != Some(thread)
    }

    /// Whether the claimant is certainly gone, as far as `thread` can tell.
    fn is_gone(&self, state: &State, claim: Claim, thread: usize) -> bool {
        let incarnation = |thread: usize| state.threads[thread].incarnation;
        !self.is_foreign(claim, thread) && claim.is_gone(incarnation)
    }

    /// Whether the reserved slot was claimed by one who is gone, and is in nobody's hands.
    fn can_take_claim(&self, state: &State, thread: usize) -> bool {
        let Slot {
            claim: holder,
            life,
            ..
        } = state.slots[RESERVED];
        let gone = self.is_gone(state, holder, thread);
        let marked = self.is(Mutant::MarkStays)
            && life == Life::Dead
            && (gone || self.is_foreign(holder, thread));
        holder != Claim::NONE && (gone && life == Life::Nobody || marked)
    }

    /// Whether this thread could recover others now.
    fn can_recover(&self, state: &State, thread: usize) -> bool {
        let reserved = state.slots[RESERVED];
        let free = reserved.claim == Claim::NONE || reserved.life == Life::Dead;
        !self.is(Mutant::NoReserve) && (free || self.can_take_claim(state, thread))
    }

    fn begin_op(&self, state: &mut State, thread: usize) {
        let this = &mut state.threads[thread];
        (this.tried, this.read) = (0, Claim::NONE);
        this.pc = match self.op(this, thread) {
            None => Pc::Done,
            Some(Op::Attach) => Pc::Attach,
            Some(Op::Section) => Pc::Open,
            Some(Op::Reap) => Pc::RecoverAll,
            Some(Op::Detach) => Pc::DetachGeneration,
        };
    }

    fn next_op(&self, state: &mut State, thread: usize) {
        state.threads[thread].op += 1;
        self.begin_op(state, thread);
    }

    fn kill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if state.kills == 0 || matches!(now.pc, Pc::Done | Pc::NoSlots) {
            return;
        }
        let mut next = state.clone();
        next.kills -= 1;
        let own = (now.slot != 0).then_some(now.slot as usize);
        for slot in own.into_iter().chain(now.reserved.then_some(RESERVED)) {
            if state.slots[slot].life == Life::Alive {
                next.slots[slot].life = Life::Dead;
            }
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
        if now.recovery.runs() {
            return self.recover(state, thread, steps);
        }
        let slot = now.slot as usize;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Done | Pc::NoSlots => return,
            Pc::Attach => return self.attach(state, thread, steps),
            Pc::Link => {
                next.slots[slot].life = Life::Alive;
                self.next_op(&mut next, thread);
                "links its life word"
            }
            Pc::Open => {
                next.open[slot] = true;
                this.pc = Pc::Commit;
                "records something"
            }
            Pc::Commit => {
                next.open[slot] = false;
                self.next_op(&mut next, thread);
                "commits"
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
                this.slot = 0;
                next.slots[slot].claim = Claim::NONE;
                self.next_op(&mut next, thread);
                "clears its claim"
            }
            _ => return self.recover_all(state, thread, steps),
        };
        steps.add(thread, name, next);
    }

    /// `claim_slot`: while others recover the dead, it waits for them.
    fn attach(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mine = Claim::of(thread, state.threads[thread].incarnation);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let working = RESERVED + 1..SLOTS;
        let free = |slot: &usize| state.slots[*slot].claim == Claim::NONE;
        if let Some(slot) = working.clone().find(free) {
            (this.slot, this.tried, this.pc) = (slot as u8, 0, Pc::Link);
            claim(&mut next.slots, slot, mine, self.mutant);
            return steps.add(thread, "claims a slot", next);
        }
        let slots = &state.slots;
        let dead = working.clone().any(|slot| slots[slot].life == Life::Dead);
        let mut lifeless = working.filter(|&slot| slots[slot].life == Life::Nobody);
        let hasty = this.tried != 0 && !dead && self.is(Mutant::NoPatience);
        if this.tried == 0
            || dead && self.can_recover(state, thread)
            || !hasty
                && lifeless
                    .clone()
                    .any(|slot| self.is_gone(state, slots[slot].claim, thread))
        {
            (this.tried, this.pc) = (0, Pc::RecoverAll);
            return self.recover_all(&next, thread, steps);
        }
        // Who claims or leaves a slot, and lives, will not be long.
        let incarnation = |thread: usize| state.threads[thread].incarnation;
        let hopeless = lifeless.all(|slot| slots[slot].claim.is_gone(incarnation));
        if hasty || !dead && hopeless || self.is(Mutant::NoReserve) {
            this.pc = Pc::NoSlots;
            steps.add(thread, "finds no slot, and gives up", next);
        }
    }

    /// `reap`, and `recover_all` as its first part.
    fn recover_all(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let mine = Claim::of(thread, now.incarnation);
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let is_dead = |slot: &usize| state.slots[*slot].life == Life::Dead;
        let reserved = state.slots[RESERVED];
        let name = match now.pc {
            Pc::RecoverAll => {
                let any = (RESERVED + 1..SLOTS).any(|slot| is_dead(&slot));
                let wanted = any && !self.is(Mutant::NoReserve);
                if wanted && reserved.claim == Claim::NONE {
                    claim(&mut next.slots, RESERVED, mine, self.mutant);
                    this.pc = Pc::LinkReserved;
                    "claims the reserved slot"
                } else if wanted && self.can_take_claim(state, thread) {
                    (this.read, this.pc) = (reserved.claim, Pc::TakeClaim);
                    "finds the reserved slot claimed by one who is gone"
                } else if reserved.life == Life::Dead && !self.is(Mutant::NoReserve) {
                    this.pc = Pc::LinkOver;
                    "finds a dead recoverer in the reserved slot"
                } else {
                    (this.tried, this.pc) = (0, Pc::Claims);
                    return self.recover_all(&next, thread, steps);
                }
            }
            Pc::TakeClaim => {
                let read = std::mem::take(&mut this.read);
                if reserved.claim == read {
                    next.slots[RESERVED].claim = mine;
                    this.pc = Pc::LinkReserved;
                    "takes the claim of the reserved slot over"
                } else {
                    this.pc = Pc::Claims;
                    "does not get the reserved slot"
                }
            }
            Pc::LinkOver => {
                if reserved.life == Life::Dead || self.is(Mutant::TakeOverBlindly) {
                    next.slots[RESERVED].life = Life::Alive;
                    (this.reserved, this.pc) = (true, Pc::StoreClaim);
                    "links its life word over the mark of the dead one"
                } else {
                    this.pc = Pc::Claims;
                    "does not get the reserved slot"
                }
            }
            Pc::StoreClaim => {
                next.slots[RESERVED].claim = mine;
                this.pc = Pc::RaiseGeneration;
                "stores its claim"
            }
            Pc::RaiseGeneration => {
                next.slots[RESERVED].generation += 1;
                this.by = tag_of(&next.slots, RESERVED);
                (this.tried, this.pc) = (0, Pc::Dead);
                "raises the reserved slot's generation"
            }
            Pc::LinkReserved => {
                next.slots[RESERVED].life = Life::Alive;
                (this.reserved, this.by) = (true, tag_of(&state.slots, RESERVED));
                (this.tried, this.pc) = (0, Pc::Dead);
                "links its life word in the reserved slot"
            }
            Pc::Dead => {
                let untried = |slot: &usize| now.tried & 1 << slot == 0;
                let dead = (RESERVED + 1..SLOTS).find(|slot| is_dead(slot) && untried(slot));
                let Some(dead) = dead else {
                    (this.tried, this.pc) = (0, Pc::LeaveGeneration);
                    return self.recover_all(&next, thread, steps);
                };
                this.tried |= 1 << dead;
                this.recovery = Recovery::begin(dead, true);
                return self.recover(&next, thread, steps);
            }
            Pc::LeaveGeneration => {
                next.slots[RESERVED].generation += 1;
                this.by = Tag::NOBODY;
                this.pc = Pc::LeaveLife;
                "raises the reserved slot's generation"
            }
            Pc::LeaveLife => {
                next.slots[RESERVED].life = Life::Nobody;
                (this.reserved, this.pc) = (false, Pc::LeaveClaim);
                "clears the reserved slot's life word"
            }
            Pc::LeaveClaim => {
                next.slots[RESERVED].claim = Claim::NONE;
                this.pc = Pc::Claims;
                "clears the reserved slot's claim"
            }
            Pc::Claims => {
                // First whether the claimant is gone: then it links no life word any more.
                let life_first = self.is(Mutant::LifeFirst);
                let wanted = |slot: &usize| {
                    let Slot { claim, life, .. } = state.slots[*slot];
                    let gone = match life_first {
                        true => life == Life::Nobody,
                        false => self.is(Mutant::ReapLiving) || self.is_gone(state, claim, thread),
                    };
                    claim != Claim::NONE && gone && now.tried & 1 << slot == 0
                };
                match (0..SLOTS).find(wanted) {
                    Some(slot) => {
                        this.tried |= 1 << slot;
                        this.at = slot as u8;
                        this.read = state.slots[slot].claim;
                        this.pc = Pc::LookAtLife;
                        "finds a claim of one who is gone"
                    }
                    None if matches!(self.op(now, thread), Some(Op::Attach)) => {
                        (this.tried, this.pc) = (1, Pc::Attach);
                        "has reaped, and looks for a slot again"
                    }
                    None => {
                        self.next_op(&mut next, thread);
                        "has reaped"
                    }
                }
            }
            Pc::LookAtLife => {
                let lost = match self.is(Mutant::LifeFirst) {
                    true => self.is_gone(state, now.read, thread),
                    false => state.slots[now.at as usize].life == Life::Nobody,
                };
                this.pc = Pc::FreeClaim;
                if !lost {
                    (this.read, this.at, this.pc) = (Claim::NONE, 0, Pc::Claims);
                }
                "looks whether the slot has a life"
            }
            _ => {
                let slot = now.at as usize;
                if state.slots[slot].claim == now.read {
                    next.slots[slot].claim = Claim::NONE;
                }
                (this.read, this.at, this.pc) = (Claim::NONE, 0, Pc::Claims);
                "frees the claim without life"
            }
        };
        steps.add(thread, name, next);
    }

    fn recover(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
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
                this.recovery.stage = Stage::Life;
                steps.add(thread, "gives up what else there is", next);
            }
            _ => match this.recovery.step(&mut next.slots, this.by, self.mutant) {
                Outcome::Blocked => {}
                Outcome::Went(name) | Outcome::Over(name) => steps.add(thread, name, next),
            },
        }
    }
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            slots: [Slot::dead(); SLOTS],
            open: [false, true, true],
            threads: Default::default(),
            kills: self.kills,
        };
        state.slots[RESERVED + 1].lease = tag_of(&state.slots, RESERVED);
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
        let in_reserved = |thread: &&Thread| {
            thread.reserved || matches!(thread.pc, Pc::LinkReserved | Pc::LeaveClaim)
        };
        if state.threads.iter().filter(in_reserved).count() > 1 {
            return Err("two recoverers are in the reserved slot".into());
        }
        let [a, b] = &state.threads;
        if a.slot != 0 && a.slot == b.slot {
            return Err(format!("two threads are in slot {}", a.slot));
        }
        if a.recovery.acts() && b.recovery.acts() && a.recovery.dead == b.recovery.dead {
            return Err(format!("two recover slot {}", a.recovery.dead));
        }
        for slot in 0..SLOTS {
            let Slot { claim, life, .. } = state.slots[slot];
            if claim == Claim::NONE && (life != Life::Nobody || state.open[slot]) {
                return Err(format!("slot {slot} can be claimed, and is not over"));
            }
        }
        Ok(())
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        for thread in &state.threads {
            // Who is in another namespace cannot tell that a claimant without a life is gone.
            if thread.pc == Pc::NoSlots && !self.foreign {
                return Err("somebody finds no slot, though nobody lives in one".into());
            }
            if !matches!(thread.pc, Pc::Done | Pc::NoSlots) {
                return Err("somebody waits for ever".into());
            }
        }
        Ok(())
    }
}

const WORK: &[Op] = &[Op::Attach, Op::Section, Op::Detach];
const REAP_AND_WORK: &[Op] = &[Op::Reap, Op::Attach, Op::Section, Op::Reap, Op::Detach];

fn all_dead() -> Config {
    Config {
        programs: [WORK, REAP_AND_WORK],
        respawned: REAP_AND_WORK,
        kills: 2,
        foreign: false,
        mutant: None,
    }
}

#[test]
fn everybody_is_dead() {
    prove("all dead", &all_dead());
}

#[test]
fn everybody_is_dead_and_foreign() {
    let foreign = Config {
        foreign: true,
        ..all_dead()
    };
    prove("all dead, foreign", &foreign);
}

#[test]
fn mutants_of_attaching() {
    for mutant in [
        Mutant::NoReserve,
        Mutant::TakeOverBlindly,
        Mutant::ReapLiving,
        Mutant::LifeFirst,
        Mutant::NoPatience,
        Mutant::ClearAnyClaim,
    ] {
        let broken = Config {
            mutant: Some(mutant),
            ..all_dead()
        };
        refute(&format!("{mutant:?}"), &broken);
    }
    let foreign = Config {
        foreign: true,
        mutant: Some(Mutant::MarkStays),
        ..all_dead()
    };
    refute("MarkStays", &foreign);
}
