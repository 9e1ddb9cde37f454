//! The mutex: one guard, one critical section.

use super::wait::{Patience, release};
use crate::{
    error::{Error, Rare, Result, unbox},
    layout::{FROZEN_TAG, MutexHeader, Tag},
    section::{Ctx, LockKind, Taken, Writer, attached},
    share::{Builtin, Share, TypeInfo, node},
};
use std::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData,
    mem::offset_of,
    ops::{Deref, DerefMut},
    panic::{Location, RefUnwindSafe, UnwindSafe},
    ptr::{self, NonNull},
    sync::atomic::Ordering::*,
    thread,
    time::{Duration, Instant},
};

/// A mutex that processes share, and whose guard is a critical section.
///
/// Used like [`std::sync::Mutex`]. What is changed through its guard takes place wholly or not at
/// all: kill the process anywhere between [`lock`](Mutex::lock) and the end of the guard, and the
/// next one to lock finds what was there before. Only a panic poisons, as in `std`: one that unwinds
/// through a guard, or through an [`Arena::section`](crate::Arena::section) that wrote under the lock.
///
/// A mutex works where it lies in an arena; on the stack or in a static it is inert.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, sync::Mutex};
///
/// let arena = Arena::in_memory()?;
/// let counter = arena.root::<Mutex<u64>>("counter")?;
/// *counter.lock()? += 1;
/// assert_eq!(*counter.lock()?, 1);
/// # Ok::<(), sharena::Error>(())
/// ```
#[repr(C)]
pub struct Mutex<T> {
    pub(super) header: MutexHeader,
    pub(super) value: UnsafeCell<T>,
    /// A lock belongs where it lies: moving it to another thread's stack makes no sense.
    not_send: PhantomData<*mut ()>,
}

// SAFETY: the value is reached by one guard at a time, or by nobody mutably once it is frozen
// (which asks for `T: Sync`); what is `Share` may be used from any thread and process under a lock.
unsafe impl<T: Share> Sync for Mutex<T> {}

// What a panic leaves behind this lock, nobody sees before a call of `clear_poison`.
impl<T> UnwindSafe for Mutex<T> {}
impl<T> RefUnwindSafe for Mutex<T> {}

// SAFETY: `repr(C)`: atomics and a `Share` value, no pointers, no `Drop` of its own.
unsafe impl<T: Share> Share for Mutex<T> {
    const TYPE: TypeInfo =
        TypeInfo::inline::<Self>(Builtin::Mutex, &[node::<T>], offset_of!(Self, value));
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> Mutex<T> {
    /// A free mutex around a value. It can be used once it lies in an arena.
    pub const fn new(value: T) -> Self {
        Mutex {
            header: MutexHeader::new(),
            value: UnsafeCell::new(value),
            not_send: PhantomData,
        }
    }

    /// The value of a mutex that nobody else can reach.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: Share> Mutex<T> {
    const KIND: &'static LockKind = &LockKind::of::<Self, T>();

    /// Takes the lock, waiting as long as it takes, and begins a critical section.
    ///
    /// A holder that dies does not keep others waiting: its section is undone, and the next one
    /// goes on.
    ///
    /// # Errors
    ///
    /// - [`Error::Poisoned`] after a panic under this lock;
    /// - [`Error::WouldDeadlock`] while this thread's own guard of it lives;
    /// - [`Error::NeedsSection`] while this thread has another guard of the arena, outside
    ///   [`Arena::section`](crate::Arena::section); [`Error::InTransaction`] in a transaction, which
    ///   [takes locks itself](crate::Transaction::lock); [`Error::OtherArena`] while it has one of
    ///   another arena; [`Error::Deadlock`] where sections wait for each other in a circle;
    /// - [`Error::Frozen`], [`Error::ReadOnly`], [`Error::NotInArena`] where it cannot be locked
    ///   at all; [`Error::NoSlots`] where too many threads use the arena.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>> {
        self.lock_with(Patience::Endless, Location::caller())
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] if it is held; otherwise as [`lock`](Mutex::lock).
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>> {
        self.lock_with(Patience::None, Location::caller())
    }

