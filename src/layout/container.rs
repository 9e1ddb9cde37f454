//! The headers of the containers: what a `Vec`, a `HashMap` or a `Box` is made of.
//!
//! A header names its buffer by offset and its arena by the lower half of the arena's id, so that
//! memory of one arena is never followed in another. The *stamp* names the section that recorded
//! the header's bytes last; while it is the open section's, the header needs no record, and the
//! *marks* say what is recorded of the buffer.

/// What `marks` of a header means while its stamp is that of the open section.
pub(crate) mod marks {
    /// The buffer was allocated in this section: it needs no record, and is freed at once.
    pub(crate) const FRESH: u32 = 1 << 31;
    /// The whole buffer is recorded.
    pub(crate) const WHOLE: u32 = 1 << 30;
    /// Of a map's buffer all control bytes are recorded.
    pub(crate) const CONTROL: u32 = 1 << 29;
    /// Below these flags: what was recorded of the buffer so far, in words of the log, saturating.
    pub(crate) const COUNT: u32 = CONTROL - 1;
}

/// The part that all containers share. All zeroes is an empty container that owns nothing.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct BufferHeader {
    /// Where the buffer begins; 0 if there is none. In a [`TextHeader`] the length of the text.
    pub(crate) offset: u64,
    /// The section that recorded this header last.
    pub(crate) stamp: u64,
    /// The lower half of the arena's id; 0 if the container never owned anything.
    pub(crate) arena: u32,
    /// See [`marks`].
    pub(crate) marks: u32,
}

impl BufferHeader {
    /// An empty header, which owns nothing.
    pub(crate) const fn new() -> Self {
        BufferHeader {
            offset: 0,
            stamp: 0,
            arena: 0,
            marks: 0,
        }
    }

    /// Whether there is a buffer: not in the header of a short text, either.
    #[inline(always)]
    pub(crate) fn has_buffer(&self) -> bool {
        self.offset > SHORT_TEXT as u64
    }
}

/// `Vec<T>`, and a `String` whose text lies in a buffer: elements lie from its begin on.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct VecHeader {
    pub(crate) buffer: BufferHeader,
    pub(crate) len: u64,
    pub(crate) capacity: u64,
}

impl VecHeader {
    /// An empty header, which owns nothing.
    pub(crate) const fn new() -> Self {
        VecHeader {
            buffer: BufferHeader::new(),
            len: 0,
            capacity: 0,
        }
    }
}

/// The longest text that lies in the header of its `String`, in bytes.
pub(crate) const SHORT_TEXT: usize = 16;

/// A `String` without a buffer: its text lies where a [`VecHeader`] has its length and capacity, and how
/// long it is stands in place of the buffer's offset. No block begins so early in an arena.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct TextHeader {
    pub(crate) buffer: BufferHeader,
    pub(crate) text: [u8; SHORT_TEXT],
}

/// `HashMap<K, V>`: pairs lie from the buffer's begin on, the control bytes behind them.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct MapHeader {
    pub(crate) buffer: BufferHeader,
    pub(crate) len: u64,
    /// Buckets - 1; 0 if there is no buffer.
    pub(crate) mask: u64,
    /// Insertions into never used buckets that are left before the table must grow.
    pub(crate) growth_left: u64,
}

static_assertions::const_assert_eq!(size_of::<BufferHeader>(), 24);
static_assertions::const_assert_eq!(size_of::<VecHeader>(), 40);
static_assertions::const_assert_eq!(size_of::<MapHeader>(), 48);
static_assertions::assert_eq_size!(TextHeader, VecHeader);
static_assertions::assert_eq_align!(TextHeader, VecHeader);
static_assertions::const_assert!(SHORT_TEXT < size_of::<super::Header>());
