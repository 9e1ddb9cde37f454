//! The reader-writer lock: one writer, whose guard is a critical section, or any number of readers.
//!
//! # A writer
//!
//! takes the word as that of a mutex, which keeps new readers out, then waits for those who have a
//! cell. What is stored is a mutex, and a write guard is a mutex's.
//!
//! # A reader
//!
//! fills a cell of its own slot, *then* looks at the word. One of the two sees the other (L8). It
//! writes to no line that other readers write, and its death leaves nothing to mend: a cell says
//! nothing when its thread is dead (L7).

mod guards;

pub use guards::{RwLockReadGuard, RwLockWriteGuard};

use super::{
    Mutex,
    mutex::{MutexGuard, show_instead},
    wait::{Patience, full_fence},
};
use crate::{
    error::{Error, Result},
    journal,
    section::{Ctx, attached},
    share::{Builtin, Share, TypeInfo, node},
};
use std::{
    fmt,
    mem::offset_of,
    panic::Location,
    ptr::NonNull,
    sync::atomic::Ordering::*,
    time::{Duration, Instant},
};

/// A lock that processes share, for many readers or one writer, whose guard is a critical section.
///
/// Used like [`std::sync::RwLock`]. What is changed through a [write guard](RwLockWriteGuard) takes
/// place wholly or not at all, as with a [`Mutex`]. A [read guard](RwLockReadGuard) begins no section:
/// a thread may have several, and lock and change other things meanwhile. Inside
/// [`Arena::section`](crate::Arena::section) read locks are kept to the end of the unit, too.
///
/// Nobody waits for the dead: a reader that is killed leaves the lock at once, a writer as it was
/// before. A writer that waits keeps new readers out; a thread that reads already may always read
/// again.
///
/// Readers write nothing that other readers write, so that they do not slow each other down; a writer
/// looks at each thread of the arena. A thread can have 22 read locks of an arena at a time.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, sync::RwLock};
///
/// let arena = Arena::in_memory()?;
/// let limits = arena.root::<RwLock<[u64; 2]>>("limits")?;
/// *limits.write()? = [10, 20];
/// let (one, two) = (limits.read()?, limits.read()?);
/// assert_eq!(one[0] + two[1], 30);
/// # Ok::<(), sharena::Error>(())
/// ```
#[repr(transparent)]
pub struct RwLock<T> {
    /// A writer has it, and it has the value.
    inner: Mutex<T>,
}

// SAFETY: the value is reached by one write guard, or by shared references (hence `T: Sync`); what is
// `Share` may be used from any thread and process under a lock.
unsafe impl<T: Share + Sync> Sync for RwLock<T> {}

// SAFETY: laid out as a `Mutex<T>`.
unsafe impl<T: Share> Share for RwLock<T> {
    const TYPE: TypeInfo = TypeInfo::inline::<Self>(
        Builtin::RwLock,
        &[node::<T>],
        offset_of!(Self, inner) + offset_of!(Mutex<T>, value),
    );
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T> RwLock<T> {
    /// A free lock around a value. It can be used once it lies in an arena.
    pub const fn new(value: T) -> Self {
        RwLock {
            inner: Mutex::new(value),
        }
    }

    /// The value of a lock that nobody else can reach.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: Share + Sync> RwLock<T> {
    /// Takes the lock to read, waiting for a writer as long as it takes.
    ///
    /// A thread that reads it already gets it at once.
    ///
    /// # Errors
    ///
    /// - [`Error::Poisoned`] after a panic of a writer;
    /// - [`Error::WouldDeadlock`] while this thread's own write guard of it lives;
    /// - [`Error::TooManyReadLocks`];
    /// - [`Error::InTransaction`] in a transaction, which [takes locks
    ///   itself](crate::Transaction::read); [`Error::OtherArena`] in a section of another arena;
    ///   [`Error::Deadlock`] where threads wait for each other in a circle;
    /// - [`Error::ReadOnly`], [`Error::NotInArena`] where it cannot be locked at all (a frozen one
    ///   can be [read](RwLock::frozen)); [`Error::NoSlots`] where too many threads use the arena.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>> {
        self.read_with(Patience::Endless, Location::caller())
    }

    /// Takes the lock to read if no writer has it, or waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`]; otherwise as [`read`](RwLock::read).
    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>> {
        self.read_with(Patience::None, Location::caller())
    }

