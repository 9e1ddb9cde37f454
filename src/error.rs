//! The one error type: what was expected, what was found, what to do.

use std::{
    fmt, io,
    mem::{self, ManuallyDrop},
    path::PathBuf,
    ptr::NonNull,
};

/// The result of everything in sharena that can fail.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What slow paths return to fast ones: small enough for registers. An [`Error`] is not: where a call
/// may return one, the fast path, too, would put its result together in memory.
pub(crate) type Rare<T = ()> = std::result::Result<T, Boxed>;

/// The error as users get it.
#[inline(always)]
pub(crate) fn unbox<T>(result: Rare<T>) -> Result<T> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.unbox()),
    }
}

/// An [`Error`] in one word.
///
/// Those that carry nothing of their own are not allocated: signal handlers get them, and may have interrupted
/// the allocator.
pub(crate) struct Boxed(NonNull<Error>);

/// All errors that carry nothing, or always the same.
static PLAIN: [Error; 16] = [
    Error::Endianness,
    Error::NotInArena,
    Error::ReadOnly,
    Error::NotFrozen,
    Error::Frozen,
    Error::Poisoned,
    Error::WouldBlock,
    Error::TimedOut,
    Error::WouldDeadlock,
    Error::NeedsSection,
    Error::OtherArena,
    Error::InSection,
    Error::InTransaction,
    Error::NoSection,
    Error::Reentered,
    Error::TooManyPermits {
        limit: MOST_PERMITS,
    },
];

/// The limit that `TooManyPermits` always tells: `layout::PERMITS`.
pub(crate) const MOST_PERMITS: usize = 32;

impl Boxed {
    fn is_plain(&self) -> bool {
        PLAIN.as_ptr_range().contains(&self.0.as_ptr().cast_const())
    }

    #[cold]
    #[inline(never)]
    fn unbox(self) -> Error {
        let this = ManuallyDrop::new(self);
        if this.is_plain() {
            // SAFETY: one of `PLAIN`, which owns nothing: its bytes may be another's, too.
            unsafe { this.0.read() }
        } else {
            // SAFETY: what is not in `PLAIN` was leaked by `from`, and belongs to this alone.
            *unsafe { Box::from_raw(this.0.as_ptr()) }
        }
    }
}

