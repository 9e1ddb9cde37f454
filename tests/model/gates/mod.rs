//! Who has a slot: claiming, leaving, freeing a claim without a life, taking over a dead recoverer's
//! slot, each in the slot's *gate* (R4, R5, R6); `journal::{slots, gate, recover}`, `os::life`.
//!
//! Slot 0 is reserved for recoverers, the others are for work. At the beginning some of these are
//! of threads that died in a section, and the reserved one is of a recoverer that died with a lease.
//!
//! The kernel marks a life word at a death if its thread *watches* it (a node on its robust list, or
//! pending) and if the word bears its number. In other PID namespaces the same number is somebody
//! else's, and whether a process there is gone nobody can tell.

mod run;
mod steps;

use crate::{
    explore::{Model, Steps},
    mutant::Mutant,
    slots::{Claim, Life, Recovery, Slot, Tag, is_gone, tag_of},
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

/// Where the threads' processes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Processes {
    /// In one PID namespace.
    Together,
    /// Each in a PID namespace of its own, where its thread has the same number as all others.
    Apart,
    /// Parent and child, which the kernel does not tell apart in a gate.
    Related,
}

struct Config {
    programs: [&'static [Op]; THREADS],
    respawned: &'static [Op],
    kills: u8,
    processes: Processes,
    /// Whether the kernel may refuse a gate to who leaves a slot.
    refuses: bool,
    /// The slots there are.
    slots: usize,
    mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Pc {
    #[default]
    Done,
    NoSlots,
    /// `claim_slot`: who finds no slot reaps, and looks again.
    Attach,
    Open,
    Commit,
    Detach,
    /// `try_enter`, in the gate: the slot is looked at again, claimed, and has a life.
    EnterGate,
    LookAgain,
    Claim,
    LookBack,
    IsMine,
    Watch,
    Live,
    /// `leave`, in the gate: the reverse.
    LeaveGate,
    Die,
    ClearWord,
    Unwatch,
    Unclaim,
    /// `free_lifeless`.
    Lifeless,
    LifelessGate,
    LookAtLife,
    FreeClaim,
    /// `take_dead`, in the gate: a life word over the mark of a dead recoverer.
    TakeGate,
    LookAtMark,
    WatchMark,
    Replace,
    StoreClaim,
    TakeGeneration,
    /// The end of each of these.
    OpenGate,
    /// `recover_all`, `enter_reserved`.
    RecoverAll,
    ReservedLifeless,
    EnterAgain,
    TakeDead,
    Recover,
    /// The rest of `reap`.
    TakeUnused,
    LeaveUnused,
    AllLifeless,
    Reaped,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    op: u8,
    /// Slots in which the thread lives, as far as it knows, and those whose life words the kernel
    /// watches for it: a bit each.
    lives: u8,
    watches: u8,
    /// The slot at hand, and where it goes on behind its gate: if it got through, and if it did not.
    at: u8,
    in_gate: bool,
    then: Pc,
    otherwise: Pc,
    /// The claim that was read.
    read: Claim,
    /// Slots that were tried.
    tried: u8,
    /// Whether it has reaped since it found no slot.
    has_reaped: bool,
    recovery: Recovery,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    slots: [Slot; SLOTS],
    /// The number in each life word.
    numbers: [u8; SLOTS],
    /// Who is in the gate of each slot: the thread plus 1.
    gates: [u8; SLOTS],
    /// Whether a slot's journal is not empty.
    open: [bool; SLOTS],
    threads: [Thread; THREADS],
    kills: u8,
}

impl Thread {
    /// The slot in which it works.
    fn slot(&self) -> usize {
        (self.lives & !(1 << RESERVED)).trailing_zeros() as usize
    }

    fn lives_in(&self, slot: usize) -> bool {
        self.lives & 1 << slot != 0
    }
}

impl State {
    /// In whose name a thread recovers.
    fn recoverer(&self) -> Tag {
        tag_of(&self.slots, RESERVED)
    }
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

    fn working(&self) -> std::ops::Range<usize> {
        RESERVED + 1..self.slots
    }

    /// What the thread is called in its own namespace.
    fn number(&self, thread: usize) -> u8 {
        match self.processes {
            Processes::Apart => 1,
            _ => thread as u8 + 1,
        }
    }

    /// Whether the claimant is there, or certainly was when it was asked for. Of one in another
    /// namespace nothing is known.
    fn is_there(&self, state: &State, claim: Claim, thread: usize) -> bool {
        let own = claim.thread() == Some(thread);
        let foreign = self.processes == Processes::Apart && !own;
        let incarnation = |thread: usize| state.threads[thread].incarnation;
        !foreign && !claim.is_gone(incarnation)
    }

    fn is_free(&self, state: &State, slot: usize) -> bool {
        state.slots[slot].is_free(self.mutant)
    }
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            slots: [Slot::default(); SLOTS],
            numbers: Default::default(),
            gates: Default::default(),
            open: Default::default(),
            threads: Default::default(),
            kills: self.kills,
        };
        for slot in 0..self.slots {
            state.slots[slot] = Slot::dead();
            state.open[slot] = slot != RESERVED;
        }
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
        let [a, b] = &state.threads;
        if a.lives & b.lives != 0 {
            return Err("two threads live in one slot".into());
        }
        if a.recovery.acts() && b.recovery.acts() && a.recovery.dead == b.recovery.dead {
            return Err(format!("two recover slot {}", a.recovery.dead));
        }
        for slot in 0..SLOTS {
            if self.is_free(state, slot) && state.open[slot] {
                return Err(format!("slot {slot} can be claimed, and is not over"));
            }
            for (index, thread) in state.threads.iter().enumerate() {
                let life = (state.slots[slot].life, state.numbers[slot]);
                if thread.lives_in(slot) && life != (Life::Alive, self.number(index)) {
                    return Err(format!("slot {slot} is taken from who lives there"));
                }
            }
        }
        Ok(())
    }

    /// Everybody came to the end, and what is not free the next one who reaps gets back.
    fn check_end(&self, state: &State) -> Result<(), String> {
        if self.refuses {
            // A slot that cannot be left is taken to its thread's end.
            return Ok(());
        }
        for thread in &state.threads {
            match thread.pc {
                Pc::Done => {}
                Pc::NoSlots => return Err("somebody finds no slot, though there is one".into()),
                _ => return Err("somebody waits for ever".into()),
            }
        }
        for (slot, stored) in state.slots.iter().enumerate() {
            let abandoned = stored.life == Life::Nobody || stored.life == Life::Dead;
            if !abandoned || state.gates[slot] != 0 || !is_gone(&state.slots, stored.lease) {
                return Err(format!("slot {slot} is lost: {stored:?}"));
            }
        }
        Ok(())
    }
}
