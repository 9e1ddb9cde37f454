//! The journal: what a thread's section changed, so that a death can be undone.
//!
//! PROTOCOL of a section, as its thread sees it (J1, J8 in ARCHITECTURE.md):
//! 1. *record*: old bytes, new blocks and blocks to free are written to the slot's log, each made
//!    valid by one store of the log's position; only then the arena is changed;
//! 2. *commit*: one store, which marks the position as committed, or empties the log when there is
//!    nothing to free;
//! 3. the locks are released;
//! 4. *frees*, from the last to the first: remote ones behind a doubt word, and counted;
//! 5. *empty*: one store; then what told of remote frees is cleared.
//!
//! A kill before 2 undoes everything, later nothing: [`recover`] does what is left.

mod bury;
mod gate;
mod immediate;
mod reads;
mod recover;
mod replay;
mod slots;

use recover::{link_life, unlink_life};

pub(crate) use bury::bury;

pub(crate) use immediate::Immediate;
pub(crate) use reads::{cell_of, next_reader, read_by};
pub(crate) use recover::{
    Depth, is_dead, is_gone, is_nobodys, reap, recover, recover_all, resolve_all, second_opinion,
};
pub(crate) use replay::{LogReader, Undone, doomed, undo_last};
pub(crate) use slots::{Claim, Lived, claim_slot, leave, next_generation, reserved_slots, tag_of};
