//! A pair on its way out.

use super::{
    map::HashMap,
    storage::{Pair, Storage},
};
use crate::{
    error::Result,
    layout::MapHeader,
    section::Writer,
    share::{Share, Store},
};
use std::{fmt, marker::PhantomData, mem, ops::Deref, ptr};

/// A value that is taken out of a [`HashMap`] when this guard is dropped.
///
/// It is read where it lies: the guard dereferences to the value. Stored in another container
/// (`to.insert(key, from.remove(&key)?)`), the value moves there. A forgotten guard leaves the pair
/// where it was.
pub struct Removed<'a, K, V> {
    header: *mut MapHeader,
    storage: Storage<K, V>,
    bucket: usize,
    map: PhantomData<&'a mut HashMap<K, V>>,
}

impl<'a, K, V> Removed<'a, K, V> {
    /// # Safety
    ///
    /// The bucket of that map is full, its pair and its control byte are recorded in the open
    /// section, and no other guard has it. While the guard lives, the map keeps its table.
    #[inline(always)]
    pub(super) unsafe fn new(
        map: *mut HashMap<K, V>,
        storage: Storage<K, V>,
        bucket: usize,
    ) -> Self {
        Removed {
            // SAFETY: a map that the caller has borrowed mutably.
            header: unsafe { &raw mut (*map).header },
            storage,
            bucket,
            map: PhantomData,
        }
    }

    /// The key under which the value was.
    pub fn key(&self) -> &K {
        // SAFETY: the bucket is full as long as the guard lives.
        unsafe { self.storage.key(self.bucket) }
    }

    #[inline(always)]
    fn pair(&self) -> *mut Pair<K, V> {
        self.storage.pair(self.bucket)
    }

    /// Takes the pair out of the map, without dropping it. Says whether that was possible: not in
    /// a forked child, which inherits guards that are not its own.
    #[inline(always)]
    fn take_out(&mut self) -> bool {
        if Writer::at(self.header).is_err() {
            return false;
        }
        // SAFETY: the control byte and the header are recorded, by the contract of `new`; nobody
        // else uses the header now.
        unsafe {
            let emptied = self.storage.table.erase(self.bucket);
            (*self.header).len -= 1;
            (*self.header).growth_left += u64::from(emptied);
        }
        true
    }
}

impl<K, V> Drop for Removed<'_, K, V> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.take_out() {
            // SAFETY: the pair is recorded and not the map's any more.
            unsafe { ptr::drop_in_place(self.pair()) };
        }
    }
}

impl<K, V> Deref for Removed<'_, K, V> {
    type Target = V;

    #[inline(always)]
    fn deref(&self) -> &V {
        // SAFETY: the bucket is full as long as the guard lives.
        unsafe { &(*self.pair()).value }
    }
}

// SAFETY: the value is moved to the slot, and taken out of the map.
unsafe impl<K, V: Share> Store<V> for Removed<'_, K, V> {
    #[inline(always)]
    unsafe fn store(mut self, slot: *mut V) -> Result {
        if !self.take_out() {
            mem::forget(self);
            return Err(crate::Error::NoSection);
        }
        let pair = self.pair();
        mem::forget(self);
        // SAFETY: the pair is the map's no more: its value moves, its key is dropped. The slot is
        // the caller's.
        unsafe {
            ptr::copy_nonoverlapping(&raw const (*pair).value, slot, 1);
            ptr::drop_in_place(&raw mut (*pair).key);
        }
        Ok(())
    }

    /// The pair stays where it is.
    fn decline(self) {
        mem::forget(self);
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Removed<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Removed")
            .field("key", self.key())
            .field("value", &**self)
            .finish()
    }
}

impl<K, V: fmt::Display> fmt::Display for Removed<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
