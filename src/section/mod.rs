//! Sections: what a thread does between its first lock and the end of its guard is one unit.
//!
//! Each thread that writes in an arena has a [`Ctx`] there: its slot, its cache of blocks, the
//! cursor into its log, the locks it holds. Containers reach it by their own address, through
//! [`Writer`]: which records (`record`), allocates and frees (`blocks`).

mod attach;
mod blocks;
mod ctx;
mod doom;
mod end;
mod flags;
mod frees;
mod held;
mod here;
mod nested;
mod permits;
mod reads;
mod record;
mod segments;
mod turns;
mod undo;
mod unlocked;
mod writer;

pub(crate) use attach::{attach, attached, detach_current, leave_unused};
pub(crate) use blocks::Allocated;
pub(crate) use ctx::Ctx;
pub(crate) use held::{LockKind, Taken};
pub(crate) use unlocked::{in_any_section, in_section_for_drops};
pub(crate) use writer::Writer;
