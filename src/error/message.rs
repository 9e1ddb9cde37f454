//! What users read of an error.

use super::Error;
use std::fmt;

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
                "there is no arena at `{}`: create it first, or use `named` or `open_or_create`, which do",
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
            Truncated { expected, found: 0 } => write!(
                f,
                "expected an arena of at least {expected} bytes, found an empty file: remove it, since \
                 an arena is created only where there is no file"
            ),
            Truncated { expected, found } => write!(
                f,
                "the arena is cut short: expected at least {expected} bytes, found {found}: put a whole \
                 copy of it there, or remove it to begin anew"
            ),
            ForeignMagic { found } => write!(
                f,
                "expected an arena, found a file that begins with {found:02x?}: \
                 it was not made by sharena: name another file, or remove this one"
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
                "expected an arena of this machine's byte order, found one of the other: \
                 use it on a machine as it was made on"
            ),
            PointerWidth { expected, found } => write!(
                f,
                "expected an arena made by a {expected}-bit program, found one made by a {found}-bit one: \
                 use it with programs as it was made by"
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
                "the file system has no room for {requested} more bytes of the arena: {source}: make room \
                 on it (for a tmpfs, memory), or free something in the arena"
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
                "all {slots} slots that the arena has for threads are taken by living ones, which keep \
                 theirs until they end: create it with more `slots`"
            ),
            NotInArena => write!(
                f,
                "this value does not lie in an arena, so it cannot own shared memory: \
                 put it into a root first"
            ),
            ForeignPointer { offset } => write!(
                f,
                "offset {offset:#x} is not that of a block which this arena gave out: use a pointer \
                 only with the arena that it is of, and as it was given"
            ),
            DoubleFree { offset } => {
                write!(
                    f,
                    "the block at offset {offset:#x} is free already: expected one that was linked, or \
                     made by `into_raw`, and not freed since"
                )
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
            UnknownRoot { name } => write!(
                f,
                "the arena has no root named {name:?}: `root` makes one, `roots` lists those that are there"
            ),
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
                "a panic went through a guard of this lock, and may have left the value half changed: \
                 call `clear_poison`, lock it, and put it in order"
            ),
            WouldBlock => write!(
                f,
                "somebody else has the lock, or all permits: try again later, or wait (`lock`, `read`, \
                 `write`, `acquire`)"
            ),
            TimedOut => write!(
                f,
                "the time to wait ran out, and others have the lock, or all permits, still: try again, \
                 or wait longer"
            ),
            WouldDeadlock => write!(
                f,
                "this thread holds the lock already, and its guard lives: waiting would never end; drop that \
                 guard first, or use it"
            ),
            Deadlock { locks } => write!(
                f,
                "threads wait for each other in a circle, for the locks at offsets {locks:x?}: \
                 take locks in the same order everywhere"
            ),
            NeedsSection => write!(
                f,
                "this thread holds a write guard of the arena already (perhaps a temporary of the \
                 same statement), or fills a root, where `get_mut` needs no lock: let go of it first, or \
                 take several locks inside `Arena::section`, as one unit"
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

/// The variant's name, and the message: what `unwrap` prints, and a `main` that returns an error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Other(error) => f.debug_tuple("Other").field(error).finish(),
            _ => write!(f, "{}: {self}", self.variant()),
        }
    }
}

impl Error {
    fn variant(&self) -> &'static str {
        use Error::*;
        match self {
            Os { .. } => "Os",
            Missing { .. } => "Missing",
            Exists { .. } => "Exists",
            NotAFile { .. } => "NotAFile",
            WrongOwner { .. } => "WrongOwner",
            WritableByOthers { .. } => "WritableByOthers",
            BadName { .. } => "BadName",
            BadOption { .. } => "BadOption",
            Truncated { .. } => "Truncated",
            ForeignMagic { .. } => "ForeignMagic",
            Version { .. } => "Version",
            Features { .. } => "Features",
            Endianness => "Endianness",
            PointerWidth { .. } => "PointerWidth",
            PageSize { .. } => "PageSize",
            Fingerprint { .. } => "Fingerprint",
            Damaged { .. } => "Damaged",
            Twin { .. } => "Twin",
            Full { .. } => "Full",
            NoSpace { .. } => "NoSpace",
            NoAddressSpace { .. } => "NoAddressSpace",
            Layout { .. } => "Layout",
            NoSlots { .. } => "NoSlots",
            NotInArena => "NotInArena",
            ForeignPointer { .. } => "ForeignPointer",
            DoubleFree { .. } => "DoubleFree",
            BadPointer { .. } => "BadPointer",
            ReadOnly => "ReadOnly",
            NotFrozen => "NotFrozen",
            Frozen => "Frozen",
            UnknownRoot { .. } => "UnknownRoot",
            TypeMismatch { .. } => "TypeMismatch",
            Poisoned => "Poisoned",
            WouldBlock => "WouldBlock",
            TimedOut => "TimedOut",
            WouldDeadlock => "WouldDeadlock",
            Deadlock { .. } => "Deadlock",
            NeedsSection => "NeedsSection",
            OtherArena => "OtherArena",
            InSection => "InSection",
            InTransaction => "InTransaction",
            NoSection => "NoSection",
            Reentered => "Reentered",
            TooManyPermits { .. } => "TooManyPermits",
            TooManyReadLocks { .. } => "TooManyReadLocks",
            Other(..) => "Other",
        }
    }
}
