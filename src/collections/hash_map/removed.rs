//! A pair on its way out.

use super::{
    control::Freed,
    map::{HashMap, or_panic},
    storage::{Pair, Storage},
    table::Hit,
};
use crate::{
    collections::vec::check_move,
    error::{Error, Result},
    layout::MapHeader,
    section::Writer,
    share::{Share, Store},
};
use std::{
    fmt,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    ops::Deref,
    ptr,
};

/// A value that is taken out of a [`HashMap`] when this guard is dropped.
///
/// It is read where it lies: the guard dereferences to the value. Stored in another container
/// (`to.insert(key, from.remove(&key)?)`), the value moves there. A forgotten guard leaves the pair
/// where it was.
pub struct Removed<'a, K, V> {
    header: *mut MapHeader,
    /// The section in which the guard was made, and beyond which it does not live.
    writer: Writer,
    storage: Storage<K, V>,
    bucket: usize,
    /// Whether the bucket's group has empty ones: then this one becomes empty, too.
    beside_empty: bool,
    map: PhantomData<&'a mut HashMap<K, V>>,
}

impl<'a, K, V> Removed<'a, K, V> {
    /// # Safety
    ///
    /// The bucket of that map is full, its control byte is recorded in the open section, and no
    /// other guard has it. While the guard lives, the map keeps its table, and nothing is put into it.
    #[inline(always)]
    pub(super) unsafe fn new(
        map: *mut HashMap<K, V>,
        writer: Writer,
        storage: Storage<K, V>,
        bucket: usize,
    ) -> Self {
        let group = storage.table.group_of(bucket);
        // SAFETY: by contract.
        unsafe { Self::of_hit(map, writer, storage, Hit { bucket, group }) }
    }

    /// The same for a bucket that was found just now.
    ///
    /// # Safety
    ///
    /// As [`Removed::new`].
    #[inline(always)]
    pub(super) unsafe fn of_hit(
        map: *mut HashMap<K, V>,
        writer: Writer,
        storage: Storage<K, V>,
        Hit { bucket, group }: Hit,
    ) -> Self {
        Removed {
            // SAFETY: a map that the caller has borrowed mutably.
            header: unsafe { &raw mut (*map).header },
            writer,
            storage,
            bucket,
            beside_empty: group.empty().any(),
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

    /// Takes the pair out of the map; neither is dropped. All that this changes was recorded when
    /// the guard was made.
    ///
    /// # Errors
    ///
    /// In a forked child, which inherits guards that are not its own: nothing is changed.
    #[inline(always)]
    fn take_out(&mut self) -> Result {
        if !self.writer.is_own() {
            return Err(Error::NoSection);
        }
        // Locks in it may have been taken since the guard was made (J4).
        self.writer
            .forget_locks_in(self.pair(), size_of::<Pair<K, V>>());
        // SAFETY: the control byte and the header are recorded, by the contract of `new`; nobody
        // else uses the header now.
        unsafe {
            let freed = Freed::by((*self.header).buffer.stamp);
            self.storage
                .table
                .erase(self.bucket, self.beside_empty, freed);
            (*self.header).len -= 1;
            (*self.header).growth_left += u64::from(self.beside_empty);
        }
        Ok(())
    }

    /// Takes the value to the stack, and drops the key. There it is inert: what it owns can be used
    /// again once it is put back. Not put back in the same section, it is lost if the process dies.
    ///
    /// # Panics
    ///
    /// In a child of the process that made the guard.
    #[track_caller]
    pub fn take(mut self) -> V {
        or_panic(self.take_out());
        let pair = self.pair();
        mem::forget(self);
        // SAFETY: the pair is the map's no more: its value moves, its key is dropped.
        unsafe {
            ptr::drop_in_place(&raw mut (*pair).key);
            ptr::read(&raw const (*pair).value)
        }
    }
}

impl<K, V> Drop for Removed<'_, K, V> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.take_out().is_ok() {
            // SAFETY: the pair is not the map's any more.
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

// SAFETY: the slot holds the value that was moved there. On an error the pair stays.
unsafe impl<K, V: Share> Store<V> for Removed<'_, K, V> {
    #[inline(always)]
    unsafe fn store(self, slot: *mut V) -> Result {
        let mut guard = ManuallyDrop::new(self);
        check_move(&**guard, slot)?;
        guard.take_out()?;
        let pair = guard.pair();
        // SAFETY: the pair is the map's no more: its value moves to the slot, which the caller
        // vouches for, and its key is dropped.
        unsafe {
            ptr::copy_nonoverlapping(&raw const (*pair).value, slot, 1);
            ptr::drop_in_place(&raw mut (*pair).key);
        }
        Ok(())
    }

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

impl<K, V: PartialEq<U>, U: ?Sized> PartialEq<U> for Removed<'_, K, V> {
    fn eq(&self, other: &U) -> bool {
        **self == *other
    }
}
