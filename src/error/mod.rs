//! The one error type: what was expected, what was found, what to do.

mod convert;
mod message;
mod rare;

pub(crate) use rare::{MOST_PERMITS, Rare, unbox};

use std::{io, path::PathBuf};

/// The result of everything in sharena that can fail.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Why an operation on an arena could not be done.
///
/// A full arena, a full disk, a foreign file, another type, another version and a dead peer are
/// normal cases: each has a variant, and its message says what was expected, what was found and
/// what can be done about it.
#[non_exhaustive]
pub enum Error {
    /// The kernel refused an operation.
    Os {
        /// What was tried.
        action: &'static str,
        /// The file it was tried on, where there is one.
        path: Option<PathBuf>,
        /// What the kernel said.
        source: io::Error,
    },
    /// No arena of that name or at that path.
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// An arena of that name or at that path is there already.
    Exists {
        /// Where it is.
        path: PathBuf,
    },
    /// The path names something that is not a regular file.
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is: a directory, a socket and so on.
        found: &'static str,
    },
    /// The file belongs to another user.
    WrongOwner {
        /// The user that this process runs as.
        expected: u32,
        /// The owner of the file.
        found: u32,
    },
    /// Users that need not be trusted may write the file.
    WritableByOthers {
        /// The mode bits of the file.
        mode: u32,
    },
    /// A name that cannot be used.
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An option that cannot be used.
    BadOption {
        /// Which option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is too short to hold what its header promises.
    Truncated {
        /// The bytes that must be there.
        expected: u64,
        /// The bytes that are there.
        found: u64,
    },
    /// The file does not begin as an arena does.
    ForeignMagic {
        /// The first eight bytes of the file.
        found: [u8; 8],
    },
    /// The arena was made by a version of sharena whose format this one does not know.
    Version {
        /// The format that this build reads and writes.
        expected: u32,
        /// The format of the arena.
        found: u32,
    },
    /// The arena uses features of the format that this build does not know.
    Features {
        /// The unknown feature bits.
        unknown: u64,
    },
    /// The arena was made on a machine of the other byte order.
    Endianness,
    /// The arena was made by a program with pointers of another width.
    PointerWidth {
        /// Bits of a pointer here.
        expected: u32,
        /// Bits of a pointer in the program that made the arena.
        found: u32,
    },
    /// The arena was made on a machine with pages of another size.
    PageSize {
        /// Bytes in a page here.
        expected: u32,
        /// Bytes in a page where the arena was made.
        found: u32,
    },
    /// The stored structures of this build are laid out differently.
    Fingerprint {
        /// The fingerprint of this build.
        expected: u64,
        /// The fingerprint in the arena.
        found: u64,
    },
    /// A structure in the arena makes no sense.
    Damaged {
        /// What was found, and where.
        what: String,
    },
    /// Another arena with the same identity is mapped by this process: one is a copy of the other.
    Twin {
        /// The identity that both bear.
        id: u64,
    },
    /// The arena cannot grow any more: its maximum size is used up.
    Full {
        /// The bytes asked for.
        requested: usize,
        /// The maximum size of the arena.
        maximum: u64,
    },
    /// The file system cannot give the arena more room.
    NoSpace {
        /// The bytes by which the file should grow.
        requested: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not even the smallest useful range of addresses could be reserved.
    NoAddressSpace {
        /// The bytes that were asked for at last.
        requested: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// A request that no arena could meet: more than the address space, or alignment above a page.
    Layout {
        /// The size asked for.
        size: usize,
        /// The alignment asked for.
        align: usize,
    },
    /// Every slot is taken by a living thread.
    NoSlots {
        /// How many there are.
        slots: u32,
    },
    /// A value, lock or container that does not lie in an arena cannot do this: put it there first.
    NotInArena,
    /// The pointer does not point to a block of this arena.
    ForeignPointer {
        /// The offset that was given.
        offset: u64,
    },
    /// The block is free already.
    DoubleFree {
        /// The offset of the block.
        offset: u64,
    },
    /// A pointer of this arena that leads outside it, or is not aligned for its type.
    BadPointer {
        /// The offset that was given.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The arena or its copy may only be read here.
    ReadOnly,
    /// The object can be read without a lock only after it was frozen.
    NotFrozen,
    /// The lock was frozen: it is read without locking, and never written again.
    Frozen,
    /// No root of that name.
    UnknownRoot {
        /// The name that was looked for.
        name: String,
    },
    /// The root holds a value of another type.
    TypeMismatch {
        /// The name of the root.
        name: String,
        /// The type that the program asked for.
        expected: String,
        /// The type that the root has.
        found: String,
    },
    /// A panic went through a guard of this lock, and may have left the value half changed.
    Poisoned,
    /// The lock is held by somebody else.
    WouldBlock,
    /// The time ran out.
    TimedOut,
    /// This thread holds the lock already, and its guard lives.
    WouldDeadlock,
    /// Threads wait for each other's locks of this arena in a circle, none of them for a time only. (Circles
    /// through the locks of several arenas are not found: take these in the same order everywhere.)
    Deadlock {
        /// The offsets of the locks in the circle, this thread's first; one that is read may be there twice.
        locks: Vec<u64>,
    },
    /// A second write lock needs `Arena::section`, so that both are one unit.
    NeedsSection,
    /// The thread's section is in another arena: two commits cannot be one.
    OtherArena,
    /// This would be seen by others before the open section commits.
    InSection,
    /// In a transaction, locks are taken by `Transaction::lock`, `read` and `write`, and no other one
    /// begins.
    InTransaction,
    /// This changes an arena, which only a thread with a write guard may do.
    NoSection,
    /// A signal handler entered sharena while the thread it interrupted was inside.
    Reentered,
    /// The thread holds permits of too many semaphores.
    TooManyPermits {
        /// How many it may hold.
        limit: usize,
    },
    /// The thread holds too many read locks.
    TooManyReadLocks {
        /// How many it may hold.
        limit: usize,
    },
    /// An error of the program's own, carried through a section.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// Wraps an error of the program's own, so that `?` can carry it out of a section.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Other(error.into())
    }

    pub(crate) fn os(action: &'static str, source: io::Error) -> Self {
        Error::Os {
            action,
            path: None,
            source,
        }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Error::Damaged { what: what.into() }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Os { source, .. }
            | Error::NoSpace { source, .. }
            | Error::NoAddressSpace { source, .. } => Some(source),
            Error::Other(error) => error.source(),
            _ => None,
        }
    }
}