impl From<Error> for Boxed {
    #[cold]
    fn from(error: Error) -> Self {
        let kind = mem::discriminant(&error);
        let plain = PLAIN.iter().find(|plain| mem::discriminant(*plain) == kind);
        Boxed(plain.map_or_else(|| Box::leak(Box::new(error)).into(), NonNull::from))
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        if !self.is_plain() {
            // SAFETY: as in `unbox`.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// Why an operation on an arena could not be done.
///
/// A full arena, a full disk, a foreign file, another type, another version and a dead peer are
/// normal cases: each has a variant, and its message says what was expected, what was found and
/// what can be done about it.
#[derive(Debug)]
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
    /// A panic left the value behind this lock half changed.
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Error::*;
        match self {
            Os {
                action,
                path,
                source,
            } => {
                write!(f, "could not {action}")?;
                if let Some(path) = path {
                    write!(f, " `{}`", path.display())?;
                }
                write!(f, ": {source}")
            }
            Missing { path } => write!(
                f,
                "there is no arena at `{}`: create it first, or use `open_or_create`",
                path.display()
            ),
            Exists { path } => write!(
                f,
                "something is at `{}` already: open it, or remove it first",
                path.display()
            ),
            NotAFile { path, found } => write!(
                f,
                "expected a regular file at `{}`, found {found}",
                path.display()
            ),
            WrongOwner { expected, found } => write!(
                f,
                "expected a file of user {expected}, found one of user {found}, who could change \
                 it at any time: use `allow_foreign_writers` if that user is to be trusted"
            ),
            WritableByOthers { mode } => write!(
                f,
                "expected a file that only its owner may write, found mode {mode:03o}: \
                 `chmod go-w` it, or use `allow_foreign_writers` if all who may write are trusted"
            ),
            BadName { name, reason } => write!(f, "the name {name:?} cannot be used: {reason}"),
            BadOption { option, reason } => {
                write!(f, "the option `{option}` cannot be used so: {reason}")
            }
            Truncated { expected, found } => write!(
                f,
                "the arena is cut short: expected at least {expected} bytes, found {found}"
            ),
            ForeignMagic { found } => write!(
                f,
                "expected an arena, found a file that begins with {found:02x?}: \
                 it was not made by sharena"
            ),
            Version { expected, found } => write!(
                f,
                "expected format version {expected}, found {found}: \
                 use the version of sharena that made the arena"
            ),
            Features { unknown } => write!(
                f,
                "the arena uses features {unknown:#x} that this build does not know: \
                 use a newer version of sharena"
            ),
            Endianness => write!(
                f,
                "expected an arena of this machine's byte order, found one of the other"
            ),
            PointerWidth { expected, found } => write!(
                f,
                "expected an arena made by a {expected}-bit program, found a {found}-bit one"
            ),
            PageSize { expected, found } => write!(
                f,
                "expected an arena with pages of {expected} bytes as on this machine, \
                 found {found}: it was made on another kind of machine"
            ),
            Fingerprint { expected, found } => write!(
                f,
                "expected stored structures with the fingerprint {expected:#018x}, \
                 found {found:#018x}: the arena was made by an incompatible build"
            ),
            Damaged { what } => write!(f, "the arena is damaged: {what}"),
            Twin { id } => write!(
                f,
                "another arena with the identity {id:#x} is mapped by this process already: \
                 one is a copy of the other (of its file, or a private copy-on-write one), and \
                 their pointers must not mix"
            ),
            Full { requested, maximum } => write!(
                f,
                "the arena is full: {requested} more bytes were asked for, its maximum size is \
                 {maximum}: free something, or create it with a larger `max_size`"
            ),
            NoSpace { requested, source } => write!(
                f,
                "the file system has no room for {requested} more bytes of the arena: {source}"
            ),
            NoAddressSpace { requested, source } => write!(
                f,
                "could not reserve even {requested} bytes of addresses for the arena: {source}: \
                 raise RLIMIT_AS, or create the arena with a smaller `max_size`"
            ),
            Layout { size, align } => write!(
                f,
                "no arena can give {size} bytes aligned to {align}: alignments go up to a page, \
                 sizes up to the arena"
            ),
            NoSlots { slots } => write!(
                f,
                "all {slots} slots of the arena are taken by living threads: \
                 create it with more `slots`"
            ),
            NotInArena => write!(
                f,
                "this value does not lie in an arena, so it cannot own shared memory: \
                 put it into a root first"
            ),
            ForeignPointer { offset } => write!(
                f,
                "offset {offset:#x} is not that of a block which this arena gave out"
            ),
            DoubleFree { offset } => {
                write!(f, "the block at offset {offset:#x} is free already")
            }
            BadPointer { offset, reason } => {
                write!(
                    f,
                    "the pointer to offset {offset:#x} cannot be followed: {reason}"
                )
            }
            ReadOnly => write!(
                f,
                "the arena is mapped for reading only (or as a private copy): \
                 only frozen roots can be used, without a lock"
            ),
            NotFrozen => write!(
                f,
                "only a frozen root can be read without a lock: call `freeze` on it in a process \
                 that may write"
            ),
            Frozen => write!(
                f,
                "the lock is frozen for ever: read it through `frozen` instead"
            ),
            UnknownRoot { name } => write!(f, "the arena has no root named {name:?}"),
            TypeMismatch {
                name,
                expected,
                found,
            } => write!(
                f,
                "the root {name:?} has another type\n expected: {expected}\n    found: {found}"
            ),
            Poisoned => write!(
                f,
                "a panic left the value behind this lock half changed: \
                 call `clear_poison`, lock it, and put it in order"
            ),
            WouldBlock => write!(f, "the lock is held by somebody else"),
            TimedOut => write!(f, "the time to wait ran out"),
            WouldDeadlock => write!(
                f,
                "this thread holds the lock already, and its guard lives: waiting would never end"
            ),
            Deadlock { locks } => write!(
                f,
                "threads wait for each other in a circle, for the locks at offsets {locks:x?}: \
                 take locks in the same order everywhere"
            ),
            NeedsSection => write!(
                f,
                "this thread holds a write guard of the arena already (perhaps a temporary of the \
                 same statement): take several locks inside `Arena::section`, as one unit"
            ),
            OtherArena => write!(
                f,
                "this thread's section is in another arena, and two arenas cannot commit as one: \
                 end it first"
            ),
            InTransaction => write!(
                f,
                "this thread is in a transaction: expected locks to be taken by its own \
                 `lock(&mutex)`, `read(&lock)` and `write(&lock)`, so that their guards cannot outlive \
                 it, and found another lock or transaction"
            ),
            InSection => write!(
                f,
                "others would see this before the open section commits: end the section first"
            ),
            NoSection => write!(f, "an arena is changed only under a write guard"),
            Reentered => write!(
                f,
                "a signal handler entered sharena while its thread was inside: \
                 leave it to the thread"
            ),
            TooManyPermits { limit } => write!(
                f,
                "a thread can hold permits of at most {limit} semaphores of an arena at a time"
            ),
            TooManyReadLocks { limit } => write!(
                f,
                "a thread can hold at most {limit} read locks of an arena at a time"
            ),
            Other(error) => error.fmt(f),
        }
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

/// For functions that give `io::Result`. The kind is the nearest that there is; the message stays.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, sync::Mutex};
/// use std::io;
///
/// fn count() -> io::Result<u64> {
///     let arena = Arena::in_memory()?;
///     Ok(*arena.find::<Mutex<u64>>("hits")?.lock()?)
/// }
/// assert_eq!(count().unwrap_err().kind(), io::ErrorKind::NotFound);
/// ```
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        use io::ErrorKind;
        let kind = match &error {
            Error::Os { source, .. } => source.kind(),
            Error::Missing { .. } | Error::UnknownRoot { .. } => ErrorKind::NotFound,
            Error::Exists { .. } => ErrorKind::AlreadyExists,
            Error::WrongOwner { .. } | Error::WritableByOthers { .. } => {
                ErrorKind::PermissionDenied
            }
            Error::BadName { .. } | Error::BadOption { .. } => ErrorKind::InvalidInput,
            Error::Truncated { .. } | Error::ForeignMagic { .. } | Error::TypeMismatch { .. } => {
                ErrorKind::InvalidData
            }
            Error::Full { .. } | Error::NoSpace { .. } => ErrorKind::StorageFull,
            Error::NoAddressSpace { .. } => ErrorKind::OutOfMemory,
            Error::WouldBlock => ErrorKind::WouldBlock,
            Error::TimedOut => ErrorKind::TimedOut,
            Error::WouldDeadlock | Error::Deadlock { .. } => ErrorKind::Deadlock,
            _ => ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Error::Other(source.into())
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Error::Other(error)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Error::Other(message.into())
    }
}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Error::Other(message.into())
    }
}
