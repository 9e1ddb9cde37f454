//! `AtomicRelPtr<T>`: a relative pointer, or null, that several processes change.

use super::RelPtr;
use crate::share::{Builtin, Share, TypeInfo, node};
use std::{
    fmt,
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
};

/// A relative pointer, or null, that can be changed through shared references.
///
/// Zero is null. What is stored takes effect at once: a section that is undone does not take it
/// back.
#[repr(transparent)]
pub struct AtomicRelPtr<T> {
    offset: AtomicU64,
    target: PhantomData<fn() -> T>,
}

// SAFETY: a transparent atomic number.
unsafe impl<T: Share> Share for AtomicRelPtr<T> {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::AtomicRelPtr, &[node::<T>]);
}

static_assertions::assert_eq_size!(AtomicRelPtr<u64>, u64);

fn number<T>(pointer: Option<RelPtr<T>>) -> u64 {
    pointer.map_or(0, RelPtr::offset)
}

impl<T> AtomicRelPtr<T> {
    /// A pointer, or null.
    pub const fn new(pointer: Option<RelPtr<T>>) -> Self {
        let offset = match pointer {
            Some(pointer) => pointer.offset(),
            None => 0,
        };
        AtomicRelPtr {
            offset: AtomicU64::new(offset),
            target: PhantomData,
        }
    }

    /// The pointer that is stored now.
    pub fn load(&self, order: Ordering) -> Option<RelPtr<T>> {
        RelPtr::from_offset(self.offset.load(order))
    }

    /// Stores a pointer.
    pub fn store(&self, pointer: Option<RelPtr<T>>, order: Ordering) {
        self.offset.store(number(pointer), order);
    }

    /// Stores a pointer, and gives the one that was there.
    pub fn swap(&self, pointer: Option<RelPtr<T>>, order: Ordering) -> Option<RelPtr<T>> {
        RelPtr::from_offset(self.offset.swap(number(pointer), order))
    }

    /// Stores `new` if `current` is there.
    ///
    /// # Errors
    ///
    /// The pointer that is there, if it is another one.
    #[allow(clippy::type_complexity)]
    pub fn compare_exchange(
        &self,
        current: Option<RelPtr<T>>,
        new: Option<RelPtr<T>>,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Option<RelPtr<T>>, Option<RelPtr<T>>> {
        self.offset
            .compare_exchange(number(current), number(new), success, failure)
            .map(RelPtr::from_offset)
            .map_err(RelPtr::from_offset)
    }

    /// The same, but it may also fail where `current` is there, which is cheaper in a loop.
    ///
    /// # Errors
    ///
    /// The pointer that is there.
    #[allow(clippy::type_complexity)]
    pub fn compare_exchange_weak(
        &self,
        current: Option<RelPtr<T>>,
        new: Option<RelPtr<T>>,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Option<RelPtr<T>>, Option<RelPtr<T>>> {
        self.offset
            .compare_exchange_weak(number(current), number(new), success, failure)
            .map(RelPtr::from_offset)
            .map_err(RelPtr::from_offset)
    }
}

impl<T> Default for AtomicRelPtr<T> {
    fn default() -> Self {
        AtomicRelPtr::new(None)
    }
}

impl<T> fmt::Debug for AtomicRelPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load(Ordering::Relaxed).fmt(f)
    }
}
