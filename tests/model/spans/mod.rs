//! Spans: runs of slabs that are claimed, published, grown, freed and undone; `heap::span`.
//!
//! Two locks, each over a cell that owns a span or nothing. What is in a span is a *token* per
//! slab, of who filled it: a recovery that undoes bytes in what is another's by then is noticed.

mod check;
mod run;
mod steps;
mod undo;

use crate::{
    explore::{Model, Steps},
    mutant::Mutant,
    slots::{Claim, Recovery, Slot, Tag},
};

const SLOTS: usize = 3;
const LOCKS: usize = 2;
const SLABS: usize = 3;
const THREADS: usize = 2;
const ENTRIES: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Op {
    Attach,
    Lock(u8),
    /// Puts a new span of so many slabs into the lock's cell, and frees the old one.
    Replace(u8, u8),
    /// Makes the cell's span one slab longer where it lies.
    Grow(u8),
    /// Frees the cell's span.
    Clear(u8),
    /// Commits and releases the locks.
    End,
    /// Recovers every dead slot.
    Reap,
    Detach,
}

struct Config {
    programs: [&'static [Op]; THREADS],
    respawned: &'static [Op],
    kills: u8,
    /// The first cell's span at the beginning: its first slab, and its generation.
    first: Option<(u8, u8)>,
    mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Kind {
    #[default]
    Free,
    Reserved,
    Span,
    Tail,
    Freeing,
}

/// A slab's state word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Word {
    kind: Kind,
    slot: u8,
    /// For a tail, its distance to the head.
    generation: u8,
}

impl Word {
    fn next(self, kind: Kind, slot: u8) -> Word {
        Word {
            kind,
            slot,
            generation: self.generation + 1,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Slab {
    word: Word,
    /// Beside the word: the slabs of the span whose head this is,
    count: u8,
    /// and the generation that waits while this is a tail.
    kept: u8,
    /// What is inside.
    token: u8,
}

/// A value under a lock: the span it owns, and what it wrote there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Cell {
    /// The first slab plus 1; 0 is none.
    span: u8,
    /// Slabs of it that the value uses.
    len: u8,
    token: u8,
}

impl Cell {
    fn head(self) -> usize {
        self.span as usize - 1
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Entry {
    #[default]
    None,
    Undo {
        cell: u8,
        old: Cell,
    },
    UndoInside {
        slab: u8,
        old: u8,
    },
    AllocSpan {
        head: u8,
        count: u8,
        claimed: u8,
    },
    FreeSpan {
        head: u8,
        exact: Word,
    },
    GrowSpan {
        head: u8,
        before: u8,
        after: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Journal {
    log: u8,
    committed: bool,
    entries: [Entry; ENTRIES],
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
    Record,
    Claim,
    ClaimNext,
    ReleaseRun,
    NoteAlloc,
    Tails,
    Fill,
    RecordInside,
    NoteFree,
    Write,
    Commit,
    Release,
    Free,
    FreeTails,
    FreeHead,
    Empty,
    ReleaseReserved,
    DetachGeneration,
    DetachLife,
    DetachClaim,
    Undo,
    UndoGrowth,
    TakeOff,
    Reap,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    op: u8,
    slot: u8,
    tag: Tag,
    held: u8,
    read: Tag,
    /// The run at hand: its first slab plus 1, from where on it is worked at, and its end (as
    /// distances).
    run: u8,
    from: u8,
    to: u8,
    /// The head of a span that is taken apart, as it is meanwhile.
    freeing: Word,
    /// Where the walk through a log is.
    at: u8,
    tried: u8,
    back: Pc,
    recovery: Recovery,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    slots: [Slot; SLOTS],
    journals: [Journal; SLOTS],
    locks: [Tag; LOCKS],
    cells: [Cell; LOCKS],
    slabs: [Slab; SLABS],
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
}

impl State {
    fn acting(&self, thread: usize) -> usize {
        let thread = &self.threads[thread];
        if thread.recovery.acts() {
            return thread.recovery.dead as usize;
        }
        thread.slot as usize
    }
}

/// What a thread writes into spans.
fn token(thread: usize, incarnation: u8) -> u8 {
    incarnation * 2 + thread as u8 + 1
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            slots: Default::default(),
            journals: Default::default(),
            locks: Default::default(),
            cells: Default::default(),
            slabs: Default::default(),
            threads: Default::default(),
            kills: self.kills,
        };
        if let Some((head, generation)) = self.first {
            let slab = &mut state.slabs[head as usize];
            slab.word = Word {
                kind: Kind::Span,
                slot: 0,
                generation,
            };
            (slab.count, slab.token) = (1, 99);
            state.cells[0] = Cell {
                span: head + 1,
                len: 1,
                token: 99,
            };
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
        self.check_state(state)
    }

    fn check_end(&self, state: &State) -> Result<(), String> {
        if state.threads.iter().any(|thread| thread.pc != Pc::Done) {
            return Err("somebody waits for ever".into());
        }
        Ok(())
    }
}

impl Thread {
    fn claim(&self, thread: usize) -> Claim {
        Claim::of(thread, self.incarnation)
    }
}
