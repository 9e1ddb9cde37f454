//! Who waits in a circle, and is told so; `sync::circle` and `sync::wait`.
//!
//! Threads take locks to read and to write, several at a time, in a given order. One that has to wait says
//! for what, with the wait's number, and follows who waits for whom, a step at a time, while the others go
//! on. Whoever is told of a circle must have waited in one: at some time since the first look came back to
//! it, none of those it waited for could go on.
//!
//! Some of them give up after a time, some die, and are recovered later; some take a lock's word and let go of
//! it again without waiting for readers (to freeze it, or since it is poisoned).
//!
//! That circles are found is not shown here (`tests/locks.rs`, `tests/rwlock`): who finds none looks
//! again. Left out: sleeping (see `calm`), slots used again (see `rwlock`).

use crate::{
    explore::{Model, Steps},
    mutant::Mutant,
    prove, refute,
};
use Action::*;

const THREADS: usize = 3;
const LOCKS: usize = 3;

/// What a thread does with a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Read(u8),
    Write(u8),
    /// Takes the word, and lets go of it.
    Touch(u8),
    Drop(u8),
}

struct Config {
    /// What each thread does; in the end it lets go of everything.
    programs: [&'static [Action]; THREADS],
    /// Those that give up some time.
    timed: [bool; THREADS],
    kills: u8,
    mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Cell {
    #[default]
    Empty,
    Pending,
    Reads,
}

/// `layout::Wait`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Wait {
    number: u8,
    lock: Option<u8>,
    for_readers: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Pc {
    #[default]
    Next,
    /// `fill`: looks at the word, behind its cell.
    LookFirst,
    EmptyFirst,
    /// `refuse_deadlock`.
    Say,
    /// `circle::look_for`: who has what the last one on the way waits for.
    Who,
    /// What the one that was found waits for.
    ItsWait,
    /// `circle::is_there`.
    HasStill,
    WaitsStill,
    /// `take_loop`, `read_loop`, `await_readers`.
    Retry,
    HasWord,
    Look,
    Empty,
    /// `wait_no_more`.
    WaitNoMore,
    SayReads,
    Done,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    /// The action at hand.
    at: u8,
    cells: [Cell; LOCKS],
    wait: Wait,
    /// Those that it follows, with what they said: the first `length`. It comes first itself.
    way: [(u8, Wait); THREADS],
    length: u8,
    /// The one that was found; in the second look, the number of the one looked at.
    found: u8,
    /// Looks that are done, if there are two.
    looks: u8,
    /// Whether it waited in a circle at some time since the first look.
    real: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// Who has each lock to write, plus 1.
    words: [u8; LOCKS],
    threads: [Thread; THREADS],
    kills: u8,
    /// Of the configuration: they always go on.
    timed: [bool; THREADS],
}

impl State {
    fn writer(&self, lock: u8) -> Option<usize> {
        (self.words[lock as usize] as usize).checked_sub(1)
    }

    fn other_readers(&self, thread: usize, lock: u8, cells: &[Cell]) -> Vec<usize> {
        let reads = |other: &usize| {
            *other != thread && cells.contains(&self.threads[*other].cells[lock as usize])
        };
        (0..THREADS).filter(reads).collect()
    }

    /// `circle::who_has`.
    fn who_has(&self, thread: usize, wait: Wait, mutant: Option<Mutant>) -> Vec<usize> {
        let Some(lock) = wait.lock else {
            return Vec::new();
        };
        let alive = |one: &usize| self.threads[*one].pc != Pc::Dead;
        let readers = || {
            let readers = self.other_readers(thread, lock, &[Cell::Reads]);
            readers.into_iter().filter(alive).collect()
        };
        if wait.for_readers {
            return readers();
        }
        match self.writer(lock) {
            Some(writer) if writer != thread => vec![writer],
            Some(_) if mutant == Some(Mutant::WordMeansReaders) => readers(),
            _ => Vec::new(),
        }
    }

    /// Those that a thread really waits for.
    fn waits_for(&self, thread: usize) -> Vec<usize> {
        let this = &self.threads[thread];
        let goes_on = matches!(
            this.pc,
            Pc::Next
                | Pc::LookFirst
                | Pc::EmptyFirst
                | Pc::HasWord
                | Pc::WaitNoMore
                | Pc::SayReads
                | Pc::Done
                | Pc::Dead
        );
        match goes_on {
            true => Vec::new(),
            false => self.who_has(thread, this.wait, None),
        }
    }

    /// Whether some of those that the thread waits for, one through the other, can never go on.
    fn waits_for_ever(&self, thread: usize) -> bool {
        let mut goes_on = [false; THREADS];
        for _ in 0..THREADS {
            for other in 0..THREADS {
                let others = self.waits_for(other);
                goes_on[other] = others.iter().all(|&one| goes_on[one] || self.timed[one]);
            }
        }
        !goes_on[thread]
    }

    /// A step is done: those who look for the second time see what they see in this state.
    fn settle(mut self) -> Self {
        for thread in 0..THREADS {
            let looks = matches!(self.threads[thread].pc, Pc::HasStill | Pc::WaitsStill)
                || self.threads[thread].looks != 0;
            self.threads[thread].real =
                looks && (self.threads[thread].real || self.waits_for_ever(thread));
        }
        self
    }
}

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn action(&self, state: &State, thread: usize) -> Option<Action> {
        let at = state.threads[thread].at as usize;
        self.programs[thread].get(at).copied()
    }

    /// Whether the thread has a lock to write, as far as it knows.
    fn may_write(&self, state: &State, thread: usize, lock: u8) -> bool {
        let this = &state.threads[thread];
        let done = &self.programs[thread][..this.at as usize];
        let of_it = |action: &&Action| matches!(action, Read(of) | Write(of) | Touch(of) | Drop(of) if *of == lock);
        !matches!(this.pc, Pc::Done | Pc::Dead) && done.iter().rfind(of_it) == Some(&Write(lock))
    }

    /// Whether two waits are taken for the same.
    fn same(&self, one: Wait, other: Wait) -> bool {
        one == other || self.is(Mutant::WaitsUnnumbered) && one.lock == other.lock
    }

    fn step(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        match state.threads[thread].pc {
            Pc::Done | Pc::Dead => {}
            Pc::Who | Pc::ItsWait | Pc::HasStill | Pc::WaitsStill => {
                self.look(state, thread, steps)
            }
            _ => self.act(state, thread, steps),
        }
    }

    fn act(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let Some(action) = self.action(state, thread) else {
            return leave(next, thread, "lets go of everything", None, steps);
        };
        let (Read(lock) | Write(lock) | Touch(lock) | Drop(lock)) = action;
        let index = lock as usize;
        let writer = state.writer(lock).filter(|&writer| writer != thread);
        let name = match (this.pc, action) {
            (Pc::Next, Drop(_)) => {
                this.cells[index] = Cell::Empty;
                if state.writer(lock) == Some(thread) {
                    next.words[index] = 0;
                }
                next.threads[thread].at += 1;
                "lets go"
            }
            (Pc::Next | Pc::Retry, Write(_) | Touch(_)) => {
                let mine = state.writer(lock) == Some(thread);
                let cells = [Cell::Reads, Cell::Pending];
                match writer {
                    Some(_) => this.pc = Pc::Say,
                    None if !mine => {
                        next.words[index] = thread as u8 + 1;
                        this.pc = Pc::HasWord;
                    }
                    None if matches!(action, Touch(_)) => this.pc = Pc::WaitNoMore,
                    None if state.other_readers(thread, lock, &cells).is_empty() => {
                        this.pc = Pc::WaitNoMore
                    }
                    None => this.pc = Pc::Say,
                }
                "looks whether it may write"
            }
            (Pc::HasWord, _) => {
                // A wait for readers is another one.
                this.wait.end();
                this.pc = Pc::Retry;
                "waits no more for the word"
            }
            (Pc::Next, Read(_)) => {
                this.cells[index] = Cell::Reads;
                this.pc = Pc::LookFirst;
                "fills its cell"
            }
            (Pc::LookFirst, _) => {
                match writer {
                    Some(_) => this.pc = Pc::EmptyFirst,
                    None => (this.pc, this.at) = (Pc::Next, this.at + 1),
                }
                "looks whether it may read"
            }
            (Pc::EmptyFirst, _) => {
                this.cells[index] = Cell::Empty;
                this.pc = Pc::Say;
                "empties its cell"
            }
            (Pc::Say, _) if self.timed[thread] && !self.is(Mutant::TimedWaitsCount) => {
                this.pc = Pc::Retry;
                "waits for a time"
            }
            (Pc::Say, _) => {
                if this.wait.lock != Some(lock) {
                    this.wait = Wait {
                        number: this.wait.number + 1,
                        lock: Some(lock),
                        for_readers: state.writer(lock) == Some(thread),
                    };
                }
                this.way = Default::default();
                this.way[0] = (thread as u8, this.wait);
                this.length = 1;
                this.pc = Pc::Who;
                "says what it waits for"
            }
            (Pc::Retry, _) => {
                if writer.is_some() {
                    this.pc = Pc::Say;
                } else {
                    this.cells[index] = Cell::Pending;
                    this.pc = Pc::Look;
                }
                "looks whether it may try to read"
            }
            (Pc::Look, _) => {
                this.pc = match writer {
                    Some(_) => Pc::Empty,
                    None => Pc::WaitNoMore,
                };
                "looks whether it may read now"
            }
            (Pc::Empty, _) => {
                this.cells[index] = Cell::Empty;
                this.pc = Pc::Say;
                "empties its pending cell"
            }
            (Pc::WaitNoMore, _) => {
                this.wait.end();
                match action {
                    Read(_) => this.pc = Pc::SayReads,
                    Touch(_) => {
                        (this.pc, this.at) = (Pc::Next, this.at + 1);
                        next.words[index] = 0;
                    }
                    _ => (this.pc, this.at) = (Pc::Next, this.at + 1),
                }
                "waits no more"
            }
            (Pc::SayReads, _) => {
                this.cells[index] = Cell::Reads;
                (this.pc, this.at) = (Pc::Next, this.at + 1);
                "says that it reads"
            }
            (pc, action) => unreachable!("{pc:?} {action:?}"),
        };
        steps.add(thread, name, next.settle());
    }

    fn look(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let this = &state.threads[thread];
        let retry = |name, steps: &mut Steps<State>| {
            let mut next = state.clone();
            next.threads[thread].forget();
            steps.add(thread, name, next.settle());
        };
        let place = match this.pc {
            Pc::Who | Pc::ItsWait => this.length - 1,
            _ => this.found,
        };
        let (slot, said) = this.way[place as usize];
        let has = || state.who_has(slot as usize, said, self.mutant);
        let next_on_way = this.way[(place + 1) as usize % this.length as usize];
        match this.pc {
            Pc::Who => {
                let holders = has();
                for &holder in &holders {
                    let mut next = state.clone();
                    let this = &mut next.threads[thread];
                    if holder == thread {
                        self.came_back(next, thread, steps);
                    } else if this.follows(holder) {
                        retry("knows it already", steps);
                    } else {
                        (this.pc, this.found) = (Pc::ItsWait, holder as u8);
                        steps.add(thread, "sees who has it", next.settle());
                    }
                }
                if holders.is_empty() {
                    retry("sees nobody who has it", steps);
                }
            }
            Pc::ItsWait => {
                let wait = state.threads[this.found as usize].wait;
                if wait.lock.is_none() || self.is_dead(state, this.found as usize) {
                    return retry("sees that it does not wait", steps);
                }
                let mut next = state.clone();
                let this = &mut next.threads[thread];
                this.way[this.length as usize] = (this.found, wait);
                this.length += 1;
                (this.pc, this.found) = (Pc::Who, 0);
                steps.add(thread, "sees what it waits for", next.settle());
            }
            Pc::HasStill => {
                if !has().contains(&(next_on_way.0 as usize)) {
                    return retry("sees that it has it no more", steps);
                }
                let mut next = state.clone();
                next.threads[thread].pc = Pc::WaitsStill;
                steps.add(thread, "sees that it has it still", next.settle());
            }
            _ => {
                let of = next_on_way.0 as usize;
                let goes_on = self.same(state.threads[of].wait, next_on_way.1);
                if !goes_on || self.is_dead(state, of) {
                    return retry("sees that it waits no more", steps);
                }
                let mut next = state.clone();
                let this = &mut next.threads[thread];
                (this.pc, this.found) = (Pc::HasStill, this.found + 1);
                if this.found == this.length {
                    return told(next, thread, steps);
                }
                steps.add(thread, "sees that it waits still", next.settle());
            }
        }
    }

    /// Whether what a thread says does not count, since it is dead.
    fn is_dead(&self, state: &State, thread: usize) -> bool {
        state.threads[thread].pc == Pc::Dead && !self.is(Mutant::TheDeadWait)
    }

    /// What happens to a thread: its patience ends, or it dies and is recovered.
    fn befall(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let this = &state.threads[thread];
        if this.pc == Pc::Dead {
            return leave(state.clone(), thread, "is recovered", None, steps);
        }
        if self.timed[thread] && this.pc == Pc::Retry {
            leave(state.clone(), thread, "gives up", None, steps);
        }
        if state.kills > 0 && this.pc != Pc::Done {
            let mut next = state.clone();
            next.kills -= 1;
            next.threads[thread].pc = Pc::Dead;
            next.threads[thread].forget_way();
            steps.add(thread, "IS KILLED", next.settle());
        }
    }

    /// The way led back to where it began.
    fn came_back(&self, mut next: State, thread: usize, steps: &mut Steps<State>) {
        let this = &mut next.threads[thread];
        if self.is(Mutant::CircleSeenOnce)
            || self.is(Mutant::CircleLookedForTwice) && this.looks == 1
        {
            return told(next, thread, steps);
        }
        if self.is(Mutant::CircleLookedForTwice) {
            (this.pc, this.looks, this.length) = (Pc::Who, 1, 1);
        } else {
            (this.pc, this.found) = (Pc::HasStill, 0);
        }
        steps.add(thread, "comes back to itself", next.settle());
    }
}

impl Wait {
    fn end(&mut self) {
        (self.lock, self.for_readers) = (None, false);
    }
}

impl Thread {
    /// Forgets what it saw: there is no circle.
    fn forget(&mut self) {
        self.pc = Pc::Retry;
        self.forget_way();
    }

