//! What all models share: slots, names of holders, and the frame of recovery.
//!
//! A thread here is a process of its own; killed, it comes back as another one, a new
//! *incarnation*, with another program.

use crate::mutant::Mutant;

/// Who holds a lock or a lease: a slot in one of its generations (L1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Tag {
    /// The slot plus 1; 0 is nobody.
    holder: u8,
    generation: u8,
}

impl Tag {
    pub(crate) const NOBODY: Tag = Tag {
        holder: 0,
        generation: 0,
    };

    pub(crate) fn slot(self) -> Option<usize> {
        (self.holder != 0).then(|| self.holder as usize - 1)
    }
}

/// What the life word says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub(crate) enum Life {
    #[default]
    Nobody,
    Alive,
    Dead,
}

/// A process: a thread of the model and its incarnation. 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Claim(u8);

impl Claim {
    pub(crate) const NONE: Claim = Claim(0);
    /// A process that has nothing to do with the model's threads, and is gone.
    pub(crate) const GONE: Claim = Claim(255);

    pub(crate) fn of(thread: usize, incarnation: u8) -> Claim {
        Claim(incarnation << 2 | (thread as u8 + 1))
    }

    /// The thread of the model that made the claim.
    pub(crate) fn thread(self) -> Option<usize> {
        (self != Claim::GONE && self != Claim::NONE).then(|| (self.0 & 3) as usize - 1)
    }

    /// Whether the process is gone, if the threads live in these incarnations.
    pub(crate) fn is_gone(self, incarnations: impl Fn(usize) -> u8) -> bool {
        let thread = self.thread();
        thread.is_none_or(|thread| incarnations(thread) != self.0 >> 2)
    }
}

/// The part of a slot that recovery is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) claim: Claim,
    pub(crate) life: Life,
    pub(crate) generation: u8,
    pub(crate) lease: Tag,
}

impl Slot {
    /// A slot with a thread in it.
    pub(crate) fn attached(claim: Claim) -> Slot {
        Slot {
            claim,
            life: Life::Alive,
            ..Slot::default()
        }
    }

    /// Whether anybody may have the slot: it has neither a claim nor a life (R6).
    pub(crate) fn is_free(&self, mutant: Option<Mutant>) -> bool {
        let lifeless = self.life == Life::Nobody || mutant == Some(Mutant::ClaimBeforeLife);
        self.claim == Claim::NONE && lifeless
    }

    /// A slot whose thread died.
    pub(crate) fn dead() -> Slot {
        Slot {
            life: Life::Dead,
            ..Slot::attached(Claim::GONE)
        }
    }
}

/// The tag of a slot as it is now.
pub(crate) fn tag_of(slots: &[Slot], slot: usize) -> Tag {
    Tag {
        holder: slot as u8 + 1,
        generation: slots[slot].generation,
    }
}

/// Whether a lock's word still means that somebody has the lock (L2).
pub(crate) fn is_held(slots: &[Slot], word: Tag) -> bool {
    word.slot().is_some_and(|slot| tag_of(slots, slot) == word)
}

/// What a lock's word says to `me`.
pub(crate) enum Look {
    Free,
    /// The holder died: recover it first.
    Dead(usize),
    /// Somebody has it, and lives.
    Held,
    /// It names `me`.
    Mine,
}

/// Looks at a lock's word, as `Taker::take_loop` does (L2).
pub(crate) fn look(slots: &[Slot], word: Tag, me: Tag) -> Look {
    match word.slot().filter(|_| is_held(slots, word)) {
        None => Look::Free,
        Some(_) if word == me => Look::Mine,
        Some(holder) if slots[holder].life == Life::Dead => Look::Dead(holder),
        Some(_) => Look::Held,
    }
}

/// Whether the holder that a lease names can do nothing any more.
pub(crate) fn is_gone(slots: &[Slot], holder: Tag) -> bool {
    !is_held(slots, holder)
        || holder
            .slot()
            .is_some_and(|slot| slots[slot].life == Life::Dead)
}

/// Claims a slot: one compare-and-swap (R5).
pub(crate) fn claim(slots: &mut [Slot], slot: usize, claim: Claim, mutant: Option<Mutant>) {
    slots[slot].claim = claim;
    if mutant == Some(Mutant::ClaimClearsLease) {
        slots[slot].lease = Tag::NOBODY;
    }
}

