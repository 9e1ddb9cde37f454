//! Roots: named objects, each an entry in one of the header's lists.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// What an entry's `state` says.
pub(crate) mod root_state {
    /// The name is visible.
    pub(crate) const LINKED: u32 = 1;
    /// The name was removed; the object goes when the last handle does.
    pub(crate) const REMOVED: u32 = 2;
}

/// A root. The name's bytes and the bitmap of using processes follow the fixed part.
///
/// All fields but `users` are constant, or change only in a section under the directory's lock.
#[repr(C)]
pub(crate) struct RootEntry {
    /// The next entry of the list; 0 at its end.
    pub(crate) next: AtomicU64,
    /// Never used again in this arena.
    pub(crate) number: u64,
    /// See [`root_state`].
    pub(crate) state: AtomicU32,
    /// Bytes of the name.
    pub(crate) name_len: u32,
    /// The value's offset.
    pub(crate) value: u64,
    /// The value's size.
    pub(crate) size: u64,
    /// The offset of the type's schema, a block of its own.
    pub(crate) schema: u64,
    pub(crate) schema_len: u64,
    /// How many words of `users` follow; the name follows them.
    pub(crate) users: u64,
}

/// A process that has handles of roots. Dead when its byte of the file is not locked any more.
#[repr(C)]
pub(crate) struct ProcessEntry {
    /// A `Claim`: process id, incarnation and namespace in one word; 0 if the entry is free.
    pub(crate) claim: AtomicU64,
    /// The whole number of the PID namespace.
    pub(crate) namespace: AtomicU64,
}

static_assertions::const_assert_eq!(size_of::<RootEntry>(), 64);
static_assertions::const_assert_eq!(size_of::<ProcessEntry>(), 16);
