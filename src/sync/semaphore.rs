//! The semaphore: permits, some of which may be held by threads that die.

use super::wait::{Internal, Patience, Taker};
use crate::{
    error::{Error, MOST_PERMITS, Rare, Result, unbox},
    journal::{self, Depth, Immediate},
    layout::{PERMITS, PermitCell, SemaphoreHeader, Tag},
    mapping::Mapping,
    os::{self, futex},
    section::{Ctx, attached},
    share::{Builtin, Share, TypeInfo},
};
use static_assertions::const_assert_eq;
use std::{
    fmt,
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering::*},
    time::{Duration, Instant},
};

const_assert_eq!(PERMITS, MOST_PERMITS);

/// A counting semaphore that processes share.
///
/// [`acquire`](Semaphore::acquire) gives a [`Permit`], which comes back when it is dropped, and
/// also when its thread is killed. [`post`](Semaphore::post) adds a permit for good: with a count
/// of 0 at the beginning that makes a signal from one process to another.
///
/// Takes effect at once: a section that is undone does not take a permit or a post back.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, sync::Semaphore};
///
/// let arena = Arena::in_memory()?;
/// let tables = arena.root_with::<Semaphore>("tables", |s| {
///     *s = Semaphore::new(2);
///     Ok(())
/// })?;
/// let first = tables.acquire()?;
/// let second = tables.acquire()?;
/// assert!(tables.try_acquire().is_err());
/// drop(first);
/// assert!(tables.try_acquire().is_ok());
/// # drop(second);
/// # Ok::<(), sharena::Error>(())
/// ```
#[repr(C)]
#[derive(Default)]
pub struct Semaphore {
    header: SemaphoreHeader,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: made of atomics; every change is made under the internal lock.
unsafe impl Sync for Semaphore {}

// SAFETY: `repr(C)`, atomics only, no `Drop` of its own.
unsafe impl Share for Semaphore {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::Semaphore, &[]);
}

impl Semaphore {
    /// A semaphore with so many permits. It can be used once it lies in an arena.
    pub const fn new(permits: u32) -> Self {
        Semaphore {
            header: SemaphoreHeader {
                lock: crate::layout::LockWord::new(),
                available: AtomicU32::new(permits),
                waiters: AtomicU32::new(0),
            },
            not_send: PhantomData,
        }
    }

