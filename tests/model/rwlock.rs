//! A reader-writer lock: readers with a cell in their slot, writers with the word, who both die.
//! `sync::rwlock`, `sync::wait`, `section::reads`, `journal::reads`.
//!
//! The value is written in two halves, and is torn in between. Of what a section does there is its
//! record, which recovery puts back.

use crate::{
    explore::{Model, Steps},
    mutant::Mutant,
    prove, refute,
    slots::{Claim, Life, Look, Outcome, Recovery, Slot, Stage, Tag, claim, is_held, look, tag_of},
};

const SLOTS: usize = 4;
const THREADS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Attach,
    /// Reads, also if it does so already.
    Read,
    Unread,
    /// Writes, and is done with it.
    Write,
    /// Recovers all that are dead, to the end.
    Reap,
    Detach,
}

struct Config {
    programs: [&'static [Op]; THREADS],
    respawned: &'static [Op],
    kills: u8,
    /// Whether writers may run out of patience while they wait for readers.
    impatient: bool,
    mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Pc {
    #[default]
    Done,
    Attach,
    Link,
    /// A reader waits until nobody has the word.
    AwaitWord,
    Fill,
    LookAtWord,
    BackOff,
    Empty,
    /// A writer.
    FindWord,
    TakeWord,
    Scan,
    Record,
    Half,
    Whole,
    Commit,
    Release,
    Reap,
    DetachGeneration,
    DetachLife,
    DetachClaim,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    op: u8,
    slot: u8,
    tag: Tag,
    /// Guards of its read lock.
    reads: u8,
    /// The slot that a writer or a reaper looks at next.
    at: u8,
    read: Tag,
    recovery: Recovery,
    back: Pc,
}

impl Thread {
    /// Whether it may write the value.
    fn writes(&self) -> bool {
        matches!(
            self.pc,
            Pc::Record | Pc::Half | Pc::Whole | Pc::Commit | Pc::Release
        )
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    slots: [Slot; SLOTS],
    /// Whether a slot's cell names the lock.
    cells: [bool; SLOTS],
    /// Whether a slot's log has the value's old bytes.
    logs: [bool; SLOTS],
    word: Tag,
    torn: bool,
    threads: [Thread; THREADS],
    kills: u8,
}

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn op(&self, thread: &Thread, number: usize) -> Option<Op> {
        let program = match thread.incarnation {
            0 => self.programs[number],
            _ => self.respawned,
        };
        program.get(thread.op as usize).copied()
    }

    fn begin_op(&self, state: &mut State, thread: usize) {
        let this = &mut state.threads[thread];
        this.at = 0;
        this.pc = match self.op(this, thread) {
            None => {
                *this = Thread {
                    incarnation: this.incarnation,
                    ..Thread::default()
                };
                Pc::Done
            }
            Some(Op::Attach) => Pc::Attach,
            Some(Op::Read) => Pc::AwaitWord,
            Some(Op::Unread) => Pc::Empty,
            Some(Op::Write) if self.is(Mutant::WriterScansFirst) => Pc::Scan,
            Some(Op::Write) => Pc::FindWord,
            Some(Op::Reap) => Pc::Reap,
            Some(Op::Detach) => Pc::DetachGeneration,
        };
    }

    fn next_op(&self, state: &mut State, thread: usize) {
        state.threads[thread].op += 1;
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
        if now.recovery.runs() {
            return self.recover(state, thread, steps);
        }
        match now.pc {
            Pc::Done => {}
            Pc::AwaitWord | Pc::Fill | Pc::LookAtWord | Pc::BackOff | Pc::Empty => {
                self.read(state, thread, steps);
            }
            Pc::FindWord | Pc::TakeWord | Pc::Scan => self.take(state, thread, steps),
            Pc::Record | Pc::Half | Pc::Whole | Pc::Commit | Pc::Release => {
                self.write(state, thread, steps);
            }
            Pc::Reap => self.reap(state, thread, steps),
            _ => self.come_and_go(state, thread, steps),
        }
    }

    fn come_and_go(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.slot as usize;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Attach => {
                let free = (0..SLOTS).find(|&slot| state.slots[slot].claim == Claim::NONE);
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
            _ => {
                next.slots[slot].claim = Claim::NONE;
                self.next_op(&mut next, thread);
                "clears its claim"
            }
        };
        steps.add(thread, name, next);
    }

    /// `Taker::read_loop`, and the end of a read guard.
    fn read(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.slot as usize;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let has = |next: &mut State| {
            next.threads[thread].reads += 1;
            self.next_op(next, thread);
        };
        let name = match now.pc {
            Pc::AwaitWord if now.reads > 0 && !self.is(Mutant::ReadsInTurn) => {
                has(&mut next);
                "reads on"
            }
            Pc::AwaitWord => match look(&state.slots, state.word, now.tag) {
                Look::Free | Look::Mine => {
                    this.pc = Pc::Fill;
                    "finds no writer"
                }
                Look::Dead(_) if self.is(Mutant::NoLifeWord) => return,
                Look::Dead(writer) => {
                    this.recovery = Recovery::begin(writer, false);
                    this.back = Pc::AwaitWord;
                    return self.recover(&next, thread, steps);
                }
                Look::Held => return,
            },
            Pc::Fill => {
                next.cells[slot] = true;
                this.pc = Pc::LookAtWord;
                if self.is(Mutant::ReaderLooksOnce) {
                    has(&mut next);
                }
                "fills its cell"
            }
            Pc::LookAtWord => {
                match look(&state.slots, state.word, now.tag) {
                    Look::Free | Look::Mine => has(&mut next),
                    Look::Dead(_) | Look::Held => this.pc = Pc::BackOff,
                }
                "looks at the word"
            }
            Pc::BackOff => {
                next.cells[slot] = now.reads > 0;
                this.pc = Pc::AwaitWord;
                "empties its cell again"
            }
            _ => {
                this.reads -= 1;
                next.cells[slot] = now.reads > 1;
                self.next_op(&mut next, thread);
                "lets go of a read lock"
            }
        };
        steps.add(thread, name, next);
    }

    /// `Taker::take_loop`, then `await_readers`.
    fn take(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::FindWord => match look(&state.slots, state.word, now.tag) {
                Look::Free | Look::Mine => {
                    (this.read, this.pc) = (state.word, Pc::TakeWord);
                    "finds the word free"
                }
                Look::Dead(_) if self.is(Mutant::NoLifeWord) => return,
                Look::Dead(writer) => {
                    this.recovery = Recovery::begin(writer, false);
                    this.back = Pc::FindWord;
                    return self.recover(&next, thread, steps);
                }
                Look::Held => return,
            },
            Pc::TakeWord => {
                let read = std::mem::take(&mut this.read);
                this.pc = match (state.word == read, self.is(Mutant::WriterScansFirst)) {
                    (false, _) => Pc::FindWord,
                    (true, false) => Pc::Scan,
                    (true, true) => Pc::Record,
                };
                if state.word == read {
                    next.word = now.tag;
                }
                "takes the word, if it is as it was"
            }
            _ => {
                let at = now.at as usize;
                if at == SLOTS {
                    this.at = 0;
                    this.pc = match self.is(Mutant::WriterScansFirst) {
                        true => Pc::FindWord,
                        false => Pc::Record,
                    };
                    return steps.add(thread, "has looked at all cells", next);
                }
                let life = state.slots[at].life;
                let is_read = state.cells[at] && at != now.slot as usize;
                let minds_the_dead = self.is(Mutant::NoLifeWord);
                if is_read && (life == Life::Alive || life == Life::Dead && minds_the_dead) {
                    if self.impatient && !self.is(Mutant::WriterScansFirst) {
                        next.word = Tag::NOBODY;
                        self.next_op(&mut next, thread);
                        steps.add(thread, "gives up, and the word back", next);
                    }
                    return;
                }
                this.at += 1;
                if is_read && life == Life::Dead {
                    this.recovery = Recovery::begin(at, false);
                    this.back = Pc::Scan;
                }
                "looks at a cell"
            }
        };
        steps.add(thread, name, next);
    }

    /// A section under the lock.
    fn write(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = now.slot as usize;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let mut broken = None;
        let name = match now.pc {
            Pc::Record => {
                next.logs[slot] = true;
                this.pc = Pc::Half;
                "records the value"
            }
            Pc::Half => {
                next.torn = true;
                this.pc = Pc::Whole;
                "writes one half"
            }
            Pc::Whole => {
                next.torn = false;
                this.pc = Pc::Commit;
                "writes the other half"
            }
            Pc::Commit => {
                next.logs[slot] = false;
                this.pc = Pc::Release;
                "commits"
            }
            _ => {
                broken = (state.word != now.tag).then_some("releases what somebody else has");
                next.word = Tag::NOBODY;
                self.next_op(&mut next, thread);
                "releases the word"
            }
        };
        steps.judge(thread, name, next, broken);
    }

    /// `journal::reap`.
    fn reap(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let at = state.threads[thread].at as usize;
        if at == SLOTS {
            self.next_op(&mut next, thread);
            return steps.add(thread, "has reaped", next);
        }
        let this = &mut next.threads[thread];
        this.at += 1;
        if state.slots[at].life == Life::Dead {
            this.recovery = Recovery::begin(at, true);
            this.back = Pc::Reap;
        }
        steps.add(thread, "looks at a slot", next);
    }

    fn recover(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let dead = this.recovery.dead as usize;
        match this.recovery.stage {
            Stage::Journal => {
                if std::mem::take(&mut next.logs[dead]) {
                    next.torn = false;
                }
                this.recovery.stage = Stage::Generation;
                return steps.add(thread, "undoes what the dead one wrote", next);
            }
            Stage::Rest => {
                next.cells[dead] = false;
                this.recovery.stage = Stage::Life;
                return steps.add(thread, "empties the dead one's cell", next);
            }
            _ => {}
        }
        let by = this.tag;
        match this.recovery.step(&mut next.slots, by, self.mutant) {
            // Who scans does not wait for another recoverer: a dead reader wrote nothing here.
            Outcome::Blocked if this.back == Pc::Scan => {
                this.recovery = Recovery::default();
                this.pc = std::mem::take(&mut this.back);
                steps.add(thread, "leaves the dead reader to who is at it", next);
            }
            Outcome::Blocked => {}
            Outcome::Went(name) => steps.add(thread, name, next),
            Outcome::Over(name) => {
                this.pc = std::mem::take(&mut this.back);
                steps.add(thread, name, next);
            }
        }
    }
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            slots: Default::default(),
            cells: Default::default(),
            logs: Default::default(),
            word: Tag::NOBODY,
            torn: false,
            threads: Default::default(),
            kills: self.kills,
        };
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
        let writers = state.threads.iter().filter(|thread| thread.writes());
        let readers = state.threads.iter().filter(|thread| thread.reads > 0);
        let (writers, readers) = (writers.count(), readers.count());
        if writers > 1 {
            return Err("two write".into());
        }
        if writers > 0 && readers > 0 {
            return Err("one reads what another writes".into());
        }
        if state.torn && readers > 0 {
            return Err("one reads what a dead one left torn".into());
        }
        for (slot, of) in state.slots.iter().enumerate() {
            if of.claim == Claim::NONE && (state.cells[slot] || state.logs[slot]) {
                return Err(format!("slot {slot} can be claimed, and is not over"));
            }
        }
        for thread in &state.threads {
            if thread.reads > 0 && !state.cells[thread.slot as usize] {
                return Err("one reads, and its cell does not say so".into());
            }
        }
        Ok(())
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        if state.threads.iter().any(|thread| thread.pc != Pc::Done) {
            return Err("somebody waits for ever".into());
        }
        if is_held(&state.slots, state.word)
            && state.word.slot().map(|slot| state.slots[slot].life) == Some(Life::Alive)
        {
            return Err("a lock is never released".into());
        }
        Ok(())
    }
}