    /// Takes the lock, waiting no longer than `time`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], in a circle of waiting too; otherwise as [`lock`](Mutex::lock).
    #[track_caller]
    pub fn try_lock_for(&self, time: Duration) -> Result<MutexGuard<'_, T>> {
        let patience = Patience::within(time);
        self.lock_with(patience, Location::caller())
    }

    /// Takes the lock, waiting no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], in a circle of waiting too; otherwise as [`lock`](Mutex::lock).
    #[track_caller]
    pub fn try_lock_until(&self, deadline: Instant) -> Result<MutexGuard<'_, T>> {
        self.lock_with(Patience::Until(deadline), Location::caller())
    }

    #[inline(always)]
    pub(super) fn lock_with(
        &self,
        patience: Patience,
        at: &'static Location<'static>,
    ) -> Result<MutexGuard<'_, T>> {
        // Not the guard itself: then it would lie in memory on the fast path, too, and be copied.
        let ctx = match self.take_calm(at) {
            Some(ctx) => ctx,
            None => unbox(self.lock_slow(patience, at))?,
        };
        Ok(MutexGuard { mutex: self, ctx })
    }

    /// Takes a lock that is free and in order, where the thread has no other.
    #[inline(always)]
    fn take_calm(&self, at: &'static Location<'static>) -> Option<NonNull<Ctx>> {
        let mut ctx = Ctx::find_last(self)?;
        // SAFETY: C1: the context of this thread; the reference ends before the guard is used.
        let own = unsafe { ctx.as_mut() };
        if !own.take_single(&self.header.word, Self::KIND, at) {
            return None;
        }
        if self.header.poison.load(Relaxed) != 0 {
            self.give_up(ctx);
            return None;
        }
        Some(ctx)
    }

    #[cold]
    #[inline(never)]
    fn lock_slow(&self, patience: Patience, at: &'static Location<'static>) -> Rare<NonNull<Ctx>> {
        let mut ctx = attached(self)?;
        // SAFETY: as above.
        let own = unsafe { ctx.as_mut() };
        own.enter()?;
        let taken = self.take(own, patience, at);
        own.leave();
        taken?;
        if self.header.poison.load(Relaxed) != 0 {
            self.give_up(ctx);
            return Err(Error::Poisoned.into());
        }
        Ok(ctx)
    }

    /// Lets go of a lock that is poisoned.
    #[cold]
    #[inline(never)]
    fn give_up(&self, ctx: NonNull<Ctx>) {
        drop(MutexGuard { mutex: self, ctx });
    }

    fn take(&self, ctx: &mut Ctx, patience: Patience, at: &'static Location<'static>) -> Result {
        let word = &self.header.word;
        if let Err(error) = ctx.may_lock() {
            let own = self.header.word.0.load(Relaxed) & !crate::layout::WAITERS_BIT == ctx.tag().0;
            return Err(match ctx.taken(word) {
                Taken::Guarded if own => Error::WouldDeadlock,
                _ => error,
            });
        }
        let tag = ctx.tag();
        if word.0.compare_exchange(0, tag.0, Acquire, Relaxed).is_err() {
            if self.is_named(tag) {
                match ctx.taken(word) {
                    Taken::Guarded => return Err(Error::WouldDeadlock),
                    Taken::Retained => {
                        ctx.hold_again(word);
                        return Ok(());
                    }
                    // Left over from a move of the lock: free for us.
                    Taken::No => {}
                }
            }
            ctx.taker(Some(&self.header)).take_slow(word, patience)?;
        }
        ctx.hold(word, Self::KIND, at);
        Ok(())
    }

    fn is_named(&self, tag: Tag) -> bool {
        Tag::of_word(self.header.word.0.load(Relaxed)) == Some(tag)
    }

    /// The value of a mutex that only the caller can reach.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`]; inside an arena also those of recording the value in the section.
    pub fn get_mut(&mut self) -> Result<&mut T> {
        if self.is_poisoned() {
            return Err(Error::Poisoned);
        }
        let value = self.value.get();
        match Writer::at(ptr::from_ref(self)) {
            Ok(writer) => writer.record_lent(value, 1)?,
            Err(Error::NotInArena) => {}
            Err(error) => return Err(error),
        }
        // SAFETY: `self` is borrowed mutably, and the bytes are recorded.
        Ok(unsafe { &mut *value })
    }

    /// Whether a panic left the value half changed.
    pub fn is_poisoned(&self) -> bool {
        self.header.poison.load(Acquire) != 0
    }

    /// Says that the value is in order again.
    ///
    /// # Errors
    ///
    /// Those of attaching to the arena, and [`Error::NotInArena`].
    pub fn clear_poison(&self) -> Result {
        attached(self)?;
        self.header.poison.store(0, Release);
        Ok(())
    }

    /// Takes the lock for ever: from now on the value is read without locking, by
    /// [`frozen`](Mutex::frozen), also in read-only arenas; and never written again.
    ///
    /// # Errors
    ///
    /// As [`lock`](Mutex::lock); none if it is frozen already. [`Error::InSection`] in a section.
    #[track_caller]
    pub fn freeze(&self) -> Result {
        if self.is_frozen() {
            return Ok(());
        }
        let mut ctx = attached(self)?;
        // SAFETY: C1.
        let own = unsafe { ctx.as_mut() };
        if own.in_section() {
            return Err(Error::InSection);
        }
        own.enter()?;
        let frozen = self.freeze_inside(own, Location::caller());
        own.leave();
        frozen
    }

    fn freeze_inside(&self, own: &mut Ctx, at: &'static Location<'static>) -> Result {
        match self.take(own, Patience::Endless, at) {
            Ok(()) => {}
            Err(Error::Frozen) => return Ok(()),
            Err(error) => return Err(error),
        }
        let word = &self.header.word;
        let poisoned = self.is_poisoned();
        own.forget_guard();
        if poisoned {
            release(word);
            return Err(Error::Poisoned);
        }
        let before = word.0.swap(FROZEN_TAG, Release);
        if before & crate::layout::WAITERS_BIT != 0 {
            crate::os::futex::wake(word.futex(), u32::MAX >> 1);
        }
        Ok(())
    }

    /// Whether the lock was frozen.
    pub fn is_frozen(&self) -> bool {
        self.header.word.0.load(Acquire) == FROZEN_TAG
    }

    /// The value of a frozen mutex, without locking.
    ///
    /// # Errors
    ///
    /// [`Error::NotFrozen`]; [`Error::NotInArena`] where it is inert.
    pub fn frozen(&self) -> Result<&T>
    where
        T: Sync,
    {
        if crate::mapping::locate(self).is_none() {
            return Err(Error::NotInArena);
        }
        if !self.is_frozen() {
            return Err(Error::NotFrozen);
        }
        // SAFETY: a frozen lock is never taken again, so nobody writes the value (L5).
        Ok(unsafe { &*self.value.get() })
    }
}