    /// Takes a permit, waiting as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Error::InSection`] inside [`Arena::section`](crate::Arena::section) while it holds locks
    /// whose guards have gone, and under a mutex in whose value there are semaphores or locks (a
    /// permit that comes back must find the semaphore where it was); [`Error::TooManyPermits`]; and those of attaching to the arena.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>> {
        self.acquire_with(Patience::Endless)
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`]; otherwise as [`acquire`](Semaphore::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>> {
        self.acquire_with(Patience::None)
    }

    /// Takes a permit, waiting no longer than `time`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; otherwise as [`acquire`](Semaphore::acquire).
    pub fn try_acquire_for(&self, time: Duration) -> Result<Permit<'_>> {
        let patience = Instant::now()
            .checked_add(time)
            .map_or(Patience::Endless, Patience::Until);
        self.acquire_with(patience)
    }

    /// Takes a permit, waiting no longer than until `deadline`.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`]; otherwise as [`acquire`](Semaphore::acquire).
    pub fn try_acquire_until(&self, deadline: Instant) -> Result<Permit<'_>> {
        self.acquire_with(Patience::Until(deadline))
    }

    /// Adds a permit, and wakes a waiter.
    ///
    /// # Errors
    ///
    /// Those of attaching to the arena; an error beyond `u32::MAX` permits.
    pub fn post(&self) -> Result {
        self.post_many(1)
    }

    /// Adds `permits` permits, and wakes as many waiters.
    ///
    /// # Errors
    ///
    /// As [`post`](Semaphore::post).
    pub fn post_many(&self, permits: u32) -> Result {
        let mut ctx = attached(self)?;
        // SAFETY: C1.
        let ctx = unsafe { ctx.as_mut() };
        ctx.enter()?;
        let posted = self.change(taker(ctx), ctx.index(), |available| {
            let available = available
                .checked_add(permits)
                .ok_or_else(|| Error::from("a semaphore holds at most 4294967295 permits"))?;
            Ok((available, None, 0))
        });
        ctx.leave();
        posted?;
        self.wake(permits);
        Ok(())
    }

    /// Permits that nobody holds at the moment.
    pub fn available(&self) -> u32 {
        self.header.available.load(Acquire)
    }

    #[inline(always)]
    fn acquire_with(&self, patience: Patience) -> Result<Permit<'_>> {
        // Not the permit itself: it would be put together in memory, and copied.
        let ctx = unbox(self.take_with(patience))?;
        Ok(Permit {
            semaphore: self,
            ctx,
            not_send: PhantomData,
        })
    }

    #[inline(never)]
    fn take_with(&self, patience: Patience) -> Rare<NonNull<Ctx>> {
        let mut ctx = attached(self)?;
        // SAFETY: C1; the reference ends with the statement.
        if unsafe { ctx.as_ref() }.may_move_locks() {
            return Err(Error::InSection.into());
        }
        loop {
            // SAFETY: C1; the reference ends with the round.
            let own = unsafe { ctx.as_mut() };
            own.enter()?;
            let taken = self.take_one(own);
            let (retains, recoverer) = (own.retains(), own.tag());
            own.leave();
            if taken? {
                return Ok(ctx);
            }
            let sleep = patience.next_sleep()?;
            if retains {
                return Err(Error::InSection.into());
            }
            // SAFETY: C1.
            let mapping = unsafe { ctx.as_ref() }.mapping();
            if !recover_dead(mapping, recoverer) {
                futex::wait(&self.header.available, 0, Some(sleep));
            }
        }
    }

    /// Takes a permit if there is one.
    fn take_one(&self, ctx: &Ctx) -> Result<bool> {
        let offset = self.offset(ctx.mapping())?;
        let Some(cell) = cell_for(ctx, offset) else {
            return Err(Error::TooManyPermits { limit: PERMITS });
        };
        let mut taken = false;
        self.change(taker(ctx), ctx.index(), |available| {
            let held = ctx.slot().permits[cell].count.load(Relaxed);
            taken = available > 0;
            if !taken {
                self.header.waiters.store(1, Release);
                return Ok((0, None, 0));
            }
            Ok((available - 1, Some(cell), held + 1))
        })?;
        Ok(taken)
    }

    /// Gives the permit back that the cell counts.
    fn give_back(&self, ctx: &Ctx) -> Result {
        let offset = self.offset(ctx.mapping())?;
        let Some(cell) = cell_for(ctx, offset) else {
            return Ok(());
        };
        self.change(taker(ctx), ctx.index(), |available| {
            let held = ctx.slot().permits[cell].count.load(Relaxed);
            Ok(match held {
                0 => (available, None, 0),
                _ => (available.saturating_add(1), Some(cell), held - 1),
            })
        })?;
        self.wake(1);
        free_empty(&ctx.slot().permits[cell]);
        Ok(())
    }

    fn offset(&self, mapping: &Mapping) -> Result<u64> {
        mapping.offset_of(self).ok_or(Error::NotInArena)
    }

    /// Changes the count under the internal lock: `plan` gives the count, a cell and its count.
    fn change(
        &self,
        taker: Taker<'_>,
        slot: usize,
        plan: impl FnOnce(u32) -> Result<(u32, Option<usize>, u64)>,
    ) -> Result {
        let semaphore = self.offset(taker.mapping)?;
        let _lock = Internal::take(&self.header.lock, taker)?;
        let now = self.header.available.load(Acquire);
        let (available, cell, held) = plan(now)?;
        if available != now || cell.is_some() {
            let change = Immediate {
                semaphore,
                available,
                cell,
                held,
            };
            change.perform(taker.mapping, slot);
        }
        Ok(())
    }

    fn wake(&self, permits: u32) {
        if self.header.waiters.swap(0, AcqRel) != 0 {
            futex::wake(&self.header.available, u32::MAX >> 1);
        } else if permits > 0 && self.header.waiters.load(Acquire) != 0 {
            futex::wake(&self.header.available, permits);
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .finish()
    }
}

