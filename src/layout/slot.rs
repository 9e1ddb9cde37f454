//! Slots: what a thread keeps in an arena while it is attached. One page each.
//!
//! The last eight bytes of the page hold the *life word*, which the kernel marks when the thread
//! dies; `os::life` says why it must lie there.

use super::LockWord;
use std::sync::atomic::AtomicU64;

/// Semaphores of which a thread can hold permits at a time.
pub(crate) const PERMITS: usize = 32;
/// Segments by which a log can outgrow its slot.
pub(crate) const SEGMENTS: usize = 36;
/// How many of them can only be had in the overflow.
pub(crate) const OVERFLOW_SEGMENTS: usize = 12;
/// Cells for read locks beside those of the other slots, and further ones in the slot.
pub(crate) const FIRST_READS: usize = 7;
pub(crate) const FURTHER_READS: usize = 15;
/// Read locks that a thread can have at a time.
pub(crate) const READS: usize = FIRST_READS + FURTHER_READS;
/// Bytes of log inside the slot.
pub(crate) const INLINE_LOG: usize = 2464;

/// A further piece of log, in a block that is never published.
#[repr(C)]
pub(crate) struct Segment {
    /// Where it is.
    pub(crate) offset: AtomicU64,
    /// How many bytes it has.
    pub(crate) size: AtomicU64,
    /// How many bytes of the segment before it were used when the log went on to this one.
    pub(crate) before: AtomicU64,
}

/// Permits of one semaphore.
#[repr(C)]
pub(crate) struct PermitCell {
    /// The semaphore's offset; 0 if the cell is free.
    pub(crate) semaphore: AtomicU64,
    pub(crate) count: AtomicU64,
}

/// One thread's slot. Written by its thread, or by who recovers it under the lease.
///
/// What each section writes lies at the end of the page, and what is hardly used at its begin: there a
/// user's locks and containers often lie in *their* pages. (A processor takes a load for one of what a
/// store just before it wrote, if both are at the same place in their pages, and has it wait.)
#[repr(C, align(4096))]
pub(crate) struct Slot {
    /// Segments that extend the log, in order.
    pub(crate) segments: [Segment; SEGMENTS],
    /// Permits that the thread holds.
    pub(crate) permits: [PermitCell; PERMITS],
    /// The first part of the log.
    pub(crate) inline: [u8; INLINE_LOG],
    /// Who claimed the slot, a `Claim`: process id, incarnation and namespace in one word; 0 if nobody.
    pub(crate) claim: AtomicU64,
    /// Who recovers the slot, as a lock tag; 0 if nobody.
    pub(crate) lease: AtomicU64,
    /// Raised when the slot's journal was resolved for good; lock words name it.
    pub(crate) generation: AtomicU64,
    /// The last section's number. Never goes back.
    pub(crate) serial: AtomicU64,
    /// How far the log is written, a `LogPosition`; 0 while there is nothing to undo or to finish.
    pub(crate) log: AtomicU64,
    /// After commit: frees of blocks at or behind this position are done; 0 if none is. A section commits
    /// with 0 here.
    pub(crate) done: AtomicU64,
    /// What the thread sleeps for: a `Wait`.
    pub(crate) wait: AtomicU64,
    /// Not 0 while a container is taken apart: then the exact state of the span that the slot's doubt
    /// word names, or all ones for a block.
    pub(crate) burying: AtomicU64,
    /// The immediate journal: a code and what it needs, see `journal::immediate`.
    pub(crate) immediate: [AtomicU64; 8],
    /// Cells for read locks beyond the first ones.
    pub(crate) reads: [LockWord; FURTHER_READS],
}

/// The number of a section: the slot and how many sections it had before. Never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp(pub(crate) u64);

impl Stamp {
    /// Bits of the serial.
    pub(crate) const SERIAL_BITS: u32 = 50;
    /// How many serials there are.
    pub(crate) const SERIALS: u64 = 1 << Self::SERIAL_BITS;

    pub(crate) const fn new(slot: usize, serial: u64) -> Self {
        // A damaged arena may count from anywhere.
        let serial = serial & (Self::SERIALS - 1);
        Stamp((slot as u64) << Self::SERIAL_BITS | serial)
    }
}

/// Names the block that its slot is freeing now; 0 if none. One cache line per slot, beside each
/// other, since who drains a slab reads them all.
#[repr(C, align(64))]
pub(crate) struct Doubt {
    pub(crate) block: AtomicU64,
    /// Not 0 if others may have freed blocks of the slot's slabs: a hint.
    pub(crate) remote_frees: AtomicU64,
}

/// What its slot's thread reads: cells, see the truth table in `layout::lock`. One cache line per
/// slot, beside each other, since a writer reads them all.
#[repr(C, align(64))]
pub(crate) struct Readers {
    pub(crate) cells: [LockWord; FIRST_READS],
    /// How many of the slot's further cells may be in use, from the first.
    pub(crate) further: AtomicU64,
}

static_assertions::const_assert_eq!(size_of::<Slot>(), 4096);
static_assertions::const_assert_eq!(size_of::<Readers>(), 64);
static_assertions::const_assert!(
    std::mem::offset_of!(Slot, reads) + FURTHER_READS * 8
        <= 4096 - crate::os::life::WORD_FROM_PAGE_END
);
// The words in one line of the cache.
static_assertions::const_assert!(std::mem::offset_of!(Slot, claim).is_multiple_of(64));
static_assertions::const_assert!(INLINE_LOG.is_multiple_of(8));
