//! Burying: what a committed section doomed is taken apart block by block (J12); `journal::bury`.
//!
//! ```text
//!   the copied header in the log -> block 1, in which two headers lie: -> block 2
//!                                                                       -> block 3, a span
//! ```
//!
//! At the beginning thread A has committed a section that doomed this, and freed block 4 in the plain
//! way. Blocks 1 and 4 lie in a slab of thread B, who drains it, and hands out again what was freed;
//! what a thread was given, it keeps. Whoever gets block 1 writes headers of its own into it.
//!
//! Left out: the section itself and its locks, magazines (see `section`), how a span is taken
//! apart (see `spans`).

use crate::{
    all,
    explore::{Model, Steps},
    mutant::Mutant,
    prove, refute,
    slots::{Claim, Life, Outcome, Recovery, Slot, Stage, Tag, claim, tag_of},
};

const SLOTS: usize = 4;
const THREADS: usize = 2;
const SLABS: usize = 2;
/// Blocks have the numbers from 1 on.
const BLOCKS: usize = 4;
const PARENT: u8 = 1;
const SPAN: u8 = 3;
const PLAIN: u8 = 4;

#[derive(Clone, Copy, Debug)]
enum Op {
    Attach,
    /// Does the frees of the committed section.
    Finish,
    /// Takes a small block, and keeps it.
    Alloc,
    /// Takes the span, and keeps it.
    AllocSpan,
    /// Gives back what it keeps in its own slabs, and spans.
    Free,
    Reap,
}

struct Config {
    programs: [&'static [Op]; THREADS],
    respawned: &'static [Op],
    kills: u8,
    /// The slab of each block; the span has none.
    slabs: [Option<usize>; BLOCKS],
    mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Slab {
    /// The owner's slot plus 1; 0 is nobody.
    owner: u8,
    published: u8,
    remote: u8,
}

/// The state word of the span's head.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Head {
    used: bool,
    generation: u8,
}

/// What a burial is at: nothing, a block, or a span whose head was exactly so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
enum Burying {
    #[default]
    Nothing,
    Block,
    Span(Head),
}

/// A slot's journal. Of its two entries the first dooms, the second frees.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Journal {
    log: u8,
    done: u8,
    doubt: u8,
    burying: Burying,
    /// The offset in the copied header.
    root: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
enum Pc {
    #[default]
    Done,
    Attach,
    Link,
    /// `finish`: the entries from the last to the first.
    NextEntry,
    DoubtPlain,
    FreePlain,
    CountPlain,
    /// `bury`.
    Walk,
    GoOn,
    SettleFirst,
    SettleFirstToo,
    NextEdge,
    Bury,
    Doubt,
    Unlink,
    FreeEdge,
    Settle,
    SettleToo,
    CountDoomed,
    Empty,
    ClearDoubt,
    ClearBurying,
    /// The heap.
    Alloc,
    DrainRead,
    DrainDoubts,
    DrainPublished,
    DrainRemote,
    Adopt,
    AllocSpan,
    Free,
    Reap,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Thread {
    pc: Pc,
    incarnation: u8,
    op: u8,
    slot: u8,
    tag: Tag,
    /// The entry at hand, and what the walk found of its blocks and is not freed yet: a bit each.
    at: u8,
    edges: u8,
    /// The block at hand.
    block: u8,
    /// A drain's slab, what it read there, and the slot whose doubt is next.
    slab: u8,
    bits: u8,
    look: u8,
    tried: u8,
    recovery: Recovery,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    slots: [Slot; SLOTS],
    journals: [Journal; SLOTS],
    slabs: [Slab; SLABS],
    head: Head,
    /// The headers in block 1: what blocks they own.
    headers: [u8; 2],
    /// What each thread was given: a bit for each block.
    kept: [u8; THREADS],
    threads: [Thread; THREADS],
    kills: u8,
}

fn bit(block: u8) -> u8 {
    1 << block
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

    fn slab_of(&self, block: u8) -> Option<usize> {
        self.slabs[block as usize - 1]
    }

    fn is_given_out(&self, state: &State, block: u8) -> bool {
        match self.slab_of(block) {
            None => state.head.used,
            Some(slab) => {
                let Slab {
                    published, remote, ..
                } = state.slabs[slab];
                published & !remote & bit(block) != 0
            }
        }
    }

    fn next_op(&self, state: &mut State, thread: usize) {
        state.threads[thread].op += 1;
        self.begin_op(state, thread);
    }

    fn begin_op(&self, state: &mut State, thread: usize) {
        let op = self.op(state, thread);
        let now = state.threads[thread];
        let mut this = Thread {
            incarnation: now.incarnation,
            op: now.op,
            slot: now.slot,
            tag: now.tag,
            ..Thread::default()
        };
        this.pc = match op {
            None => {
                this = Thread {
                    incarnation: now.incarnation,
                    slot: now.slot,
                    ..Thread::default()
                };
                Pc::Done
            }
            Some(Op::Attach) => Pc::Attach,
            Some(Op::Finish) => {
                this.at = state.journals[now.slot as usize].log;
                Pc::NextEntry
            }
            Some(Op::Alloc) => Pc::Alloc,
            Some(Op::AllocSpan) => Pc::AllocSpan,
            Some(Op::Free) => Pc::Free,
            Some(Op::Reap) => Pc::Reap,
        };
        state.threads[thread] = this;
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
        if now.recovery.runs() && now.recovery.stage != Stage::Journal {
            return self.recover(state, thread, steps);
        }
        match now.pc {
            Pc::Done => {}
            Pc::Attach | Pc::Link | Pc::Reap => self.live(state, thread, steps),
            Pc::Alloc | Pc::AllocSpan | Pc::Adopt | Pc::Free => self.heap(state, thread, steps),
            Pc::DrainRead | Pc::DrainDoubts | Pc::DrainPublished | Pc::DrainRemote => {
                self.drain(state, thread, steps);
            }
            _ => self.finish(state, thread, steps),
        }
    }

    fn live(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
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
                next.slots[now.slot as usize].life = Life::Alive;
                this.tag = tag_of(&next.slots, now.slot as usize);
                self.next_op(&mut next, thread);
                "links its life word"
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
                self.next_op(&mut next, thread);
                "has reaped"
            }
        };
        steps.add(thread, name, next);
    }