fn taker(ctx: &Ctx) -> Taker<'_> {
    Taker {
        mapping: ctx.mapping(),
        tag: ctx.tag(),
        recoverer: ctx.tag(),
        wait: None,
        mutex: None,
    }
}

/// The thread's cell for a semaphore, or a free one.
fn cell_for(ctx: &Ctx, semaphore: u64) -> Option<usize> {
    let cells = &ctx.slot().permits;
    let holds = |wanted: u64| {
        cells
            .iter()
            .position(|cell| cell.semaphore.load(Relaxed) == wanted)
    };
    holds(semaphore).or_else(|| holds(0))
}

/// Frees a cell that holds no permits any more: last of all, since a semaphore that a cell names is
/// not freed (D5).
fn free_empty(cell: &PermitCell) {
    if cell.count.load(Relaxed) == 0 {
        cell.semaphore.store(0, Release);
    }
}

/// Recovers dead threads: they may hold the permits that somebody waits for.
fn recover_dead(mapping: &Mapping, recoverer: Tag) -> bool {
    // A handler that recovered the same slot would do so under the same lease.
    os::process::with_signals_blocked(|| {
        let mut any = false;
        for slot in journal::reserved_slots(mapping)..mapping.slots_high() {
            any |= journal::recover(mapping, slot, recoverer, Depth::All);
        }
        any
    })
}

/// Gives back every permit of a slot that is dead, or about to be released. `by` recovers others
/// that turn out to be dead on the way.
pub(crate) fn return_permits(mapping: &Mapping, slot: usize, by: Tag) {
    let size = size_of::<Semaphore>();
    for (index, cell) in mapping.slot(slot).permits.iter().enumerate() {
        let offset = cell.semaphore.load(Acquire);
        if offset == 0 {
            continue;
        }
        let place = mapping.address(offset, size).filter(|_| offset % 8 == 0);
        if let Some(place) = place {
            // SAFETY: checked to lie in the arena, aligned; a semaphore is made of atomics.
            let semaphore = unsafe { place.cast::<Semaphore>().as_ref() };
            let taker = Taker {
                mapping,
                tag: journal::tag_of(mapping, slot),
                recoverer: by,
                wait: None,
                mutex: None,
            };
            let held = u32::try_from(cell.count.load(Relaxed)).unwrap_or(u32::MAX);
            let _ = semaphore.change(taker, slot, |available| {
                Ok((available.saturating_add(held), Some(index), 0))
            });
            semaphore.wake(held);
        }
        cell.count.store(0, Relaxed);
        cell.semaphore.store(0, Release);
    }
}

/// A permit of a [`Semaphore`], which comes back when it is dropped or when its thread dies.
#[must_use = "the permit comes back as soon as it is dropped"]
pub struct Permit<'a> {
    semaphore: &'a Semaphore,
    ctx: NonNull<Ctx>,
    not_send: PhantomData<*mut ()>,
}

impl Permit<'_> {
    /// Keeps the permit from coming back: it is gone from the semaphore for good.
    pub fn forget(self) {
        // SAFETY: C1.
        let ctx = unsafe { self.ctx.as_ref() };
        if ctx.is_own()
            && let Ok(offset) = self.semaphore.offset(ctx.mapping())
            && let Some(cell) = cell_for(ctx, offset)
        {
            let _ = self.semaphore.change(taker(ctx), ctx.index(), |available| {
                let held = ctx.slot().permits[cell].count.load(Relaxed);
                Ok((available, Some(cell), held.saturating_sub(1)))
            });
            free_empty(&ctx.slot().permits[cell]);
        }
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // SAFETY: C1; after a fork the context is wiped, and says so.
        let ctx = unsafe { self.ctx.as_ref() };
        if ctx.is_own() {
            let _ = self.semaphore.give_back(ctx);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(self.semaphore).finish()
    }
}