const READ: &[Op] = &[Op::Attach, Op::Read, Op::Unread, Op::Detach];
const READ_TWICE: &[Op] = &[
    Op::Attach,
    Op::Read,
    Op::Read,
    Op::Unread,
    Op::Unread,
    Op::Detach,
];
const WRITE: &[Op] = &[Op::Attach, Op::Write, Op::Detach];

/// A reader, a writer, and another of them; any may die, and comes back.
fn readers_and_writers() -> Config {
    Config {
        programs: [READ_TWICE, WRITE, WRITE],
        respawned: READ,
        kills: 1,
        impatient: false,
        mutant: None,
    }
}

/// One reaps the others, and their slots are used again.
fn successors() -> Config {
    Config {
        programs: [
            &[Op::Attach, Op::Read, Op::Unread],
            &[Op::Attach, Op::Write],
            &[Op::Attach, Op::Reap],
        ],
        respawned: &[Op::Attach, Op::Read, Op::Unread],
        ..readers_and_writers()
    }
}

#[test]
fn writers_and_readers_exclude_each_other() {
    prove("readers and writers", &readers_and_writers());
    let impatient = Config {
        impatient: true,
        programs: [READ, WRITE, READ_TWICE],
        respawned: WRITE,
        ..readers_and_writers()
    };
    prove("impatient writers", &impatient);
    prove("slots of readers that died", &successors());
    if crate::all() {
        let more = Config {
            kills: 2,
            ..impatient
        };
        prove("two kills", &more);
        let more = Config {
            kills: 2,
            ..successors()
        };
        prove("slots of two that died", &more);
    }
}

#[test]
fn mutants_of_reader_writer_locks() {
    for mutant in [
        Mutant::ReaderLooksOnce,
        Mutant::WriterScansFirst,
        Mutant::ReadsInTurn,
        Mutant::NoLifeWord,
        Mutant::GenerationFirst,
    ] {
        let broken = Config {
            mutant: Some(mutant),
            ..readers_and_writers()
        };
        refute(&format!("{mutant:?}"), &broken);
    }
    let broken = Config {
        mutant: Some(Mutant::ClaimFirst),
        ..successors()
    };
    refute("ClaimFirst", &broken);
}
