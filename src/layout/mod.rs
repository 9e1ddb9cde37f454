//! Every byte that is stored in an arena, and nothing else.
//!
//! The types here are what several processes agree on. Their sizes, alignments and field offsets
//! are asserted at compile time; ARCHITECTURE.md shows them as byte pictures, which a test compares
//! with `offset_of!`. What is read through them is untrusted until it was checked: see `mapping`.

mod container;
mod geometry;
mod header;
mod lock;
mod log;
#[cfg(test)]
mod picture;
mod root;
mod slab;
mod slot;

pub(crate) use container::{BufferHeader, MapHeader, SHORT_TEXT, TextHeader, VecHeader, marks};
pub(crate) use geometry::{Geometry, MAX_SLOTS, MIN_SLOTS};
pub(crate) use header::{
    BUCKETS, ENDIAN_MARK, FINGERPRINT, FORMAT_VERSION, Header, MAGIC, mixed_seed,
};
pub(crate) use lock::{
    Contention, FROZEN_TAG, LockWord, MutexHeader, PENDING_BIT, SLEEPERS_BIT, SemaphoreHeader, Tag,
    WAITERS_BIT, Wait, lock_of_cell,
};
pub(crate) use log::{Doom, Entry, EntryKind, HEADER_WORDS, LogPosition, MAX_RECORD};
pub(crate) use root::{ProcessEntry, RootEntry, root_state};
pub(crate) use slab::{LONGEST_SPAN, SlabBits, SlabKind, SlabState};
pub(crate) use slot::{
    Doubt, FIRST_READS, INLINE_LOG, OVERFLOW_SEGMENTS, PERMITS, READS, Readers, SEGMENTS, Segment,
    Slot, Stamp,
};
