//! What a `Vec` is made from where it is to lie.

use super::Vec;
use crate::{
    collections::raw,
    error::Result,
    section::{Allocated, Writer},
    share::{Share, Store},
};

impl<T: Share> Vec<T> {
    /// An empty vector that is about to be written to memory which needs no record.
    fn opened(writer: Writer) -> Self {
        let mut vec = Vec::new();
        vec.header.buffer.arena = writer.arena();
        vec.header.buffer.stamp = writer.stamp();
        vec
    }

    /// Gives an empty vector, which is not in an arena yet, a new buffer.
    pub(super) fn adopt(&mut self, writer: Writer, buffer: Allocated) {
        let header = &mut self.header;
        header.buffer.arena = writer.arena();
        header.buffer.stamp = writer.stamp();
        raw::set_fresh_buffer(&mut header.buffer, buffer.offset);
        header.capacity = (buffer.size / size_of::<T>()) as u64;
    }

    /// Makes a vector in `slot` of what the iterator yields.
    ///
    /// # Safety
    ///
    /// As [`Store::store`].
    unsafe fn store_all<S: Store<T>>(
        slot: *mut Self,
        values: impl ExactSizeIterator<Item = S>,
    ) -> Result {
        /// Drops what was made so far, on an error as on a panic.
        struct Unfinished<T>(*mut Vec<T>);
        impl<T> Drop for Unfinished<T> {
            fn drop(&mut self) {
                // SAFETY: a whole vector at any time, and nobody else's yet.
                unsafe { self.0.drop_in_place() };
            }
        }
        let writer = Writer::at(slot)?;
        // SAFETY: by contract.
        unsafe { slot.write(Vec::opened(writer)) };
        let unfinished = Unfinished(slot);
        // SAFETY: written just now; nobody else knows of it.
        let vec = unsafe { &mut *slot };
        vec.reserve_exact(values.len())?;
        for value in values {
            vec.push_from(value)?;
        }
        std::mem::forget(unfinished);
        Ok(())
    }
}

// SAFETY: `store_all` does as `Store` asks.
unsafe impl<T: Share, S: Store<T> + Copy> Store<Vec<T>> for &[S] {
    #[inline]
    unsafe fn store(self, slot: *mut Vec<T>) -> Result {
        // SAFETY: by contract.
        unsafe { Vec::store_all(slot, self.iter().copied()) }
    }
}

macro_rules! by_reference {
    ($([$($more:tt)*] $source:ty;)*) => { $(
        // SAFETY: as a slice.
        unsafe impl<T: Share, S: Store<T> + Copy, $($more)*> Store<Vec<T>> for $source {
            #[inline]
            unsafe fn store(self, slot: *mut Vec<T>) -> Result {
                // SAFETY: by contract.
                unsafe { self[..].store(slot) }
            }
        }
    )* };
}

by_reference! {
    [const N: usize] &[S; N];
    [] &Vec<S>;
    [] &std::vec::Vec<S>;
}

macro_rules! by_value {
    ($([$($more:tt)*] $source:ty;)*) => { $(
        // SAFETY: `store_all` does as `Store` asks.
        unsafe impl<T: Share, S: Store<T>, $($more)*> Store<Vec<T>> for $source {
            unsafe fn store(self, slot: *mut Vec<T>) -> Result {
                // SAFETY: by contract.
                unsafe { Vec::store_all(slot, self.into_iter()) }
            }
        }
    )* };
}

by_value! {
    [const N: usize] [S; N];
    [] std::vec::Vec<S>;
}
