//! Holes: free slabs whose pages the system has back (H8); `heap::hole`, `heap::span`.
//!
//! A slab has pages or has none. Each thread has a cell that owns a span or nothing, and what is in
//! the span is the *token* of who filled it. To touch a slab without pages is what must never
//! happen: on a full disk it would be SIGBUS (P5). A full disk may refuse each allocation.
//!
//! Left out: the journal (a span is published, linked and freed in one step; see `spans`), growth.

use crate::{
    all,
    explore::{Model, Steps},
    mutant::Mutant,
    prove, refute,
    slots::{Claim, Life, Outcome, Recovery, Slot, Stage, Tag, claim, tag_of},
};

const SLOTS: usize = 4;
const SLABS: usize = 2;
const THREADS: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Op {
    Attach,
    /// Puts a span of so many slabs into the thread's cell, if that is empty.
    Alloc(u8),
    /// Frees the cell's span.
    Free,
    /// Gives the pages of all free slabs back.
    Trim,
    /// Reads through an offset that another thread published (`Slot.waits`).
    Follow,
    /// Recovers every dead slot.
    Reap,
    Detach,
}

struct Config {
    programs: [&'static [Op]; THREADS],
    respawned: &'static [Op],
    kills: u8,
    /// Whether each slab has pages at the beginning.
    pages: [bool; SLABS],
    mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Kind {
    #[default]
    Free,
    Hole,
    Punching,
    Filling,
    Reserved,
    Span,
}

/// A slab's state word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Word {
    kind: Kind,
    slot: u8,
    generation: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Slab {
    word: Word,
    pages: bool,
    /// What is inside; 0 is nothing that matters.
    token: u8,
}

/// A span that a thread's value owns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Cell {
    /// The first slab plus 1; 0 is none.
    span: u8,
    count: u8,
    token: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Pc {
    #[default]
    Done,
    Attach,
    Link,
    Detach,
    /// `claim_run`: all slabs of the run, or none.
    Find,
    ClaimEach,
    /// `fill_holes`.
    Fill,
    Filled,
    Unclaim,
    Touch,
    Publish,
    /// `is_any_in_transit`.
    Transit,
    Settle,
    Free,
    /// `punch_free`.
    FindFree,
    StartPunching,
    Punch,
    Punched,
    Follow,
    Read,
    Reap,
    /// `release_slabs`.
    Slabs,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    op: u8,
    slot: u8,
    tag: Tag,
    /// The run at hand: its first slab, where in it the thread is, and its end.
    first: u8,
    at: u8,
    end: u8,
    /// A state word that was read.
    read: Word,
    tried: u8,
    recovery: Recovery,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    slots: [Slot; SLOTS],
    slabs: [Slab; SLABS],
    cells: [Cell; THREADS],
    threads: [Thread; THREADS],
    kills: u8,
}

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn op(&self, state: &State, thread: usize) -> Option<Op> {
        let Thread {
            incarnation, op, ..
        } = state.threads[thread];
        let program = match incarnation {
            0 => self.programs[thread],
            _ => self.respawned,
        };
        program.get(op as usize).copied()
    }

    fn next(&self, word: Word, kind: Kind, slot: u8) -> Word {
        let more = u8::from(!self.is(Mutant::SlabForgets));
        Word {
            kind,
            slot,
            generation: word.generation + more,
        }
    }

    /// Changes a slab's word from what it is now.
    fn become_kind(&self, state: &mut State, slab: usize, kind: Kind, slot: u8) {
        let word = &mut state.slabs[slab].word;
        *word = self.next(*word, kind, slot);
    }

    fn next_op(&self, state: &mut State, thread: usize) {
        state.threads[thread].op += 1;
        self.begin_op(state, thread);
    }

    fn begin_op(&self, state: &mut State, thread: usize) {
        let now = state.threads[thread];
        let op = self.op(state, thread);
        state.threads[thread] = Thread {
            incarnation: now.incarnation,
            op: now.op,
            slot: now.slot,
            tag: now.tag,
            ..Thread::default()
        };
        state.threads[thread].pc = match op {
            None => {
                state.threads[thread] = Thread {
                    incarnation: now.incarnation,
                    ..Thread::default()
                };
                Pc::Done
            }
            Some(Op::Attach) => Pc::Attach,
            Some(Op::Alloc(_)) if state.cells[thread].span == 0 => Pc::Find,
            Some(Op::Free) if state.cells[thread].span != 0 => Pc::Free,
            Some(Op::Alloc(_) | Op::Free) => return self.next_op(state, thread),
            Some(Op::Trim) => Pc::FindFree,
            Some(Op::Follow) => Pc::Follow,
            Some(Op::Reap) => Pc::Reap,
            Some(Op::Detach) => Pc::Detach,
        };
    }

    fn kill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        if state.kills == 0 || matches!(now.pc, Pc::Done | Pc::Attach) {
            return;
        }
        let mut next = state.clone();
        next.kills -= 1;
        if now.pc != Pc::Link {
            next.slots[now.slot as usize].life = Life::Dead;
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
        match now.pc {
            Pc::Done => {}
            Pc::Attach | Pc::Link | Pc::Detach => self.attach(state, thread, steps),
            Pc::Find | Pc::Transit | Pc::Settle => self.find(state, thread, steps),
            Pc::ClaimEach | Pc::Fill | Pc::Filled | Pc::Unclaim | Pc::Touch | Pc::Publish => {
                self.claim_each(state, thread, steps);
            }
            Pc::FindFree | Pc::StartPunching | Pc::Punch | Pc::Punched => {
                self.punch(state, thread, steps);
            }
            _ => self.other(state, thread, steps),
        }
    }

    fn attach(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.slot as usize;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Attach => {
                let free = (0..SLOTS).find(|&slot| state.slots[slot].is_free(self.mutant));
                let Some(free) = free else {
                    this.pc = Pc::Done;
                    return steps.add(thread, "finds no slot, and gives up", next);
                };
                (this.slot, this.pc) = (free as u8, Pc::Link);
                let mine = Claim::of(thread, now.incarnation);
                claim(&mut next.slots, free, mine, self.mutant);
                "claims a slot"
            }
            Pc::Link => {
                next.slots[slot].life = Life::Alive;
                this.tag = tag_of(&next.slots, slot);
                self.next_op(&mut next, thread);
                "links its life word"
            }
            _ => {
                let stored = &mut next.slots[slot];
                stored.generation += 1;
                (stored.life, stored.claim) = (Life::Nobody, Claim::NONE);
                self.next_op(&mut next, thread);
                "detaches"
            }
        };
        steps.add(thread, name, next);
    }