    fn forget_way(&mut self) {
        self.way = Default::default();
        (self.length, self.found, self.looks) = (0, 0, 0);
    }

    fn follows(&self, slot: usize) -> bool {
        let way = &self.way[..self.length as usize];
        way.iter().any(|&(one, _)| one as usize == slot)
    }
}

/// The thread is told that it waits in a circle.
fn told(state: State, thread: usize, steps: &mut Steps<State>) {
    let real = state.threads[thread].real || state.waits_for_ever(thread);
    let broken = (!real).then_some("a circle that is none");
    leave(state, thread, "is told of a circle", broken, steps);
}

/// The thread lets go of all it has.
fn leave(
    mut next: State,
    thread: usize,
    name: &'static str,
    broken: Option<&'static str>,
    steps: &mut Steps<State>,
) {
    for word in &mut next.words {
        if *word == thread as u8 + 1 {
            *word = 0;
        }
    }
    next.threads[thread] = Thread {
        pc: Pc::Done,
        ..Thread::default()
    };
    steps.judge(thread, name, next.settle(), broken);
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        State {
            words: [0; LOCKS],
            threads: [Thread::default(); THREADS],
            kills: self.kills,
            timed: self.timed,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for thread in 0..THREADS {
            self.step(state, thread, steps);
            self.befall(state, thread, steps);
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        for writer in 0..THREADS {
            for lock in (0..LOCKS as u8).filter(|&lock| self.may_write(state, writer, lock)) {
                // One that has not looked at the word yet is no reader.
                let reads = |&one: &usize| {
                    !matches!(
                        state.threads[one].pc,
                        Pc::LookFirst | Pc::EmptyFirst | Pc::Dead
                    )
                };
                let cells = state.other_readers(writer, lock, &[Cell::Reads]);
                if state.writer(lock) != Some(writer) || cells.iter().any(reads) {
                    return Err("one has what another one writes".into());
                }
            }
        }
        Ok(())
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        match state.threads.iter().all(|thread| thread.pc == Pc::Done) {
            true => Ok(()),
            false => Err("somebody is stuck".into()),
        }
    }
}

/// A writer, and readers that come back: no circle, but one after the other they look like one.
const READERS: Config = Config {
    programs: [
        &[Write(0), Drop(0), Write(0)],
        &[Read(0), Drop(0), Read(0)],
        &[Read(0), Drop(0), Read(0)],
    ],
    timed: [false; THREADS],
    kills: 0,
    mutant: None,
};

/// The second one has what the first one wants, and waits for the third. Then that goes on; the second
/// lets go, and waits again for the third, which now waits for the first.
const CHAIN: Config = Config {
    programs: [
        &[Write(2), Write(0)],
        &[Write(0), Write(1), Drop(1), Drop(0), Write(1)],
        &[Write(1), Drop(1), Write(1), Write(2)],
    ],
    timed: [false; THREADS],
    kills: 0,
    mutant: None,
};

/// Three in a circle, one of which gives up.
const GIVES_UP: Config = Config {
    programs: [
        &[Write(0), Write(1)],
        &[Write(1), Write(2)],
        &[Write(2), Write(0)],
    ],
    timed: [false, true, false],
    ..READERS
};

/// The same three, one of which dies: what it has is free as soon as it is recovered.
const DIES: Config = Config {
    timed: [false; THREADS],
    kills: 1,
    ..GIVES_UP
};

/// The second takes the word of what the first one reads, and lets go again.
const TOUCHES: Config = Config {
    programs: [
        &[Read(0), Write(1)],
        &[Write(1), Touch(0)],
        &[Write(0), Drop(0), Write(0), Drop(0)],
    ],
    ..READERS
};

#[test]
fn nobody_is_told_of_a_circle_that_is_none() {
    prove("circles: readers that come back", &READERS);
    prove("circles: a chain", &CHAIN);
    let mixed = Config {
        programs: [
            &[Read(0), Write(1), Drop(0), Drop(1), Read(0)],
            &[Write(0), Read(1), Drop(0), Write(0)],
            &[Read(1), Write(0)],
        ],
        ..READERS
    };
    prove("circles: readers that write", &mixed);
    prove("circles: one that gives up", &GIVES_UP);
    prove("circles: one that dies", &DIES);
    prove("circles: one that only takes the word", &TOUCHES);
    let all = Config {
        programs: [
            &[Write(2), Read(0)],
            &[Read(0), Write(1)],
            &[Write(1), Touch(0), Write(2)],
        ],
        timed: [false, false, true],
        kills: 1,
        mutant: None,
    };
    prove("circles: all of it", &all);
}

#[test]
fn mutants_of_circles() {
    for (mutant, of) in [
        (Mutant::CircleSeenOnce, READERS),
        (Mutant::CircleLookedForTwice, READERS),
        (Mutant::WaitsUnnumbered, CHAIN),
        (Mutant::TimedWaitsCount, GIVES_UP),
        (Mutant::TheDeadWait, DIES),
        (Mutant::WordMeansReaders, TOUCHES),
    ] {
        let broken = Config {
            mutant: Some(mutant),
            ..of
        };
        refute(&format!("{mutant:?}"), &broken);
    }
}
