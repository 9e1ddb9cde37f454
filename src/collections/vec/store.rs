//! What a `Vec` is made from where it is to lie.

use super::Vec;
use crate::{
    collections::raw,
    error::{Error, Result},
    section::{Allocated, Writer},
    share::{Key, Lookup, Share, Store},
};
use std::{alloc::Layout, hash::Hash, mem, ptr};

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

    /// A vector that is about to be written to memory which needs no record, with room for `count`
    /// elements. If it is dropped instead, nothing remains.
    fn with_room(writer: Writer, count: usize) -> Result<Self> {
        let mut vec = Vec::opened(writer);
        if count != 0 && !Self::ZERO_SIZED {
            let layout = Layout::array::<T>(count).map_err(|_| Error::Layout {
                size: count.saturating_mul(size_of::<T>()),
                align: align_of::<T>(),
            })?;
            vec.adopt(writer, writer.alloc(layout)?);
        }
        Ok(vec)
    }

    /// Makes a vector in `slot` with copies of the values.
    ///
    /// # Safety
    ///
    /// As [`Store::store`].
    #[inline]
    pub(in crate::collections) unsafe fn store_copy(slot: *mut Self, values: &[T]) -> Result
    where
        T: Copy,
    {
        let writer = Writer::at(slot)?;
        let mut vec: Vec<T> = Vec::with_room(writer, values.len())?;
        // SAFETY: a new buffer that has room for them.
        unsafe {
            ptr::copy_nonoverlapping(values.as_ptr(), vec.start(writer), values.len());
        }
        vec.set_len(values.len());
        // SAFETY: by contract.
        unsafe { slot.write(vec) };
        Ok(())
    }

    /// Makes a vector in `slot` of the first `count` values that the iterator yields.
    ///
    /// # Safety
    ///
    /// As [`Store::store`].
    #[inline]
    unsafe fn store_all<S: Store<T>>(
        slot: *mut Self,
        values: impl Iterator<Item = S>,
        count: usize,
    ) -> Result {
        let writer = Writer::at(slot)?;
        // Dropped on an error as on a panic, with the elements made so far.
        let mut vec: Vec<T> = Vec::with_room(writer, count)?;
        let start = vec.start(writer);
        let mut made = 0;
        for value in values.take(count) {
            // SAFETY: there is room for `count` elements, in a fresh buffer.
            unsafe { value.store(start.wrapping_add(made)) }?;
            made += 1;
            if mem::needs_drop::<T>() {
                vec.set_len(made);
            }
        }
        vec.set_len(made);
        // SAFETY: by contract.
        unsafe { slot.write(vec) };
        Ok(())
    }
}

// SAFETY: `store_all` does as `Store` asks.
unsafe impl<T: Share, S: Store<T> + Copy> Store<Vec<T>> for &[S] {
    #[inline]
    unsafe fn store(self, slot: *mut Vec<T>) -> Result {
        // SAFETY: by contract.
        unsafe { Vec::store_all(slot, self.iter().copied(), self.len()) }
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
                let count = self.len();
                // SAFETY: by contract.
                unsafe { Vec::store_all(slot, self.into_iter(), count) }
            }
        }
    )* };
}

by_value! {
    [const N: usize] [S; N];
    [] std::vec::Vec<S>;
}

macro_rules! key {
    ($([$($more:tt)*] $source:ty;)*) => { $(
        impl<T: Share + Copy + Hash + Eq, $($more)*> Key<Vec<T>> for $source {
            type Form = [T];

            fn form(&self) -> &[T] {
                &self[..]
            }
        }
    )* };
}

key! {
    [] &[T];
    [const N: usize] [T; N];
    [const N: usize] &[T; N];
    [] &Vec<T>;
    [] std::vec::Vec<T>;
    [] &std::vec::Vec<T>;
}

macro_rules! lookup {
    ($([$($more:tt)*] $source:ty;)*) => { $(
        impl<T: Eq, $($more)*> Lookup<$source> for Vec<T> {
            fn is(&self, key: &$source) -> bool {
                let key: &[T] = key;
                self.as_slice() == key
            }
        }
    )* };
}

lookup! {
    [] &[T];
    [const N: usize] [T; N];
    [] std::vec::Vec<T>;
}