    fn recover(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let by = state.threads[thread].tag;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let dead = this.recovery.dead as usize;
        if this.recovery.stage == Stage::Rest {
            for slab in &mut next.slabs {
                if slab.owner == dead as u8 + 1 {
                    slab.owner = 0;
                }
            }
            this.recovery.stage = Stage::Claim;
            return steps.add(thread, "gives up the dead one's slabs", next);
        }
        match this.recovery.step(&mut next.slots, by, self.mutant) {
            Outcome::Blocked => {}
            Outcome::Went(name) | Outcome::Over(name) => {
                if this.recovery.stage == Stage::Journal {
                    this.at = state.journals[dead].log;
                    this.pc = Pc::NextEntry;
                }
                steps.add(thread, name, next);
            }
        }
    }

    /// Frees a block in the name of a slot: again, perhaps.
    fn free(&self, state: &mut State, slot: usize, block: u8, burying: Burying) {
        match (self.slab_of(block), burying) {
            (None, Burying::Span(exact)) => {
                if state.head == exact || self.is(Mutant::FreeAnySpan) {
                    state.head.used = false;
                    state.head.generation += 1;
                }
            }
            (Some(slab), _) if state.slabs[slab].owner == slot as u8 + 1 => {
                state.slabs[slab].published &= !bit(block);
            }
            (Some(slab), _) => state.slabs[slab].remote |= bit(block),
            (None, _) => {}
        }
    }

    /// What the copied header owns by now. Owners come before what they own.
    fn walk(&self, state: &State, root: u8) -> u8 {
        let given_out = |block: u8| block != 0 && self.is_given_out(state, block);
        if !given_out(root) {
            return 0;
        }
        let inside = state.headers.into_iter().filter(|&block| given_out(block));
        inside.fold(bit(root), |edges, block| edges | bit(block))
    }

