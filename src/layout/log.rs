//! The journal's log: entries one behind the other, each ended by a descriptor, read backwards.
//!
//! ```text
//! | payload, padded to 8 | descriptor | payload | descriptor | ...  <- position
//! ```
//!
//! A descriptor is one word: what kind of entry, the bytes of payload, the offset it speaks of.
//!
//! | bits 61..64 | bits 48..61 | bits 0..48 |
//! |---|---|---|
//! | kind | payload length | offset in the arena |
//!
//! An entry for a single byte has no payload: the byte itself stands where the length would.

/// The most bytes that one [`EntryKind::Undo`] entry holds; longer ranges take several.
pub(crate) const MAX_RECORD: usize = 4096;

/// What an entry tells recovery.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EntryKind {
    /// What the byte at the offset was, in place of a length. Rolling back restores it.
    Byte = 0,
    /// The payload is what the bytes at the offset were. Rolling back restores them.
    Undo = 1,
    /// The block at the offset was allocated. Rolling back frees it.
    Alloc = 2,
    /// The block at the offset is to be freed after commit.
    Free = 3,
    /// The span at the offset was allocated. Payload: the slabs in it.
    AllocSpan = 4,
    /// The span at the offset is to be freed after commit. Payload: its exact state word.
    FreeSpan = 5,
    /// The span at the offset grew in place. Payload: its slabs before and after.
    GrowSpan = 6,
    /// A container is to be taken apart after commit. Payload: a [`Doom`].
    Doom = 7,
}

/// What an [`EntryKind::Doom`] entry holds. The schema of the container's type may follow, which
/// later entries of the same log refer to.
#[repr(C)]
pub(crate) struct Doom {
    /// Where the schema lies, and its length.
    pub(crate) schema: u64,
    pub(crate) schema_len: u64,
    /// The container's header.
    pub(crate) header: [u64; HEADER_WORDS],
}

/// Words of the longest header of a container.
pub(crate) const HEADER_WORDS: usize = 6;

static_assertions::const_assert_eq!(size_of::<Doom>(), 64);
static_assertions::const_assert!(size_of::<super::MapHeader>() <= HEADER_WORDS * 8);
static_assertions::const_assert!(size_of::<super::VecHeader>() <= HEADER_WORDS * 8);

/// The bits of a descriptor that are an offset.
const OFFSET: u64 = (1 << 48) - 1;

/// A descriptor, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    /// Bytes of payload, without padding; of a [`EntryKind::Byte`] the byte itself.
    pub(crate) len: usize,
    pub(crate) offset: u64,
}

impl Entry {
    /// The stored form.
    pub(crate) const fn encode(self) -> u64 {
        (self.kind as u64) << 61 | (self.len as u64) << 48 | self.offset
    }

    /// Takes a stored descriptor apart; `None` if no build of this version wrote it.
    pub(crate) fn decode(word: u64) -> Option<Self> {
        let kind = match word >> 61 {
            0 => EntryKind::Byte,
            1 => EntryKind::Undo,
            2 => EntryKind::Alloc,
            3 => EntryKind::Free,
            4 => EntryKind::AllocSpan,
            5 => EntryKind::FreeSpan,
            6 => EntryKind::GrowSpan,
            7 => EntryKind::Doom,
            _ => return None,
        };
        let len = (word >> 48 & 0x1fff) as usize;
        let offset = word & OFFSET;
        let most = match kind {
            // There is nothing at offset 0 to be restored: that is a word never written.
            EntryKind::Byte if offset == 0 => return None,
            EntryKind::Byte => 0xff,
            _ => MAX_RECORD,
        };
        (len <= most).then_some(Entry { kind, len, offset })
    }

    /// The bytes of the log that it takes.
    pub(crate) const fn size(self) -> usize {
        match self.kind {
            EntryKind::Byte => 8,
            _ => 8 + self.len.next_multiple_of(8),
        }
    }
}

/// How far the log is written, in one word: nothing, so far, or so far and committed.
///
/// | bit 63 | bits 56..63 | bits 0..56 |
/// |---|---|---|
/// | committed | segment, 0 = inside the slot | bytes used of that segment |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogPosition(pub(crate) u64);

impl LogPosition {
    /// Set once the section took place: what is left are the frees.
    pub(crate) const COMMITTED: u64 = 1 << 63;

    /// A position in an open section.
    pub(crate) const fn new(segment: usize, used: usize) -> Self {
        LogPosition((segment as u64) << 56 | used as u64)
    }

    pub(crate) const fn committed(self) -> bool {
        self.0 & Self::COMMITTED != 0
    }

    pub(crate) const fn segment(self) -> usize {
        (self.0 >> 56 & 0x7f) as usize
    }

    pub(crate) const fn used(self) -> usize {
        (self.0 & ((1 << 56) - 1)) as usize
    }
}
