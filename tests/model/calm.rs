//! Locks that are released by a plain store, and sleepers who see to it that they are not missed (L9);
//! `sync::calm` and `sync::wait`.
//!
//! Each thread has a store buffer for what a release stores: it comes to memory at any time later, but
//! before the thread's next atomic instruction, or when a barrier is issued. Everything else that threads
//! write here they write by atomic instructions. A wake that is missed is a thread that waits for ever:
//! there is no back-stop but for what a death swallows, the wake of one that is killed before it has the
//! lock. And who watches a thread that died wakes by that.
//!
//! Left out: what the lock protects (see `section`), readers, locks that move.

use crate::{
    all,
    explore::{Model, Steps},
    mutant::Mutant,
    prove, refute,
};

const THREADS: usize = 3;

/// A thread that dies comes back under another name, as a slot has generations.
const NAMES: u8 = 2 * THREADS as u8;

struct Config {
    /// How often each thread takes the lock.
    rounds: [u8; THREADS],
    kills: u8,
    mutant: Option<Mutant>,
}

/// The lock's word: who holds it, and the waiters bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Word {
    /// A name plus 1; 0 is free.
    holder: u8,
    waiters: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Mode {
    #[default]
    Calm,
    Roused,
    Contended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Contention {
    mode: Mode,
    sleepers: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Pc {
    #[default]
    Done,
    /// `take_single`.
    Take,
    /// `take_loop`.
    Look,
    TakeFree,
    /// `Sleeper::enter`.
    Enter,
    Barrier,
    SayContended,
    SetBit,
    FallAsleep,
    Asleep,
    /// Has the lock, and is not counted any more once that is done.
    Leave,
    /// Has the lock.
    Inside,
    /// `release_mutex`.
    Store,
    LookAfter,
    Wake,
    /// `release_contended`.
    Calm,
    Exchange,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    /// What the word says while this thread holds it.
    name: u8,
    round: u8,
    /// The word is to be emptied, in the store buffer.
    buffered: bool,
    slept: bool,
    /// Whether it is counted.
    entered: bool,
    /// What it read of the word.
    now: Word,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    word: Word,
    contention: Contention,
    threads: [Thread; THREADS],
    dead: [bool; NAMES as usize],
    /// Whether one that was woken died.
    swallowed: bool,
    kills: u8,
}

impl State {
    /// What a store buffer holds comes to memory.
    fn drain(&mut self, thread: usize) {
        if std::mem::take(&mut self.threads[thread].buffered) {
            self.word = Word::default();
        }
    }

    fn is_free(&self, word: Word) -> bool {
        word.holder == 0 || self.dead[word.holder as usize - 1]
    }
}

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The thread has let go of the lock.
    fn next_round(&self, thread: usize, this: &mut Thread) {
        this.round += 1;
        this.slept = false;
        this.pc = match this.round < self.rounds[thread] {
            true => Pc::Take,
            false => Pc::Done,
        };
    }

    fn step(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let (word, contention) = (state.word, state.contention);
        match this.pc {
            Pc::Done | Pc::Asleep => return,
            Pc::Take => {
                next.drain(thread);
                let this = &mut next.threads[thread];
                if next.word == Word::default() {
                    next.word.holder = this.name + 1;
                    this.pc = Pc::Inside;
                } else {
                    this.pc = Pc::Look;
                }
                return steps.add(thread, "tries to take the lock", next);
            }
            Pc::Look => {
                this.now = word;
                this.pc = match (state.is_free(word), this.entered) {
                    (true, _) => Pc::TakeFree,
                    (false, false) => Pc::Enter,
                    (false, true) => Pc::SetBit,
                };
                return steps.add(thread, "looks at the word", next);
            }
            Pc::TakeFree => {
                this.pc = Pc::Look;
                if word == this.now {
                    let waiters = word.waiters || this.slept;
                    next.word = Word {
                        holder: this.name + 1,
                        waiters,
                    };
                    this.pc = match this.entered {
                        true => Pc::Leave,
                        false => Pc::Inside,
                    };
                }
                return steps.add(thread, "takes the free lock", next);
            }
            Pc::Leave => {
                next.contention.sleepers -= 1;
                this.entered = false;
                this.pc = Pc::Inside;
                return steps.add(thread, "is not counted any more", next);
            }
            Pc::Enter => {
                this.pc = match contention.mode {
                    Mode::Calm | Mode::Roused => Pc::Barrier,
                    Mode::Contended => Pc::SetBit,
                };
                next.contention.sleepers += u8::from(!self.is(Mutant::NobodyCounts));
                this.entered = !self.is(Mutant::NobodyCounts);
                if contention.mode == Mode::Calm {
                    next.contention.mode = match self.is(Mutant::NotRoused) {
                        true => Mode::Calm,
                        false => Mode::Roused,
                    };
                }
                return steps.add(thread, "is counted", next);
            }
            Pc::Barrier => {
                this.pc = Pc::SayContended;
                if !self.is(Mutant::NoBarrier) {
                    (0..THREADS).for_each(|thread| next.drain(thread));
                }
                return steps.add(thread, "has all pass a barrier", next);
            }
            Pc::SayContended => {
                next.contention.mode = Mode::Contended;
                this.pc = Pc::SetBit;
                return steps.add(thread, "says that the lock is contended", next);
            }
            Pc::SetBit => {
                this.pc = Pc::Look;
                if word == this.now {
                    next.word.waiters = true;
                    this.pc = Pc::FallAsleep;
                }
                return steps.add(thread, "sets the waiters bit", next);
            }
            Pc::FallAsleep => {
                let watched = this.now.holder as usize - 1;
                let same = word.holder == this.now.holder && word.waiters;
                this.pc = match same && !state.dead[watched] {
                    true => Pc::Asleep,
                    false => Pc::Look,
                };
                return steps.add(thread, "falls asleep", next);
            }
            Pc::Inside => {
                this.pc = match contention.mode {
                    Mode::Calm => Pc::Store,
                    _ => Pc::Calm,
                };
                return steps.add(thread, "looks how to release", next);
            }
            Pc::Store => {
                this.buffered = true;
                this.pc = Pc::LookAfter;
                return steps.add(thread, "empties the word", next);
            }
            Pc::LookAfter => {
                match contention.mode == Mode::Calm {
                    true => self.next_round(thread, this),
                    false => this.pc = Pc::Wake,
                }
                return steps.add(thread, "looks whether it still is calm", next);
            }
            Pc::Wake => {}
            Pc::Calm => {
                // The exchange at once, or this first.
                let mut exchanges = next.clone();
                exchanges.threads[thread].pc = Pc::Exchange;
                steps.add(thread, "does not make it calm", exchanges);
                if contention.sleepers == 0 || self.is(Mutant::CalmBlindly) {
                    next.contention.mode = Mode::Calm;
                    next.threads[thread].pc = Pc::Exchange;
                    steps.add(thread, "makes the lock calm", next);
                }
                return;
            }
            Pc::Exchange => {
                next.word = Word::default();
                match word.waiters {
                    true => this.pc = Pc::Wake,
                    false => self.next_round(thread, this),
                }
                return steps.add(thread, "exchanges the word", next);
            }
        }
        self.wake(&next, thread, steps);
    }

    /// Wakes any one that sleeps. The kernel's lock makes it a barrier.
    fn wake(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let mut next = state.clone();
        next.drain(thread);
        self.next_round(thread, &mut next.threads[thread]);
        let asleep = |other: &usize| next.threads[*other].pc == Pc::Asleep;
        let sleepers: Vec<_> = (0..THREADS).filter(asleep).collect();
        for &sleeper in &sleepers {
            let mut woken = next.clone();
            woken.threads[sleeper].pc = Pc::Look;
            woken.threads[sleeper].slept = true;
            steps.add(thread, "wakes one", woken);
        }
        if sleepers.is_empty() {
            steps.add(thread, "finds nobody to wake", next);
        }
    }

    fn kill(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        if state.kills == 0 || state.threads[thread].pc == Pc::Done {
            return;
        }
        let mut next = state.clone();
        next.kills -= 1;
        next.drain(thread);
        let this = &mut next.threads[thread];
        next.swallowed |= this.slept;
        next.dead[this.name as usize] = true;
        *this = Thread {
            pc: Pc::Take,
            name: this.name + THREADS as u8,
            round: this.round,
            ..Thread::default()
        };
        steps.add(thread, "is killed, and comes back", next);
    }
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let thread = |name| Thread {
            pc: Pc::Take,
            name,
            ..Thread::default()
        };
        State {
            word: Word::default(),
            contention: Contention::default(),
            threads: [thread(0), thread(1), thread(2)],
            dead: [false; NAMES as usize],
            swallowed: false,
            kills: self.kills,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for thread in 0..THREADS {
            self.step(state, thread, steps);
            // One that was killed is not killed again.
            if state.threads[thread].name < THREADS as u8 {
                self.kill(state, thread, steps);
            }
            let this = &state.threads[thread];
            if this.buffered {
                let mut next = state.clone();
                next.drain(thread);
                steps.add(thread, "its store comes to memory", next);
            }
            if this.pc == Pc::Asleep
                && (state.swallowed || state.dead[this.now.holder as usize - 1])
            {
                let mut next = state.clone();
                next.threads[thread].pc = Pc::Look;
                next.threads[thread].slept = true;
                steps.add(thread, "wakes by a death", next);
            }
        }
    }

    fn check(&self, state: &State) -> Result<(), String> {
        let has_it = |thread: &&Thread| {
            matches!(
                thread.pc,
                Pc::Inside | Pc::Leave | Pc::Store | Pc::Calm | Pc::Exchange
            )
        };
        if state.threads.iter().filter(has_it).count() > 1 {
            return Err("two have the lock".into());
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

fn three() -> Config {
    Config {
        rounds: [2, 2, 1],
        kills: 0,
        mutant: None,
    }
}

#[test]
fn no_sleeper_is_missed() {
    prove("calm locks", &three());
    let killed = Config {
        rounds: [2, 1, 1],
        kills: 1,
        ..three()
    };
    prove("calm locks and a kill", &killed);
    if all() {
        let more = Config {
            rounds: [3, 2, 2],
            ..three()
        };
        prove("calm locks, more rounds", &more);
        let more = Config {
            kills: 1,
            ..three()
        };
        prove("calm locks, more rounds and a kill", &more);
    }
}

#[test]
fn mutants_of_calm_locks() {
    for mutant in [
        Mutant::NoBarrier,
        Mutant::NotRoused,
        Mutant::NobodyCounts,
        Mutant::CalmBlindly,
    ] {
        let broken = Config {
            rounds: [3, 2, 2],
            mutant: Some(mutant),
            ..three()
        };
        refute(&format!("{mutant:?}"), &broken);
    }
}