    /// `Ctx::finish` and `replay::finish`, with `bury`.
    fn finish(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slot = state.acting(thread);
        let stored = state.journals[slot];
        let mut next = state.clone();
        let journal = &mut next.journals[slot];
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::NextEntry => {
                let done = stored.done != 0 && now.at >= stored.done;
                this.pc = match now.at {
                    0 => Pc::Empty,
                    1 if !done => Pc::Walk,
                    2 if !done => Pc::DoubtPlain,
                    _ => {
                        this.at -= 1;
                        Pc::NextEntry
                    }
                };
                return self.step(&next, thread, steps);
            }
            Pc::DoubtPlain => {
                (journal.doubt, this.pc) = (PLAIN, Pc::FreePlain);
                "says which block it frees"
            }
            Pc::FreePlain => {
                this.pc = Pc::CountPlain;
                self.free(&mut next, slot, PLAIN, Burying::Block);
                "frees the block"
            }
            Pc::CountPlain | Pc::CountDoomed => {
                (journal.done, this.at) = (now.at, now.at - 1);
                this.pc = Pc::NextEntry;
                "says that the entry is done"
            }
            Pc::Walk => {
                (this.edges, this.pc) = (self.walk(state, stored.root), Pc::GoOn);
                "walks through what is doomed"
            }
            Pc::GoOn => {
                let found = now.edges & bit(stored.doubt) != 0 && !self.is(Mutant::FreesBeforeWalk);
                let begun = stored.burying != Burying::Nothing && stored.doubt != 0 && !found;
                this.pc = Pc::SettleFirst;
                if begun {
                    self.free(&mut next, slot, stored.doubt, stored.burying);
                }
                "goes on with the block in doubt"
            }
            Pc::SettleFirst | Pc::Settle => {
                journal.doubt = 0;
                this.pc = match now.pc {
                    Pc::Settle => Pc::SettleToo,
                    _ => Pc::SettleFirstToo,
                };
                "doubts no block"
            }
            Pc::SettleFirstToo | Pc::SettleToo => {
                journal.burying = Burying::Nothing;
                this.pc = Pc::NextEdge;
                "buries nothing"
            }
            Pc::NextEdge => {
                let last = match self.is(Mutant::ParentFirst) {
                    true => now.edges.trailing_zeros() as u8,
                    false => now.edges.checked_ilog2().unwrap_or(0) as u8,
                };
                this.pc = match now.edges {
                    0 => Pc::CountDoomed,
                    _ if self.is(Mutant::UnlinkFirst) => Pc::Unlink,
                    _ => Pc::Bury,
                };
                (this.block, this.edges) = (last, now.edges & !bit(last));
                if now.edges == 0 {
                    (this.block, this.edges) = (0, 0);
                }
                return self.finish(&next, thread, steps);
            }
            Pc::Bury => {
                this.pc = match () {
                    _ if self.is(Mutant::BuryWithoutDoubt) => Pc::Unlink,
                    _ => Pc::Doubt,
                };
                if !self.is(Mutant::NoBurying) {
                    journal.burying = match now.block {
                        SPAN => Burying::Span(state.head),
                        _ => Burying::Block,
                    };
                }
                "says that it buries"
            }
            Pc::Doubt => {
                journal.doubt = now.block;
                this.pc = match () {
                    _ if self.is(Mutant::UnlinkFirst) => Pc::FreeEdge,
                    _ if self.is(Mutant::UnlinkLate) => Pc::FreeEdge,
                    _ => Pc::Unlink,
                };
                "says which block it frees"
            }
            Pc::Unlink => {
                if stored.root == now.block {
                    journal.root = 0;
                }
                for header in &mut next.headers {
                    if *header == now.block {
                        *header = 0;
                    }
                }
                this.pc = match () {
                    _ if self.is(Mutant::UnlinkFirst) => Pc::Bury,
                    _ if self.is(Mutant::UnlinkLate) => Pc::Settle,
                    _ if self.is(Mutant::SettleEarly) => Pc::Settle,
                    _ => Pc::FreeEdge,
                };
                "clears the owner's offset"
            }
            Pc::FreeEdge => {
                let exact = match now.block {
                    SPAN => Burying::Span(state.head),
                    _ => Burying::Block,
                };
                this.pc = match () {
                    _ if self.is(Mutant::UnlinkLate) => Pc::Unlink,
                    _ if self.is(Mutant::SettleEarly) => Pc::NextEdge,
                    _ => Pc::Settle,
                };
                self.free(&mut next, slot, now.block, exact);
                "frees the block"
            }
            Pc::Empty => {
                journal.log = 0;
                this.pc = Pc::ClearDoubt;
                "empties its log"
            }
            Pc::ClearDoubt => {
                journal.doubt = 0;
                this.pc = Pc::ClearBurying;
                "doubts no block"
            }
            _ => {
                *journal = Journal::default();
                if this.recovery.runs() {
                    this.recovery.stage = Stage::Generation;
                    (this.pc, this.at) = (Pc::Reap, 0);
                } else {
                    self.next_op(&mut next, thread);
                }
                "is over with its log"
            }
        };
        if self.is(Mutant::SettleEarly) && now.pc == Pc::SettleToo {
            next.threads[thread].pc = Pc::FreeEdge;
        }
        steps.add(thread, name, next);
    }

    fn give(&self, state: &mut State, thread: usize, block: u8) {
        state.kept[thread] |= bit(block);
        if block == PARENT {
            // Headers of the new owner's own: of what it has.
            let own = [2, PLAIN].into_iter();
            let has = own.filter(|&other| state.kept[thread] & bit(other) != 0);
            state.headers = [has.max().unwrap_or(0), 0];
        }
    }

    fn heap(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let own = now.slot + 1;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::Alloc => {
                let takable = |block: &u8| {
                    self.slab_of(*block).is_some_and(|slab| {
                        let Slab {
                            owner,
                            published,
                            remote,
                        } = state.slabs[slab];
                        owner == own && (published | remote) & bit(*block) == 0
                    })
                };
                if let Some(block) = (1..=BLOCKS as u8).find(takable) {
                    let slab = self.slab_of(block).expect("a small block");
                    next.slabs[slab].published |= bit(block);
                    self.give(&mut next, thread, block);
                    self.next_op(&mut next, thread);
                    return steps.add(thread, "is given a block", next);
                }
                let untried = |slab: &usize| now.tried & 1 << slab == 0;
                let of = |owner: u8| {
                    (0..SLABS).find(|slab| state.slabs[*slab].owner == owner && untried(slab))
                };
                match (of(own), of(0)) {
                    (Some(slab), _) => {
                        (this.slab, this.pc) = (slab as u8, Pc::DrainRead);
                        this.tried |= 1 << slab;
                        return self.drain(&next, thread, steps);
                    }
                    (None, Some(slab)) => (this.slab, this.pc) = (slab as u8, Pc::Adopt),
                    (None, None) => self.next_op(&mut next, thread),
                }
                "looks for a block"
            }
            Pc::Adopt => {
                if state.slabs[now.slab as usize].owner == 0 {
                    next.slabs[now.slab as usize].owner = own;
                }
                (this.slab, this.pc) = (0, Pc::Alloc);
                "adopts a slab"
            }
            Pc::AllocSpan => {
                if !state.head.used {
                    next.head.used = true;
                    next.head.generation += 1;
                    self.give(&mut next, thread, SPAN);
                }
                self.next_op(&mut next, thread);
                "claims the span"
            }
            _ => {
                for block in 1..=BLOCKS as u8 {
                    let slab = self.slab_of(block);
                    let has = state.kept[thread] & bit(block) != 0;
                    if has && slab.is_none_or(|slab| state.slabs[slab].owner == own) {
                        next.kept[thread] &= !bit(block);
                        let exact = Burying::Span(state.head);
                        self.free(&mut next, now.slot as usize, block, exact);
                    }
                }
                self.next_op(&mut next, thread);
                "frees what it has"
            }
        };
        steps.add(thread, name, next);
    }

    fn drain(&self, state: &State, thread: usize, steps: &mut Steps<State>) {
        let now = &state.threads[thread];
        let slab = now.slab as usize;
        let mut next = state.clone();
        let this = &mut next.threads[thread];
        let name = match now.pc {
            Pc::DrainRead => {
                (this.bits, this.pc) = (state.slabs[slab].remote, Pc::DrainDoubts);
                if this.bits == 0 {
                    (this.slab, this.pc) = (0, Pc::Alloc);
                    return self.heap(&next, thread, steps);
                }
                "reads the remote bits"
            }
            Pc::DrainDoubts => {
                let doubt = state.journals[now.look as usize].doubt;
                if doubt != 0 && !self.is(Mutant::NoDoubtCheck) {
                    this.bits &= !bit(doubt);
                }
                this.look += 1;
                if this.look as usize == SLOTS {
                    (this.look, this.pc) = (0, Pc::DrainPublished);
                }
                "reads a doubt word"
            }
            Pc::DrainPublished => {
                next.slabs[slab].published &= !now.bits;
                this.pc = Pc::DrainRemote;
                "clears published bits"
            }
            _ => {
                next.slabs[slab].remote &= !now.bits;
                (this.slab, this.bits, this.pc) = (0, 0, Pc::Alloc);
                "clears remote bits"
            }
        };
        steps.add(thread, name, next);
    }
}

