//! Sections, locks, the journal with its segments, small blocks, drains, recovery, detaching.
//!
//! Two locks. Each guards a *cell* that owns a block or nothing, and a *data* word; each section
//! of most programs changes both data words, so that they are equal whenever both locks are free.
//! The blocks are those of two slabs, two each. Some threads begin attached, with slabs of theirs.
//!
//! A step is one access to what others can see; what only its own thread sees is part of the step
//! before or after. A log entry is one step: its bytes count only once the position is stored.
//!
//! Left out: stamps (each range is recorded once here anyway), `Reserved` slabs and spans (see
//! `spans`), who recovers in whose name when memory is short (see `gates`), magazines.

mod check;
mod heap;
mod recovery;
mod run;
mod steps;

use crate::{
    explore::{Model, Steps},
    mutant::Mutant,
    slots::{Claim, Life, Recovery, Slot, Tag, is_held, tag_of},
};

pub(crate) const SLOTS: usize = 3;
const LOCKS: usize = 2;
const SLABS: usize = 2;
const PER_SLAB: usize = 2;
const BLOCKS: usize = SLABS * PER_SLAB;
const THREADS: usize = 2;
/// Words under locks: the cells, then the data words. Word `w` is under lock `w % LOCKS`.
const WORDS: usize = 2 * LOCKS;
/// Entries of a log at most.
const ENTRIES: usize = 9;

/// What a thread's program consists of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Claims a slot and links the life word.
    Attach,
    /// Takes a lock.
    Lock(u8),
    /// Drops the guard: inside a scope the lock is retained (S2).
    DropGuard(u8),
    /// Changes the data word under a lock.
    Toggle(u8),
    /// Puts a new block into a cell and frees the old one; without memory, only the latter.
    Replace(u8),
    /// Frees the cell's block.
    Clear(u8),
    /// Allocates a block, records bytes inside it, and frees it again (J3).
    Temporary,
    /// `guard.commit()`: ends the unit, and keeps the locks.
    Commit,
    /// Ends the section: commits and releases all locks.
    End,
    /// Recovers every dead slot, and frees claims without life.
    Reap,
    /// Gives everything back, and goes.
    Detach,
}

pub(crate) struct Config {
    pub(crate) programs: [&'static [Op]; THREADS],
    /// What a killed thread does when it comes back as another process; nothing if empty.
    pub(crate) respawned: &'static [Op],
    pub(crate) kills: u8,
    /// Entries that fit into the slot; beyond, the log takes a segment.
    pub(crate) inline: u8,
    /// The blocks in the two cells at the beginning.
    pub(crate) cells: [u8; LOCKS],
    /// Who owns the slabs at the beginning: a thread, who is attached then, or nobody.
    pub(crate) owners: [Option<u8>; SLABS],
    pub(crate) mutant: Option<Mutant>,
}

/// A log entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Entry {
    #[default]
    None,
    /// A word's old value.
    Undo {
        word: u8,
        old: u8,
    },
    /// Old bytes inside a block.
    UndoInside(u8),
    Alloc(u8),
    Free(u8),
}

