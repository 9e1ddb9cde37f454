//! The first page of an arena: what it is, who may open it, and how far it reaches.

use super::LockWord;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The first eight bytes of every arena. The last one breaks text-mode transfers.
pub(crate) const MAGIC: [u8; 8] = *b"sharena\x1a";
/// Raised whenever a stored byte changes its meaning.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Reads differently on a machine of the other byte order.
pub(crate) const ENDIAN_MARK: u32 = 0x0102_0304;
/// Lists of roots, by the hash of their names.
pub(crate) const BUCKETS: usize = 64;

/// What hash tables hash with, made of the header's random number: odd, and of many bits also where that is
/// not random at all. (A step of Vigna's `splitmix64`.)
pub(crate) const fn mixed_seed(random: u64) -> u64 {
    let random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (random ^ random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31 | 1
}

/// The header. Written once before the arena becomes visible, but for the atomic words.
#[repr(C)]
pub(crate) struct Header {
    /// [`MAGIC`].
    pub(crate) magic: [u8; 8],
    /// [`FORMAT_VERSION`] of the creator.
    pub(crate) version: u32,
    /// [`ENDIAN_MARK`] as the creator stores it.
    pub(crate) endian_mark: u32,
    /// Bits of a pointer in the program that created the arena.
    pub(crate) pointer_bits: u32,
    /// Bytes in a page of the machine that created the arena.
    pub(crate) page_size: u32,
    /// Features of the format in use; an opener must know each.
    pub(crate) features: u64,
    /// [`FINGERPRINT`] of the creator.
    pub(crate) fingerprint: u64,
    /// Random, never 0 in its lower half: what containers know their arena by.
    pub(crate) id: u64,
    /// Random: makes hashing differ from arena to arena, see [`mixed_seed`].
    pub(crate) hash_random: u64,
    /// The bytes that the arena may ever use, but for the overflow.
    pub(crate) maximum: u64,
    /// Slabs are `1 << slab_shift` bytes.
    pub(crate) slab_shift: u32,
    /// Slots for threads.
    pub(crate) slots: u32,
    /// The boot or the tmpfs in which the life words mean something.
    pub(crate) life: [AtomicU64; 2],
    /// The file in which the life words mean something.
    pub(crate) device: AtomicU64,
    pub(crate) inode: AtomicU64,
    /// Slabs, from the first, whose pages are allocated. Only grows.
    pub(crate) committed: AtomicU64,
    /// Slabs, from the first, that were ever claimed. Only grows; a lost step is a free slab below.
    pub(crate) watermark: AtomicU64,
    /// A hint: about how many slabs below the watermark are free.
    pub(crate) freed: AtomicU64,
    /// A hint: about how many abandoned slabs there are.
    pub(crate) abandoned: AtomicU64,
    /// One more than the highest slot that was ever claimed.
    pub(crate) slots_high: AtomicU32,
    /// 1 while a removed root waits for its last handle: a hint.
    pub(crate) orphans: AtomicU32,
    /// Guards the lists of roots.
    pub(crate) directory: LockWord,
    /// The number of the next root.
    pub(crate) next_root: AtomicU64,
    /// The heads of the lists of roots.
    pub(crate) buckets: [AtomicU64; BUCKETS],
}

const fn mix(hash: u64, value: usize) -> u64 {
    (hash ^ value as u64)
        .wrapping_mul(0x0000_0100_0000_01b3)
        .rotate_left(23)
}

macro_rules! shape {
    ($hash:ident; $($type:ty { $($field:ident),* })*) => {
        $(
            $hash = mix($hash, size_of::<$type>());
            $hash = mix($hash, align_of::<$type>());
            $( $hash = mix($hash, std::mem::offset_of!($type, $field)); )*
        )*
    };
}

/// Raised when stored bytes of the same layout come to mean something else: before a release that raises
/// [`FORMAT_VERSION`], builds of the sources in between are told apart by it.
const MEANING: usize = 2;

/// A number that changes when the layout of any stored type does, or what is stored there.
pub(crate) const FINGERPRINT: u64 = {
    use super::*;
    let mut hash = mix(0xcbf2_9ce4_8422_2325, OVERFLOW_SEGMENTS);
    hash = mix(hash, MEANING);
    shape! { hash;
        Header { version, features, fingerprint, id, hash_random, maximum, slab_shift, slots, life,
            device, inode, committed, watermark, freed, slots_high, directory, next_root, buckets }
        Slot { claim, lease, generation, serial, log, done, wait, immediate, permits, segments, inline,
            reads }
        Readers { cells, further }
        SlabBits { remote_hint, span_slabs, span_bytes }
        BufferHeader { offset, stamp, arena, marks }
        VecHeader { buffer, len, capacity }
        TextHeader { buffer, text }
        MapHeader { buffer, len, mask, growth_left }
        MutexHeader { word, poison, stamp }
        SemaphoreHeader { lock, available, sleepers }
        RootEntry { next, number, state, name_len, value, size, schema, schema_len, users }
        ProcessEntry { claim, namespace }
    }
    hash
};

static_assertions::const_assert!(size_of::<Header>() <= 4096);
static_assertions::const_assert_eq!(std::mem::offset_of!(Header, magic), 0);
static_assertions::const_assert_eq!(std::mem::offset_of!(Header, maximum), 56);
static_assertions::const_assert_eq!(std::mem::offset_of!(Header, committed), 104);