#[cold]
#[inline(never)]
fn refuse(error: Error) -> ! {
    panic!("could not record a value before changing it: {error}")
}

/// Poisons a mutex if the open section wrote its value, also where its guard has gone.
pub(crate) fn poison_written(header: &MutexHeader, writer: Writer) {
    if header.stamp.load(Relaxed) == writer.stamp() {
        poison(header, writer);
    }
}

/// Poisons a mutex. Undone with the section.
fn poison(header: &MutexHeader, writer: Writer) {
    writer.record_at_last(&raw const header.poison);
    header.poison.store(1, Release);
}

/// What stands for the value of a lock that could not be taken to show it.
pub(super) fn show_instead(debug: &mut fmt::DebugStruct<'_, '_>, error: &Error) {
    match error {
        Error::WouldBlock | Error::WouldDeadlock => debug.field("value", &format_args!("<locked>")),
        error => debug.field("value", &format_args!("<{error}>")),
    };
}

impl<T: Share + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Mutex");
        match self.try_lock() {
            Ok(guard) => _ = debug.field("value", &&*guard),
            Err(error) => show_instead(&mut debug, &error),
        }
        debug.finish_non_exhaustive()
    }
}

/// A held lock, and a critical section: ends both when it is dropped.
///
/// Changes take place at the end, all of them, also when the guard goes by `?` or a panic. Only
/// death undoes them. Not `Send`: the section belongs to its thread.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: Share> {
    pub(super) mutex: &'a Mutex<T>,
    pub(super) ctx: NonNull<Ctx>,
}

// SAFETY: shared references to a guard only give shared references to the value.
unsafe impl<T: Share + Sync> Sync for MutexGuard<'_, T> {}

impl<T: Share> MutexGuard<'_, T> {
    /// Makes what was done so far permanent, and goes on without letting go of the lock.
    ///
    /// For long jobs: a death later on undoes only what comes after.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsSection`] while the thread has other locks of the arena: in the same unit, inside
    /// [`Arena::section`](crate::Arena::section), or to read.
    #[inline(always)]
    pub fn commit(&mut self) -> Result {
        // SAFETY: C1.
        let ctx = unsafe { self.ctx.as_mut() };
        if ctx.commit_single() {
            return Ok(());
        }
        unbox(ctx.commit_only())
    }

    #[inline(always)]
    fn record_value(&self) {
        // What is longer costs more than the call.
        if size_of::<T>() <= 64 {
            self.record_here();
        } else {
            self.record_there();
        }
    }

    #[inline(never)]
    fn record_there(&self) {
        self.record_here();
    }

    #[inline(always)]
    fn record_here(&self) {
        let writer = Writer::of(self.ctx);
        if let Err(error) = writer.record_lent(self.mutex.value.get(), 1) {
            refuse(error);
        }
        self.mutex.header.stamp.store(writer.stamp(), Relaxed);
    }

    #[cold]
    #[inline(never)]
    fn drop_slowly(&mut self) {
        if thread::panicking() {
            self.poison();
        }
        // SAFETY: C1.
        unsafe { self.ctx.as_mut() }.guard_dropped(&self.mutex.header);
    }

    /// A panic that began under the lock poisons it.
    fn poison(&self) {
        // SAFETY: C1. After a fork the context is wiped, and says so.
        let ctx = unsafe { self.ctx.as_ref() };
        if ctx.is_own() && !ctx.taken_in_panic(&self.mutex.header.word) {
            poison(&self.mutex.header, Writer::of(self.ctx));
        }
    }
}

impl<T: Share> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held by this thread as long as the guard lives (L1).
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: Share> DerefMut for MutexGuard<'_, T> {
    /// Records the value's own bytes first, once per section.
    ///
    /// # Panics
    ///
    /// If the arena is so full that not even that can be recorded (see
    /// [`Vec`](crate::collections::Vec)); nothing is changed then.
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: C1.
        let stamp = unsafe { self.ctx.as_ref() }.stamp();
        if self.mutex.header.stamp.load(Relaxed) != stamp {
            self.record_value();
        }
        // SAFETY: as for `deref`; the guard is borrowed mutably.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: Share> Drop for MutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: C1; the reference ends with this statement.
        if thread::panicking() || !unsafe { self.ctx.as_mut() }.end_short(&self.mutex.header) {
            self.drop_slowly();
        }
    }
}

impl<T: Share + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Share + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