/// Where a recovery is; the order of `journal::recover`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub(crate) enum Stage {
    /// There is none.
    #[default]
    Idle,
    Look,
    Lease,
    SecondLook,
    /// The model's: the slot's journals.
    Journal,
    Generation,
    /// The model's: permits, slabs.
    Rest,
    Claim,
    Life,
    GiveBack,
}

/// A thread's recovery of a dead slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) stage: Stage,
    pub(crate) dead: u8,
    /// To the end, or until the locks are free .
    pub(crate) all: bool,
    /// The lease that an exact compare-and-swap expects.
    read: Tag,
}

/// What became of a step of recovery.
pub(crate) enum Outcome {
    /// Nothing can be done until somebody else does something.
    Blocked,
    Went(&'static str),
    /// It is over.
    Over(&'static str),
}

impl Recovery {
    pub(crate) fn begin(dead: usize, all: bool) -> Recovery {
        Recovery {
            stage: Stage::Look,
            dead: dead as u8,
            all,
            ..Recovery::default()
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// Whether the recoverer acts as the dead slot at the moment.
    pub(crate) fn acts(&self) -> bool {
        matches!(self.stage, Stage::Journal | Stage::Rest)
    }

    /// The steps that are the same in every model, in the name of `by`. Who waits for a lock goes
    /// on only after the recovery, his or another's; others leave it.
    pub(crate) fn step(&mut self, slots: &mut [Slot], by: Tag, mutant: Option<Mutant>) -> Outcome {
        let dead = self.dead as usize;
        match self.stage {
            Stage::Idle | Stage::Journal | Stage::Rest => unreachable!("the model's own"),
            Stage::Look => {
                let lease = slots[dead].lease;
                if slots[dead].life != Life::Dead {
                    return self.over("finds that the slot is not dead (any more)");
                }
                if lease != by && !is_gone(slots, lease) {
                    return match self.all {
                        true => self.over("leaves the dead slot to who is at it"),
                        false => Outcome::Blocked,
                    };
                }
                self.read = lease;
                self.stage = Stage::Lease;
                Outcome::Went("reads the dead slot's lease")
            }
            Stage::Lease => {
                let read = std::mem::take(&mut self.read);
                if slots[dead].lease != read {
                    return self.over("does not get the lease");
                }
                slots[dead].lease = by;
                self.stage = Stage::SecondLook;
                Outcome::Went("takes the lease")
            }
            Stage::SecondLook => {
                let alive = slots[dead].life != Life::Dead;
                if alive && mutant != Some(Mutant::NoSecondLook) {
                    self.stage = Stage::GiveBack;
                    return Outcome::Went("looks again: not dead");
                }
                if mutant == Some(Mutant::GenerationFirst) {
                    slots[dead].generation += 1;
                }
                self.stage = Stage::Journal;
                Outcome::Went("looks again: still dead")
            }
            Stage::Generation => {
                if mutant != Some(Mutant::GenerationFirst) {
                    slots[dead].generation += 1;
                }
                if mutant == Some(Mutant::ClaimFirst) && self.all {
                    slots[dead].life = Life::Nobody;
                    slots[dead].claim = Claim::NONE;
                }
                self.stage = match self.all {
                    true => Stage::Rest,
                    false => Stage::GiveBack,
                };
                Outcome::Went("raises the generation: its locks are free")
            }
            Stage::Claim => {
                self.stage = Stage::Life;
                if mutant == Some(Mutant::ClaimFirst) {
                    return Outcome::Went("goes on");
                }
                slots[dead].claim = Claim::NONE;
                Outcome::Went("clears the dead slot's claim")
            }
            Stage::Life => {
                self.stage = Stage::GiveBack;
                if mutant == Some(Mutant::ClaimFirst) {
                    return Outcome::Went("goes on");
                }
                slots[dead].life = Life::Nobody;
                Outcome::Went("clears the dead slot's life word")
            }
            Stage::GiveBack => {
                if slots[dead].lease == by {
                    slots[dead].lease = Tag::NOBODY;
                }
                self.over("gives the lease back")
            }
        }
    }

    fn over(&mut self, name: &'static str) -> Outcome {
        *self = Recovery::default();
        Outcome::Over(name)
    }
}