impl Model for Config {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State {
            slots: Default::default(),
            journals: Default::default(),
            slabs: Default::default(),
            head: Head {
                used: true,
                generation: 0,
            },
            headers: [2, SPAN],
            kept: [0; THREADS],
            threads: Default::default(),
            kills: self.kills,
        };
        (state.journals[0].log, state.journals[0].root) = (2, PARENT);
        for block in 1..=BLOCKS as u8 {
            if let Some(slab) = self.slab_of(block) {
                state.slabs[slab].published |= bit(block);
            }
        }
        for thread in 0..THREADS {
            state.slots[thread] = Slot::attached(Claim::of(thread, 0));
            state.slabs[thread].owner = thread as u8 + 1;
            state.threads[thread].slot = thread as u8;
            state.threads[thread].tag = tag_of(&state.slots, thread);
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

    /// What somebody was given is given out.
    fn check(&self, state: &State) -> Result<(), String> {
        if state.kept[0] & state.kept[1] != 0 {
            return Err("a block was given to two".into());
        }
        for block in 1..=BLOCKS as u8 {
            let kept = (state.kept[0] | state.kept[1]) & bit(block) != 0;
            if kept && !self.is_given_out(state, block) {
                return Err(format!("block {block} is freed, though somebody has it"));
            }
        }
        for (slot, journal) in state.journals.iter().enumerate() {
            if state.slots[slot].is_free(self.mutant) && *journal != Journal::default() {
                return Err(format!("slot {slot} can be claimed, and is not over"));
            }
        }
        Ok(())
    }

    /// What nobody has is free.
    fn check_end(&self, state: &State) -> Result<(), String> {
        if state.threads.iter().any(|thread| thread.pc != Pc::Done) {
            return Err("somebody waits for ever".into());
        }
        for block in 1..=BLOCKS as u8 {
            let kept = (state.kept[0] | state.kept[1]) & bit(block) != 0;
            if !kept && self.is_given_out(state, block) {
                return Err(format!("block {block} is lost"));
            }
        }
        Ok(())
    }
}

const BURY: &[Op] = &[Op::Finish, Op::Alloc];
const TAKE: &[Op] = &[Op::AllocSpan, Op::Alloc, Op::Alloc, Op::Free, Op::Alloc];
const RETURN: &[Op] = &[Op::Attach, Op::Reap, Op::AllocSpan, Op::Alloc];
const REAP: &[Op] = &[Op::Reap, Op::AllocSpan, Op::Alloc, Op::Alloc];

/// The first block and the plain one lie in the slab of the other.
fn of_the_other() -> Config {
    Config {
        programs: [BURY, TAKE],
        respawned: RETURN,
        kills: 2,
        slabs: [Some(1), Some(0), None, Some(1)],
        mutant: None,
    }
}

/// The second one and the plain one do; the other recovers at once.
fn of_its_own() -> Config {
    Config {
        programs: [BURY, REAP],
        slabs: [Some(0), Some(1), None, Some(1)],
        ..of_the_other()
    }
}

#[test]
fn what_is_doomed_is_freed_once() {
    prove("burying", &of_the_other());
    prove("burying, own blocks", &of_its_own());
}

#[test]
fn larger_sizes() {
    if all() {
        let three = Config {
            kills: 3,
            ..of_the_other()
        };
        prove("burying, three kills", &three);
    }
}

#[test]
fn mutants_of_burying() {
    for mutant in [
        Mutant::BuryWithoutDoubt,
        Mutant::NoBurying,
        Mutant::UnlinkFirst,
        Mutant::UnlinkLate,
        Mutant::SettleEarly,
        Mutant::FreesBeforeWalk,
        Mutant::ParentFirst,
        Mutant::FreeAnySpan,
        Mutant::NoDoubtCheck,
    ] {
        let broken = |config| Config {
            mutant: Some(mutant),
            ..config
        };
        refute(&format!("{mutant:?}"), &broken(of_the_other()));
    }
}