    /// The first run of free slabs; with holes in it only if there is no other.
    fn free_run(&self, state: &State, count: usize) -> Option<usize> {
        let all_are = |kinds: &'static [Kind]| {
            move |first: &usize| {
                (*first..first + count).all(|slab| kinds.contains(&state.slabs[slab].word.kind))
            }
        };
        let mut firsts = 0..=SLABS - count;
        let with_pages = firsts.clone().find(all_are(&[Kind::Free]));
        with_pages.or_else(|| firsts.find(all_are(&[Kind::Free, Kind::Hole])))
    }

    fn find(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let in_transit = |slab: &usize| {
            let word = state.slabs[*slab].word;
            matches!(word.kind, Kind::Punching | Kind::Filling) && word.slot != now.slot
        };
        let is_dead = |slab: &usize| {
            let slot = state.slabs[*slab].word.slot as usize;
            state.slots[slot].life == Life::Dead || self.is(Mutant::TransitOfLiving)
        };
        match (now.pc, self.op(state, thread)) {
            (Pc::Find, Some(Op::Alloc(count))) => {
                if let Some(first) = self.free_run(state, count as usize) {
                    (this.first, this.end) = (first as u8, first as u8 + count);
                    (this.at, this.pc) = (first as u8, Pc::ClaimEach);
                    return steps.add(thread, "finds a run", next);
                }
                if let Some(slab) = (0..SLABS).filter(in_transit).find(is_dead) {
                    (this.at, this.pc) = (slab as u8, Pc::Transit);
                    return self.find(&next, thread, steps);
                }
                if !(0..SLABS).any(|slab| in_transit(&slab)) {
                    self.next_op(&mut next, thread);
                    steps.add(thread, "finds that the arena is full", next);
                }
            }
            (Pc::Transit, _) => {
                (this.read, this.pc) = (state.slabs[now.at as usize].word, Pc::Settle);
                steps.add(thread, "finds what a dead one was at", next);
            }
            _ => {
                let slab = now.at as usize;
                let blindly = self.is(Mutant::SettlesBlindly);
                if state.slabs[slab].word == now.read || blindly {
                    self.become_kind(&mut next, slab, Kind::Hole, 0);
                }
                let this = &mut next.threads[thread];
                (this.read, this.at, this.pc) = (Word::default(), 0, Pc::Find);
                steps.add(thread, "makes it a hole", next);
            }
        }
    }

    /// `claim_each`: compare-and-swaps, then the pages of the holes.
    fn claim_each(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slab = now.at as usize;
        let last = now.at >= now.end;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let stored = state.slabs.get(slab).copied().unwrap_or_default();
        let mine = stored.word.slot == now.slot;
        let mut broken = None;
        let name = match now.pc {
            _ if last && now.pc == Pc::Unclaim => {
                self.next_op(&mut next, thread);
                "has given all back"
            }
            _ if last => {
                this.at = now.first;
                this.pc = match now.pc {
                    Pc::ClaimEach => Pc::Fill,
                    Pc::Fill => Pc::Touch,
                    _ => Pc::Publish,
                };
                return self.step(&next, thread, steps);
            }
            Pc::ClaimEach => {
                this.at += 1;
                match stored.word.kind {
                    Kind::Free => self.become_kind(&mut next, slab, Kind::Reserved, now.slot),
                    Kind::Hole => self.become_kind(&mut next, slab, Kind::Filling, now.slot),
                    _ => {
                        // Only what was claimed before goes back; then it looks again.
                        (this.end, this.at, this.pc) = (now.at, now.first, Pc::Unclaim);
                        this.op -= 1;
                    }
                }
                "claims a slab"
            }
            Pc::Fill if stored.word.kind != Kind::Filling => {
                this.at += 1;
                return self.claim_each(&next, thread, steps);
            }
            Pc::Fill => {
                let mut full = state.clone();
                full.threads[thread].pc = Pc::Unclaim;
                full.threads[thread].at = now.first;
                steps.add(thread, "finds that the disk is full", full);
                this.pc = Pc::Filled;
                match self.is(Mutant::StateFirst) {
                    true => self.become_kind(&mut next, slab, Kind::Reserved, now.slot),
                    false => next.slabs[slab].pages = true,
                }
                "allocates the pages of a hole"
            }
            Pc::Filled => {
                (this.at, this.pc) = (now.at + 1, Pc::Fill);
                match self.is(Mutant::StateFirst) {
                    true => next.slabs[slab].pages = true,
                    false => self.become_kind(&mut next, slab, Kind::Reserved, now.slot),
                }
                "has the slab reserved"
            }
            Pc::Unclaim => {
                this.at += 1;
                let free = self.is(Mutant::UnfilledIsFree);
                match stored.word.kind {
                    Kind::Reserved if mine => self.become_kind(&mut next, slab, Kind::Free, 0),
                    Kind::Filling if mine => {
                        let kind = if free { Kind::Free } else { Kind::Hole };
                        self.become_kind(&mut next, slab, kind, 0);
                    }
                    _ => {}
                }
                "gives a slab back"
            }
            Pc::Touch => {
                if !stored.pages {
                    broken = Some("touches a slab that has no pages");
                }
                this.at += 1;
                next.slabs[slab].token = thread as u8 + 1;
                "writes into a slab"
            }
            _ => {
                for slab in now.first..now.end {
                    self.become_kind(&mut next, slab as usize, Kind::Span, 0);
                }
                next.cells[thread] = Cell {
                    span: now.first + 1,
                    count: now.end - now.first,
                    token: thread as u8 + 1,
                };
                self.next_op(&mut next, thread);
                "publishes the span"
            }
        };
        steps.judge(thread, name, next, broken);
    }

    /// `punch_free`: run by run.
    fn punch(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slab = now.at as usize;
        let is_free = |slab: &usize| state.slabs[*slab].word.kind == Kind::Free;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::FindFree => {
                let Some(first) = (now.end as usize..SLABS).find(is_free) else {
                    self.next_op(&mut next, thread);
                    return steps.add(thread, "has trimmed", next);
                };
                let count = (first..SLABS).take_while(is_free).count();
                (this.first, this.end) = (first as u8, (first + count) as u8);
                (this.at, this.pc) = (this.first, Pc::StartPunching);
                "finds free slabs"
            }
            Pc::StartPunching if now.at < now.end && is_free(&slab) => {
                this.at += 1;
                if !self.is(Mutant::PunchUnclaimed) {
                    self.become_kind(&mut next, slab, Kind::Punching, now.slot);
                }
                "claims a slab for punching"
            }
            Pc::StartPunching => {
                let none = now.at == now.first;
                this.end = if none { now.first + 1 } else { now.at };
                this.at = now.first;
                this.pc = if none { Pc::FindFree } else { Pc::Punch };
                return self.punch(&next, thread, steps);
            }
            Pc::Punch | Pc::Punched if now.at >= now.end => {
                this.at = now.first;
                this.pc = match now.pc {
                    Pc::Punch => Pc::Punched,
                    _ => Pc::FindFree,
                };
                return self.punch(&next, thread, steps);
            }
            Pc::Punch => {
                this.at += 1;
                (next.slabs[slab].pages, next.slabs[slab].token) = (false, 0);
                "punches a slab"
            }
            _ => {
                this.at += 1;
                let word = state.slabs[slab].word;
                let unclaimed = self.is(Mutant::PunchUnclaimed) && word.kind == Kind::Free;
                if word.kind == Kind::Punching && word.slot == now.slot || unclaimed {
                    self.become_kind(&mut next, slab, Kind::Hole, 0);
                }
                "has a hole"
            }
        };
        steps.add(thread, name, next);
    }

    fn other(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let mut broken = None;
        let name = match now.pc {
            Pc::Free => {
                let cell = std::mem::take(&mut next.cells[thread]);
                for slab in cell.span - 1..cell.span - 1 + cell.count {
                    next.slabs[slab as usize].token = 0;
                    self.become_kind(&mut next, slab as usize, Kind::Free, 0);
                }
                self.next_op(&mut next, thread);
                "frees its span"
            }
            Pc::Follow => {
                let other = state.cells[1 - thread];
                (this.at, this.pc) = (other.span, Pc::Read);
                if other.span == 0 {
                    self.next_op(&mut next, thread);
                }
                "reads an offset"
            }
            Pc::Read => {
                // As a file is read: a hole reads as zeroes.
                let missing = !state.slabs[now.at as usize - 1].pages;
                if missing && self.is(Mutant::FollowsMapped) {
                    broken = Some("touches a slab that has no pages");
                }
                self.next_op(&mut next, thread);
                "reads what lies there"
            }
            _ => {
                let dead = |slot: &usize| {
                    now.tried & 1 << slot == 0 && state.slots[*slot].life == Life::Dead
                };
                if let Some(dead) = (0..SLOTS).find(dead) {
                    this.tried |= 1 << dead;
                    this.recovery = Recovery::begin(dead, true);
                    return self.recover(&next, thread, steps);
                }
                // Claims without a life are for `gates`.
                let incarnation = |thread: usize| state.threads[thread].incarnation;
                for slot in &mut next.slots {
                    if slot.life == Life::Nobody && slot.claim.is_gone(incarnation) {
                        slot.claim = Claim::NONE;
                    }
                }
                self.next_op(&mut next, thread);
                "has reaped"
            }
        };
        steps.judge(thread, name, next, broken);
    }

    fn recover(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let by = state.threads[thread].tag;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let dead = this.recovery.dead;
        match this.recovery.stage {
            Stage::Journal => {
                this.recovery.stage = Stage::Generation;
                steps.add(thread, "finds no journal", next);
            }
            Stage::Rest => {
                this.pc = Pc::Slabs;
                let slab = this.at as usize;
                if slab == SLABS {
                    (this.at, this.pc, this.recovery.stage) = (0, Pc::Reap, Stage::Claim);
                    return self.recover(&next, thread, steps);
                }
                this.at += 1;
                let word = state.slabs[slab].word;
                if word.slot != dead {
                    return self.recover(&next, thread, steps);
                }
                let (filling, punching) = match () {
                    _ if self.is(Mutant::FillingIsReserved) => (Kind::Free, Kind::Hole),
                    _ if self.is(Mutant::PunchingIsFree) => (Kind::Hole, Kind::Free),
                    _ => (Kind::Hole, Kind::Hole),
                };
                match word.kind {
                    Kind::Reserved => self.become_kind(&mut next, slab, Kind::Free, 0),
                    Kind::Filling => self.become_kind(&mut next, slab, filling, 0),
                    Kind::Punching => self.become_kind(&mut next, slab, punching, 0),
                    _ => return self.recover(&next, thread, steps),
                }
                steps.add(thread, "gives a slab of the dead one back", next);
            }
            _ => match this.recovery.step(&mut next.slots, by, self.mutant) {
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
            slots: Default::default(),
            slabs: Default::default(),
            cells: Default::default(),
            threads: Default::default(),
            kills: self.kills,
        };
        for (slab, &pages) in state.slabs.iter_mut().zip(&self.pages) {
            slab.pages = pages;
            slab.word.kind = if pages { Kind::Free } else { Kind::Hole };
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
        for (slab, stored) in state.slabs.iter().enumerate() {
            let word = stored.word;
            let used = matches!(word.kind, Kind::Free | Kind::Reserved | Kind::Span);
            if used && !stored.pages {
                return Err(format!("slab {slab} is {:?}, and has no pages", word.kind));
            }
            let owned = matches!(word.kind, Kind::Reserved | Kind::Filling | Kind::Punching);
            if owned && state.slots[word.slot as usize].is_free(self.mutant) {
                return Err(format!("slab {slab} is lost"));
            }
        }
        for (thread, cell) in state.cells.iter().enumerate() {
            let mut slabs = cell.span as usize..(cell.span + cell.count) as usize;
            let sound = |slab: usize| {
                let Slab { word, token, .. } = state.slabs[slab - 1];
                word.kind == Kind::Span && token == cell.token
            };
            if cell.span != 0 && !slabs.all(sound) {
                return Err(format!("the span of cell {thread} is not what it was"));
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

const TRIM: &[Op] = &[Op::Attach, Op::Alloc(2), Op::Free, Op::Trim, Op::Detach];
const USE: &[Op] = &[
    Op::Attach,
    Op::Follow,
    Op::Alloc(1),
    Op::Trim,
    Op::Free,
    Op::Detach,
];
const RETURN: &[Op] = &[Op::Attach, Op::Reap, Op::Alloc(2), Op::Free, Op::Trim];

fn one_hole() -> Config {
    Config {
        programs: [TRIM, USE],
        respawned: RETURN,
        kills: 2,
        pages: [true, false],
        mutant: None,
    }
}

fn no_hole() -> Config {
    Config {
        pages: [true; SLABS],
        programs: [USE, TRIM],
        kills: if all() { 2 } else { 1 },
        ..one_hole()
    }
}

#[test]
fn slabs_are_punched_and_filled() {
    prove("holes", &one_hole());
}

#[test]
fn slabs_are_punched_at_once() {
    prove("holes, at first none", &no_hole());
}

#[test]
fn larger_sizes() {
    if all() {
        let three = Config {
            kills: 3,
            ..one_hole()
        };
        prove("holes, three kills", &three);
    }
}

#[test]
fn mutants_of_holes() {
    for mutant in [
        Mutant::StateFirst,
        Mutant::UnfilledIsFree,
        Mutant::FillingIsReserved,
        Mutant::PunchingIsFree,
        Mutant::PunchUnclaimed,
        Mutant::TransitOfLiving,
        Mutant::SettlesBlindly,
        Mutant::SlabForgets,
        Mutant::FollowsMapped,
    ] {
        let broken = Config {
            mutant: Some(mutant),
            ..one_hole()
        };
        refute(&format!("{mutant:?}"), &broken);
    }
}
