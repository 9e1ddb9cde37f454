//! The semaphore: permits, some of which may be held by threads that die.

use super::wait::{Internal, Patience, Taker};
use crate::{
    error::{Error, MOST_PERMITS, Rare, Result, unbox},
    journal::{self, Depth, Immediate},
    layout::{PERMITS, SLEEPERS_BIT, SemaphoreHeader, Tag},
    mapping::Mapping,
    os::{self, futex},
    section::{Ctx, attached},
    share::{Builtin, Share, TypeInfo},
};
use static_assertions::const_assert_eq;
use std::{
    fmt,
    marker::PhantomData,
    panic::{RefUnwindSafe, UnwindSafe},
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

// It has no value that a panic could leave half changed.
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}

// SAFETY: `repr(C)`, atomics only, no `Drop` of its own.
unsafe impl Share for Semaphore {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::Semaphore, &[]);
}

/// What came of an attempt to take a permit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    Taken,
    /// There is none. The word to sleep on is this.
    Sleep(u32),
}

impl Semaphore {
    /// A semaphore with so many permits. It can be used once it lies in an arena.
    pub const fn new(permits: u32) -> Self {
        Semaphore {
            header: SemaphoreHeader {
                lock: crate::layout::LockWord::new(),
                available: AtomicU32::new(permits),
                sleepers: AtomicU32::new(0),
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
        let patience = Patience::within(time);
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

    /// Adds a permit, and wakes who waits.
    ///
    /// # Errors
    ///
    /// Those of attaching to the arena; an error beyond `u32::MAX` permits.
    pub fn post(&self) -> Result {
        self.post_many(1)
    }

    /// Adds `permits` permits, and wakes who waits.
    ///
    /// # Errors
    ///
    /// As [`post`](Semaphore::post).
    pub fn post_many(&self, permits: u32) -> Result {
        let mut ctx = attached(self)?;
        // SAFETY: C1.
        let ctx = unsafe { ctx.as_mut() };
        ctx.enter()?;
        let posted = self.offset(ctx.mapping()).and_then(|offset| {
            self.change(ctx.taker_of_small(), offset, ctx.index(), |available| {
                let available = available
                    .checked_add(permits)
                    .ok_or_else(|| Error::from("a semaphore holds at most 4294967295 permits"))?;
                Ok((available, None, 0))
            })
        });
        ctx.leave();
        posted.map(drop)
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
            let tried = self.take_one(own);
            let (retains, recoverer) = (own.retains(), own.tag());
            own.leave();
            let Tried::Sleep(sleepers) = tried? else {
                return Ok(ctx);
            };
            let sleep = patience.next_sleep()?;
            if retains {
                return Err(Error::InSection.into());
            }
            // SAFETY: C1.
            let mapping = unsafe { ctx.as_ref() }.mapping();
            if !recover_dead(mapping, recoverer) {
                futex::wait(&self.header.sleepers, sleepers, Some(sleep));
            }
        }
    }

    /// Takes a permit if there is one.
    fn take_one(&self, ctx: &mut Ctx) -> Result<Tried> {
        let offset = self.offset(ctx.mapping())?;
        let Some(cell) = ctx.permit_cell(offset) else {
            return Err(Error::TooManyPermits { limit: PERMITS });
        };
        let mut tried = Tried::Taken;
        self.change(ctx.taker_of_small(), offset, ctx.index(), |available| {
            if available == 0 {
                let sleepers = self.header.sleepers.load(Relaxed) | SLEEPERS_BIT;
                self.header.sleepers.store(sleepers, Release);
                tried = Tried::Sleep(sleepers);
                return Ok((0, None, 0));
            }
            let held = ctx.slot().permits[cell].count.load(Relaxed);
            Ok((available - 1, Some(cell), held + 1))
        })?;
        if tried == Tried::Taken {
            ctx.permit_cell_used(cell);
        }
        Ok(tried)
    }

    /// A permit goes: back to the semaphore, or away for good. Signal handlers are kept out meanwhile.
    fn permit_gone(&self, ctx: &mut Ctx, comes_back: bool) -> Result {
        let entered = ctx.enter().is_ok();
        let gone = self.permit_gone_inside(ctx, comes_back);
        if entered {
            ctx.leave();
        }
        if gone? {
            let left = self.available();
            ctx.give_turn_while(|| left > 0 && self.available() == left);
        }
        Ok(())
    }

    /// Says whether somebody was woken.
    fn permit_gone_inside(&self, ctx: &mut Ctx, comes_back: bool) -> Result<bool> {
        let offset = self.offset(ctx.mapping())?;
        let Some(cell) = ctx.permit_cell(offset) else {
            return Ok(false);
        };
        let woken = self.change(ctx.taker_of_small(), offset, ctx.index(), |available| {
            let held = ctx.slot().permits[cell].count.load(Relaxed);
            Ok(match held {
                0 => (available, None, 0),
                _ => {
                    let more = u32::from(comes_back);
                    (available.saturating_add(more), Some(cell), held - 1)
                }
            })
        })?;
        ctx.free_permit_cell(cell);
        Ok(woken)
    }

    fn offset(&self, mapping: &Mapping) -> Result<u64> {
        mapping.offset_of(self).ok_or_else(|| Error::NotInArena)
    }

    /// Changes the count under the internal lock: `plan` gives the count, a cell and its count. Wakes who
    /// sleeps if there are more permits now, and says whether somebody may have. The semaphore lies at that
    /// offset.
    fn change(
        &self,
        taker: Taker<'_>,
        semaphore: u64,
        slot: usize,
        plan: impl FnOnce(u32) -> Result<(u32, Option<usize>, u64)>,
    ) -> Result<bool> {
        let lock = Internal::take(&self.header.lock, taker)?;
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
        let wakes = available > now && self.calls_sleepers();
        drop(lock);
        if wakes {
            futex::wake(&self.header.sleepers, u32::MAX >> 1);
        }
        Ok(wakes)
    }

    /// Changes the word that sleepers sleep on, if there are any, under the internal lock: one that said
    /// so, but does not sleep yet, will not. (If it slept on the count, that could be 0 again, and
    /// the next one who gives a permit back would not know of it.)
    fn calls_sleepers(&self) -> bool {
        let any = self.has_sleepers();
        if any {
            let sleepers = self.header.sleepers.load(Relaxed) & !SLEEPERS_BIT;
            let next = sleepers.wrapping_add(SLEEPERS_BIT << 1);
            self.header.sleepers.store(next, Release);
        }
        any
    }

    /// Whether somebody may sleep.
    pub(crate) fn has_sleepers(&self) -> bool {
        self.header.sleepers.load(Relaxed) & SLEEPERS_BIT != 0
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .finish()
    }
}

/// Keeps others from taking permits of a semaphore and from giving them back, for a few steps in which no
/// signal handler of this thread comes by.
pub(crate) fn hold<'s>(semaphore: &'s Semaphore, ctx: &Ctx) -> Result<Internal<'s>> {
    Internal::take(&semaphore.header.lock, ctx.taker_of_small())
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
            let _ = semaphore.change(taker, offset, slot, |available| {
                Ok((available.saturating_add(held), Some(index), 0))
            });
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
    fn gone(&self, comes_back: bool) {
        let mut ctx = self.ctx;
        // SAFETY: C1; after a fork the context is wiped, and says so.
        let own = unsafe { ctx.as_mut() };
        if own.is_own() {
            let _ = self.semaphore.permit_gone(own, comes_back);
        }
    }

