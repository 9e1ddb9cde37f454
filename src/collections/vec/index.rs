//! Elements as `&mut`: only those that are asked for are recorded.

use super::{Vec, refuse};
use crate::{section::Writer, share::Share};
use std::{
    ops::{
        Deref, DerefMut, Index, IndexMut, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo,
        RangeToInclusive,
    },
    slice::SliceIndex,
};

/// What a vector can be indexed with: a position, or a range of them.
pub trait Position<T>: SliceIndex<[T]> + sealed::Sealed {
    /// The elements it means, if there are such.
    #[doc(hidden)]
    fn elements(&self, len: usize) -> Option<Range<usize>>;
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for usize {}

impl<T> Position<T> for usize {
    #[inline(always)]
    fn elements(&self, len: usize) -> Option<Range<usize>> {
        (*self < len).then(|| *self..*self + 1)
    }
}

macro_rules! ranges {
    ($($range:ty: $this:ident, $len:ident => $start:expr, $end:expr;)*) => { $(
        impl sealed::Sealed for $range {}

        impl<T> Position<T> for $range {
            #[inline]
            fn elements(&self, $len: usize) -> Option<Range<usize>> {
                let $this = self;
                let (start, end) = ($start, $end?);
                (start <= end && end <= $len).then_some(start..end)
            }
        }
    )* };
}

ranges! {
    Range<usize>: range, len => range.start, Some(range.end);
    RangeFrom<usize>: range, len => range.start, Some(len);
    RangeTo<usize>: range, len => 0, Some(range.end);
    RangeFull: _range, len => 0, Some(len);
    RangeInclusive<usize>: range, len => *range.start(), range.end().checked_add(1);
    RangeToInclusive<usize>: range, len => 0, range.end.checked_add(1);
}

impl<T, I: Position<T>> Index<I> for Vec<T> {
    type Output = I::Output;

    #[inline]
    fn index(&self, index: I) -> &I::Output {
        Index::index(self.as_slice(), index)
    }
}

impl<T: Share, I: Position<T>> IndexMut<I> for Vec<T> {
    /// Records the elements, and no others.
    #[inline]
    #[track_caller]
    fn index_mut(&mut self, index: I) -> &mut I::Output {
        match index.elements(self.len()) {
            Some(elements) => IndexMut::index_mut(self.recorded(elements), index),
            None => {
                // Says what is wrong with it.
                Index::index(self.as_slice(), index);
                unreachable!("the index is out of bounds")
            }
        }
    }
}

impl<T> Deref for Vec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Share> DerefMut for Vec<T> {
    /// Records all elements, once per section: for what changes many of them, such as sorting.
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}

impl<T: Share> Vec<T> {
    /// The whole slice, in which only some elements may be changed: those recorded here.
    #[inline]
    #[track_caller]
    fn recorded(&mut self, elements: Range<usize>) -> &mut [T] {
        if elements.is_empty() || Self::ZERO_SIZED {
            // SAFETY: nothing that has bytes can be changed through it.
            return unsafe { self.unrecorded_slice() };
        }
        let writer = self.open_or_panic();
        if let Err(error) = self.record_lent(writer, elements) {
            refuse(error);
        }
        let len = self.len();
        // SAFETY: the caller changes only elements that were recorded just now.
        unsafe { self.slice_mut(writer, 0..len) }
    }

    /// # Safety
    ///
    /// No bytes are changed through it.
    unsafe fn unrecorded_slice(&mut self) -> &mut [T] {
        if self.is_empty() {
            return &mut [];
        }
        let len = self.len();
        // SAFETY: as for `as_slice`; the vector is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.first_element().as_ptr(), len) }
    }

    /// All elements, to be changed. Records them all, once per section.
    ///
    /// # Panics
    ///
    /// As all that changes a vector and returns no `Result`. A large vector takes much room in the
    /// journal: [`try_as_mut_slice`](Vec::try_as_mut_slice) says if there is none.
    #[inline]
    #[track_caller]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self.try_as_mut_slice() {
            Ok(slice) => slice,
            Err(error) => super::buffer::refuse(error),
        }
    }

    /// All elements, to be changed.
    ///
    /// # Errors
    ///
    /// When the arena is too full to record them, or the vector cannot be changed where it lies.
    #[inline]
    pub fn try_as_mut_slice(&mut self) -> crate::Result<&mut [T]> {
        if self.is_empty() || Self::ZERO_SIZED {
            // SAFETY: there are no bytes.
            return Ok(unsafe { self.unrecorded_slice() });
        }
        let writer = self.open()?;
        if T::UNLOGGED {
            self.record_lent(writer, 0..self.len())?;
        } else {
            self.record_all(writer)?;
        }
        let len = self.len();
        // SAFETY: all of them are recorded.
        Ok(unsafe { self.slice_mut(writer, 0..len) })
    }

    /// An element, or some, to be changed; `None` out of bounds. Records only these.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, collections::Vec, sync::Mutex};
    /// # let arena = Arena::in_memory()?;
    /// # let numbers = arena.root::<Mutex<Vec<u64>>>("numbers")?;
    /// # let mut numbers = numbers.lock()?;
    /// numbers.try_extend([1, 2, 3, 4])?;
    /// *numbers.get_mut(0).unwrap() = 10;
    /// numbers.get_mut(1..3).unwrap().swap(0, 1);
    /// assert_eq!(*numbers, [10, 3, 2, 4]);
    /// # Ok::<(), sharena::Error>(())
    /// ```
    #[inline]
    #[track_caller]
    pub fn get_mut<I: Position<T>>(&mut self, index: I) -> Option<&mut I::Output> {
        let elements = index.elements(self.len())?;
        self.recorded(elements).get_mut(index)
    }

    /// The first element, to be changed.
    #[inline]
    #[track_caller]
    pub fn first_mut(&mut self) -> Option<&mut T> {
        self.get_mut(0)
    }

    /// The last element, to be changed.
    #[inline]
    #[track_caller]
    pub fn last_mut(&mut self) -> Option<&mut T> {
        let last = self.len().checked_sub(1)?;
        self.get_mut(last)
    }

    /// Swaps two elements, and records no others.
    ///
    /// # Panics
    ///
    /// If one of them is out of bounds.
    #[track_caller]
    pub fn swap(&mut self, a: usize, b: usize) {
        let len = self.len();
        assert!(
            a < len && b < len,
            "cannot swap {a} and {b} of {len} elements"
        );
        let writer = self.open_or_panic();
        self.record_or_panic(writer, a..a + 1);
        self.record_or_panic(writer, b..b + 1);
        self.swap_recorded(writer, a, b);
    }

    #[inline]
    pub(super) fn swap_recorded(&mut self, writer: Writer, a: usize, b: usize) {
        let (start, len) = (self.start(writer), self.len());
        // Locks in them may have been taken since they were recorded (J4).
        writer.forget_locks_in(start.wrapping_add(a), size_of::<T>());
        writer.forget_locks_in(start.wrapping_add(b), size_of::<T>());
        // SAFETY: only the two elements are changed, which the caller recorded.
        unsafe { self.slice_mut(writer, 0..len) }.swap(a, b);
    }
}
