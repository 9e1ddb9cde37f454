//! What holds a reader-writer lock.

use super::RwLock;
use crate::{error::Result, section::Ctx, share::Share, sync::MutexGuard};
use std::{
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

/// A lock held to read.
///
/// Not `Send`: the lock is that of its thread. A thread that ends while it has one (a leaked one)
/// aborts its process, since references from it may still be in use.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RwLockReadGuard<'a, T: Share + Sync> {
    pub(super) lock: &'a RwLock<T>,
    pub(super) ctx: NonNull<Ctx>,
}

// SAFETY: shared references to a guard only give shared references to the value.
unsafe impl<T: Share + Sync> Sync for RwLockReadGuard<'_, T> {}

impl<T: Share + Sync> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: no writer has the lock while the guard lives (L8).
        unsafe { &*self.lock.inner.value.get() }
    }
}

impl<T: Share + Sync> Drop for RwLockReadGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: C1.
        unsafe { self.ctx.as_mut() }.read_guard_dropped(&self.lock.inner.header.word);
    }
}

impl<T: Share + Sync + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Share + Sync + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A lock held to write, and a critical section: ends both when it is dropped.
///
/// As a [`MutexGuard`]: only death undoes what was changed. Not `Send`: the section belongs to its
/// thread.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: Share + Sync> {
    pub(super) inner: MutexGuard<'a, T>,
}

impl<T: Share + Sync> RwLockWriteGuard<'_, T> {
    /// Makes what was done so far permanent, and goes on without letting go of the lock.
    ///
    /// # Errors
    ///
    /// As [`MutexGuard::commit`].
    pub fn commit(&mut self) -> Result {
        self.inner.commit()
    }
}

impl<T: Share + Sync> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: Share + Sync> DerefMut for RwLockWriteGuard<'_, T> {
    /// Records the value's own bytes first, once per section.
    ///
    /// # Panics
    ///
    /// If the arena is so full that not even that can be recorded; nothing is changed then.
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: Share + Sync + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Share + Sync + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