    /// Keeps the permit from coming back: it is gone from the semaphore for good.
    pub fn forget(self) {
        self.gone(false);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.gone(true);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(self.semaphore).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{Semaphore, Tried};
    use crate::{Arena, section::attached};
    use std::sync::atomic::Ordering::*;

    /// One that found no permit, and does not sleep yet, when one comes and goes again.
    #[test]
    fn who_is_about_to_sleep_misses_no_wake() {
        let arena = Arena::in_memory().unwrap();
        let semaphore = arena.root::<Semaphore>("semaphore").unwrap();
        let try_once = || {
            let mut ctx = attached(&*semaphore).unwrap();
            // SAFETY: C1; the reference ends with the statement.
            semaphore.take_one(unsafe { ctx.as_mut() }).unwrap()
        };
        let sleeps_on = |tried| match tried {
            Tried::Sleep(word) => word,
            Tried::Taken => panic!("there is no permit"),
        };
        let first = sleeps_on(try_once());
        assert_eq!(first, semaphore.header.sleepers.load(SeqCst), "it sleeps");
        semaphore.post().unwrap();
        let permit = semaphore.acquire().unwrap();
        assert_eq!(semaphore.available(), 0);
        assert_ne!(first, semaphore.header.sleepers.load(SeqCst), "it is woken");
        let second = sleeps_on(try_once());
        assert_ne!(first, second);
        assert_eq!(second, sleeps_on(try_once()), "all sleep on the same");
        drop(permit);
        assert_ne!(second, semaphore.header.sleepers.load(SeqCst));
    }
}