    /// Takes the lock to read, waiting no longer than `time`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], in a circle of waiting too; otherwise as [`read`](RwLock::read).
    #[track_caller]
    pub fn try_read_for(&self, time: Duration) -> Result<RwLockReadGuard<'_, T>> {
        self.read_with(Patience::within(time), Location::caller())
    }

    /// Takes the lock to read, waiting no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], in a circle of waiting too; otherwise as [`read`](RwLock::read).
    #[track_caller]
    pub fn try_read_until(&self, deadline: Instant) -> Result<RwLockReadGuard<'_, T>> {
        self.read_with(Patience::Until(deadline), Location::caller())
    }

    /// Takes the lock to write, waiting as long as it takes, and begins a critical section.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`]; [`Error::WouldDeadlock`] while a guard of it of this thread lives, a read
    /// guard too. In a section, one whose read guards have gone may be written; where two do that at
    /// once, each of them waits for the other to stop reading, and one gets [`Error::Deadlock`].
    #[inline]
    #[track_caller]
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>> {
        self.write_with(Patience::Endless, Location::caller())
    }

    /// Takes the lock to write if nobody has it.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`]; otherwise as [`write`](RwLock::write).
    #[inline]
    #[track_caller]
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>> {
        self.write_with(Patience::None, Location::caller())
    }

    /// Takes the lock to write, waiting no longer than `time`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], in a circle of waiting too; otherwise as [`write`](RwLock::write).
    #[track_caller]
    pub fn try_write_for(&self, time: Duration) -> Result<RwLockWriteGuard<'_, T>> {
        self.write_with(Patience::within(time), Location::caller())
    }

    /// Takes the lock to write, waiting no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], in a circle of waiting too; otherwise as [`write`](RwLock::write).
    #[track_caller]
    pub fn try_write_until(&self, deadline: Instant) -> Result<RwLockWriteGuard<'_, T>> {
        self.write_with(Patience::Until(deadline), Location::caller())
    }

    #[inline(always)]
    fn read_with(
        &self,
        patience: Patience,
        at: &'static Location<'static>,
    ) -> Result<RwLockReadGuard<'_, T>> {
        if let Some(mut ctx) = Ctx::find_last(self) {
            // SAFETY: C1: the context of this thread; the reference ends before the guard is used.
            let own = unsafe { ctx.as_mut() };
            if own.read_first(&self.inner.header.word, at) {
                return self.read_guard(ctx);
            }
        }
        self.read_slow(patience, at)
    }

    #[inline(never)]
    fn read_slow(
        &self,
        patience: Patience,
        at: &'static Location<'static>,
    ) -> Result<RwLockReadGuard<'_, T>> {
        let mut ctx = attached(self)?;
        // SAFETY: as above.
        let own = unsafe { ctx.as_mut() };
        own.enter()?;
        let taken = own.read(&self.inner.header, patience, at);
        own.leave();
        taken?;
        self.read_guard(ctx)
    }

    /// The guard of a read lock that was taken just now.
    #[inline(always)]
    fn read_guard(&self, ctx: NonNull<Ctx>) -> Result<RwLockReadGuard<'_, T>> {
        let guard = RwLockReadGuard { lock: self, ctx };
        if self.inner.header.poison.load(Relaxed) != 0 {
            return Err(Error::Poisoned);
        }
        Ok(guard)
    }

    #[inline(always)]
    fn write_with(
        &self,
        patience: Patience,
        at: &'static Location<'static>,
    ) -> Result<RwLockWriteGuard<'_, T>> {
        let word = &self.inner.header.word;
        let mut alone = false;
        if let Some(ctx) = Ctx::find(self) {
            // SAFETY: as above.
            alone = unsafe { ctx.as_ref() }.may_write(word)?;
        }
        let inner = self.inner.lock_with(patience, at)?;
        if !alone {
            full_fence();
            // SAFETY: as above.
            if unsafe { inner.ctx.as_ref() }.is_read(word) {
                return self.await_readers(inner, patience);
            }
        }
        Ok(RwLockWriteGuard { inner })
    }

    /// Waits for readers, with the word taken; gives it back if that does not end.
    #[cold]
    #[inline(never)]
    fn await_readers<'a>(
        &'a self,
        inner: MutexGuard<'a, T>,
        patience: Patience,
    ) -> Result<RwLockWriteGuard<'a, T>> {
        let word = &self.inner.header.word;
        let mut ctx = inner.ctx;
        // SAFETY: as above.
        let own = unsafe { ctx.as_mut() };
        let done = own
            .enter()
            .and_then(|()| own.taker(None).await_readers(word, patience));
        if done.is_err() {
            std::mem::forget(inner);
            own.let_go(word);
            own.leave();
            return Err(done.err().unwrap_or(Error::WouldBlock));
        }
        own.leave();
        Ok(RwLockWriteGuard { inner })
    }

    /// The value of a lock that only the caller can reach.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`]; inside an arena also those of recording the value in the section.
    pub fn get_mut(&mut self) -> Result<&mut T> {
        self.inner.get_mut()
    }

    /// Whether a panic left the value half changed.
    pub fn is_poisoned(&self) -> bool {
        self.inner.is_poisoned()
    }

    /// Says that the value is in order again.
    ///
    /// # Errors
    ///
    /// Those of attaching to the arena, and [`Error::NotInArena`].
    pub fn clear_poison(&self) -> Result {
        self.inner.clear_poison()
    }

    /// Keeps writers out for ever: from now on the value is read without locking, by
    /// [`frozen`](RwLock::frozen), also in read-only arenas; and never written again.
    ///
    /// # Errors
    ///
    /// As [`Mutex::freeze`].
    #[track_caller]
    pub fn freeze(&self) -> Result {
        // Readers may go on: nobody writes.
        self.inner.freeze()
    }

    /// Whether the lock was frozen.
    pub fn is_frozen(&self) -> bool {
        self.inner.is_frozen()
    }

    /// The value of a frozen lock, without locking.
    ///
    /// # Errors
    ///
    /// [`Error::NotFrozen`]; [`Error::NotInArena`] where it is inert.
    pub fn frozen(&self) -> Result<&T> {
        self.inner.frozen()
    }
}

impl Ctx {
    /// Whether some thread has a cell for the lock, whose word this one has taken just now, and issued
    /// a full fence.
    #[inline(always)]
    fn is_read(&self, word: &crate::layout::LockWord) -> bool {
        let mapping = self.mapping();
        let from = journal::reserved_slots(mapping);
        journal::next_reader(mapping, from, self.lock_at(word)).is_some()
    }
}

impl<T: Share + Sync + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(guard) => _ = debug.field("value", &&*guard),
            Err(error) => show_instead(&mut debug, &error),
        }
        debug.finish_non_exhaustive()
    }
}
