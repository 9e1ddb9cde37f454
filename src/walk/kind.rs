//! What can be wrong.

/// What kind of thing is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A number of the arena's header.
    Header,
    /// The state of a slab, or its bitmaps.
    Slab,
    /// A span: a run of slabs.
    Span,
    /// The slot of a thread.
    Slot,
    /// The journal of a thread.
    Journal,
    /// The word of a lock.
    Lock,
    /// The directory of roots.
    Directory,
    /// The type of a root.
    Schema,
    /// A block that something owns is not given out.
    Dangling,
    /// Two own the same block.
    TwoOwners,
    /// A block is too small for what lies in it.
    BlockSize,
    /// A container that says it is of another arena.
    ForeignArena,
    /// A buffer or a value lies at an offset that does not suit its type.
    Alignment,
    /// The length or the capacity of a container.
    Length,
    /// The mark that tells in which section a container was changed last.
    Stamp,
    /// A value that its type does not have.
    Value,
    /// Something that this build does not know.
    Unsupported,
}
