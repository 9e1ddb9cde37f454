//! Slabs: one state word each, and the bitmaps of their blocks, kept apart from the blocks.
//!
//! | kind | bits 8..16 | bits 16..32 | bits 32..64 | meaning |
//! |---|---|---|---|---|
//! | `Free` | 0 | 0 | generation | nobody's |
//! | `Owned` | class | slot | generation | blocks of one class, given out by that slot |
//! | `Abandoned` | class | 0 | generation | the same, its owner has gone: anybody may adopt it |
//! | `Reserved` | 0 | slot | generation | claimed for a span that is not published yet |
//! | `Span` | 0 | 0 | generation | the head of a published span |
//! | `Tail` | distance to the head | (24 bits) | generation | a further slab of a span |
//! | `Freeing` | 0 | slot | generation | the head of a span that the slot is taking apart |
//! | `Hole` | 0 | 0 | generation | free, and its pages are given back |
//! | `Filling` | 0 | slot | generation | a hole whose pages the slot is allocating |
//! | `Punching` | 0 | slot | generation | free, and the slot is giving its pages back |
//!
//! A slab's generation goes up with each change but `Span -> Freeing`, and never back: a journal
//! names a span by its head's exact word, which must not come again.

use std::sync::atomic::{AtomicU32, AtomicU64};

/// What a slab is used for.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SlabKind {
    Free = 0,
    Owned = 1,
    Abandoned = 2,
    Reserved = 3,
    Span = 4,
    Tail = 5,
    Freeing = 6,
    Hole = 7,
    Filling = 8,
    Punching = 9,
}

/// The most slabs that a span can have: tails tell their distance to the head in 24 bits.
pub(crate) const LONGEST_SPAN: usize = 1 << 24;

/// A state word, see the truth table above.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlabState(pub(crate) u64);

impl SlabState {
    pub(crate) const fn new(kind: SlabKind, class: usize, slot: usize, generation: u32) -> Self {
        SlabState(
            kind as u64 | (class as u64) << 8 | (slot as u64) << 16 | (generation as u64) << 32,
        )
    }

    /// The kind, or `None` if the word is damaged.
    pub(crate) const fn kind(self) -> Option<SlabKind> {
        Some(match self.0 as u8 {
            0 => SlabKind::Free,
            1 => SlabKind::Owned,
            2 => SlabKind::Abandoned,
            3 => SlabKind::Reserved,
            4 => SlabKind::Span,
            5 => SlabKind::Tail,
            6 => SlabKind::Freeing,
            7 => SlabKind::Hole,
            8 => SlabKind::Filling,
            9 => SlabKind::Punching,
            _ => return None,
        })
    }

    /// A further slab of a span, so many behind the head.
    pub(crate) const fn tail(distance: usize, generation: u32) -> Self {
        SlabState(
            SlabKind::Tail as u64 | (distance as u64 & 0xff_ffff) << 8 | (generation as u64) << 32,
        )
    }

    /// How far the head of a tail's span is.
    pub(crate) const fn distance(self) -> usize {
        (self.0 >> 8 & 0xff_ffff) as usize
    }

    #[inline(always)]
    pub(crate) fn is(self, kind: SlabKind) -> bool {
        self.0 as u8 == kind as u8
    }

    /// Whether the slab is one of blocks.
    #[inline(always)]
    pub(crate) fn has_blocks(self) -> bool {
        self.is(SlabKind::Owned) || self.is(SlabKind::Abandoned)
    }

    /// Whether the slab's pages may have been given back to the system.
    pub(crate) fn may_lack_memory(self) -> bool {
        self.is(SlabKind::Hole) || self.is(SlabKind::Filling) || self.is(SlabKind::Punching)
    }

    /// Whether the word says that `slot` is at work on the slab in the way of `kind`.
    #[inline(always)]
    pub(crate) fn is_by(self, kind: SlabKind, slot: usize) -> bool {
        self.is_as(SlabState::new(kind, 0, slot, 0))
    }

    /// Whether the word names the same slot at the same work as another one.
    #[inline(always)]
    pub(crate) fn is_as(self, other: SlabState) -> bool {
        self.0 & 0xffff_00ff == other.0
    }

    /// The class, 0..32 whatever the word says.
    #[inline(always)]
    pub(crate) const fn class(self) -> usize {
        (self.0 >> 8 & 0x1f) as usize
    }

    #[inline(always)]
    pub(crate) const fn slot(self) -> usize {
        (self.0 >> 16 & 0xffff) as usize
    }

    /// How often the slab changed.
    pub(crate) const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The next state of the slab: another kind and a new generation.
    pub(crate) fn next(self, kind: SlabKind, class: usize, slot: usize) -> Self {
        SlabState::new(kind, class, slot, self.generation().wrapping_add(1))
    }
}

impl std::fmt::Debug for SlabState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind() {
            Some(SlabKind::Tail) => write!(
                f,
                "Tail(distance {}, generation {})",
                self.distance(),
                self.generation()
            ),
            Some(kind) => write!(
                f,
                "{kind:?}(class {}, slot {}, generation {})",
                self.class(),
                self.slot(),
                self.generation()
            ),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

/// What is kept of a slab beside its state; two bitmaps follow, of `slab / 16` bits each.
///
/// The first, *published*, is written by the slab's owner only. The second, *remote*, is where
/// others note what they freed. A block is allocated if it is published and not remotely freed.
#[repr(C, align(64))]
pub(crate) struct SlabBits {
    /// Not 0 if remote frees may be waiting: a hint. Its owner was told so, unless that was prevented.
    pub(crate) remote_hint: AtomicU32,
    pub(crate) reserved: u32,
    /// The slabs in the span, while this slab is the head of one.
    pub(crate) span_slabs: AtomicU64,
    /// The bytes asked for by who allocated the span.
    pub(crate) span_bytes: AtomicU64,
}

static_assertions::const_assert_eq!(size_of::<SlabBits>(), 64);