/// A slot's journal, and its doubt word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Journal {
    /// The log's position: so many entries are valid.
    log: u8,
    committed: bool,
    /// After commit: remote frees at or behind this position are done; 0 if none is.
    done: u8,
    doubt: u8,
    /// The block that is the log's segment.
    segment: u8,
    entries: [Entry; ENTRIES],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Owner {
    #[default]
    Free,
    Abandoned,
    Slot(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Slab {
    owner: Owner,
    published: u8,
    remote: u8,
}

/// Where a thread is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Pc {
    #[default]
    Done,
    Attach,
    Link,
    LookAtLock,
    Sleep,
    TakeLock,
    Take,
    Record,
    NoteAlloc,
    Publish,
    NoteFree,
    Write,
    RecordInside,
    FreeFresh,
    Commit,
    Release,
    Free,
    FreeRemotely,
    Count,
    CountLate,
    Empty,
    ClearDoubt,
    ClearDone,
    DrainRead,
    DrainDoubts,
    DrainPublished,
    DrainRemote,
    GiveUp,
    Slabs,
    DetachGeneration,
    DetachLife,
    DetachClaim,
    Undo,
    TakeOff,
    Reap,
    ReapClaims,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    /// The operation at hand in its program.
    op: u8,
    slot: u8,
    tag: Tag,
    /// Locks that the section holds, a bit each.
    held: u8,
    /// Blocks of each slab that are not given out and belong to this thread.
    cache: [u8; SLABS],
    /// The block taken out of the cache.
    block: u8,
    /// The block kept for the log's segment.
    segment: u8,
    /// The lock word that was read.
    read: Tag,
    /// Where the walk through a log is.
    at: u8,
    /// A count that is to be stored late (mutant).
    late: u8,
    slab: u8,
    /// Bits that a drain read, and whose doubt it looks at next.
    bits: u8,
    look: u8,
    /// What was tried without success in this operation.
    tried: u8,
    /// Where to go on behind a drain, and behind a recovery.
    behind: Pc,
    back: Pc,
    recovery: Recovery,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    slots: [Slot; SLOTS],
    journals: [Journal; SLOTS],
    locks: [Tag; LOCKS],
    words: [u8; WORDS],
    slabs: [Slab; SLABS],
    /// What is in each block: 0, or the log of that slot, plus 1.
    contents: [u8; BLOCKS],
    threads: [Thread; THREADS],
    kills: u8,
}

/// The slab of a block, and its bit there. Blocks have the numbers from 1 on.
fn place(block: u8) -> (usize, u8) {
    let index = block as usize - 1;
    (index / PER_SLAB, 1 << (index % PER_SLAB))
}

fn block_at(slab: usize, bit: u8) -> u8 {
    (slab * PER_SLAB) as u8 + bit.trailing_zeros() as u8 + 1
}

/// All bits of a slab.
const WHOLE: u8 = (1 << PER_SLAB) - 1;

impl Config {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn program(&self, thread: usize, incarnation: u8) -> &'static [Op] {
        match incarnation {
            0 => self.programs[thread],
            _ => self.respawned,
        }
    }

    /// The operation that a thread is at.
    fn op(&self, state: &State, thread: usize) -> Option<Op> {
        let Thread {
            incarnation, op, ..
        } = state.threads[thread];
        self.program(thread, incarnation).get(op as usize).copied()
    }
}

impl State {
    /// The slot as which a thread acts: its own, or the dead one that it recovers.
    fn acting(&self, thread: usize) -> usize {
        let thread = &self.threads[thread];
        if thread.recovery.acts() {
            return thread.recovery.dead as usize;
        }
        thread.slot as usize
    }

    fn owns(&self, slot: usize, slab: usize) -> bool {
        self.slabs[slab].owner == Owner::Slot(slot as u8)
    }

    fn is_free(&self, lock: usize) -> bool {
        !is_held(&self.slots, self.locks[lock])
    }

    fn is_dead(&self, slot: usize) -> bool {
        self.slots[slot].life == Life::Dead
    }
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            slots: Default::default(),
            journals: Default::default(),
            locks: Default::default(),
            words: [self.cells[0], self.cells[1], 0, 0],
            slabs: Default::default(),
            contents: Default::default(),
            threads: Default::default(),
            kills: self.kills,
        };
        for block in self.cells.into_iter().filter(|&block| block != 0) {
            let (slab, bit) = place(block);
            state.slabs[slab].owner = Owner::Abandoned;
            state.slabs[slab].published |= bit;
        }
        for thread in 0..THREADS {
            if !self.owners.contains(&Some(thread as u8)) {
                self.begin_op(&mut state, thread);
                continue;
            }
            state.slots[thread] = Slot::attached(Claim::of(thread, 0));
            state.threads[thread].slot = thread as u8;
            state.threads[thread].tag = tag_of(&state.slots, thread);
            for slab in 0..SLABS {
                if self.owners[slab] == Some(thread as u8) {
                    state.slabs[slab].owner = Owner::Slot(thread as u8);
                    state.threads[thread].cache[slab] = !state.slabs[slab].published & WHOLE;
                }
            }
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
        self.check_terminal(state)
    }
}
