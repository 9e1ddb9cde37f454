//! Iterating.

use super::Vec;
use crate::{section::Writer, share::Share};
use std::{iter::FusedIterator, marker::PhantomData, slice};

/// Bytes that are recorded ahead, at most.
const AHEAD: usize = 2048;

/// Yields the elements of a [`Vec`] to be changed, and records them as it goes.
///
/// Not `Send`: it records in the section of its thread.
pub struct IterMut<'a, T: Share> {
    vec: *mut Vec<T>,
    /// None if there is nothing to yield that has bytes.
    writer: Option<Writer>,
    start: *mut T,
    front: usize,
    back: usize,
    /// From `front` to here the elements are recorded.
    ready: usize,
    /// How many to record next: twice as many each time, so that stopping early is cheap.
    ahead: usize,
    elements: PhantomData<&'a mut Vec<T>>,
}

impl<T: Share> Vec<T> {
    /// Yields the elements to be changed. They are recorded as it gets to them.
    #[track_caller]
    pub fn iter_mut(&mut self) -> IterMut<'_, T> {
        let none = self.is_empty() || Self::ZERO_SIZED;
        let writer = (!none).then(|| self.open_or_panic());
        let start = match writer {
            Some(writer) => self.start(writer),
            None => std::ptr::dangling_mut(),
        };
        IterMut {
            start,
            writer,
            front: 0,
            back: self.len(),
            ready: if none { usize::MAX } else { 0 },
            ahead: 1,
            vec: self,
            elements: PhantomData,
        }
    }
}

impl<'a, T: Share> IterMut<'a, T> {
    #[cold]
    #[track_caller]
    fn record(&mut self, elements: std::ops::Range<usize>) {
        let Some(writer) = self.writer else {
            return;
        };
        // SAFETY: the vector is borrowed mutably for `'a`; what was yielded lies in its buffer, and
        // recording touches only its header, and elements that were not yielded yet.
        let vec = unsafe { &mut *self.vec };
        if let Err(error) = vec.record_piece(writer, elements) {
            super::buffer::refuse(error);
        }
    }

    /// # Safety
    ///
    /// Each index inside the vector is asked for once, and recorded before.
    #[inline(always)]
    unsafe fn element(&self, index: usize) -> &'a mut T {
        // SAFETY: by contract; the buffer is borrowed for `'a`.
        unsafe { &mut *self.start.wrapping_add(index) }
    }
}

impl<'a, T: Share> Iterator for IterMut<'a, T> {
    type Item = &'a mut T;

    #[inline]
    #[track_caller]
    fn next(&mut self) -> Option<&'a mut T> {
        let index = self.front;
        if index == self.back {
            return None;
        }
        if index >= self.ready {
            let end = self.back.min(index + self.ahead);
            self.record(index..end);
            self.ready = end;
            self.ahead = (self.ahead * 2).min(AHEAD / size_of::<T>()).max(1);
        }
        self.front += 1;
        // SAFETY: recorded, and not yielded before.
        Some(unsafe { self.element(index) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.back - self.front;
        (left, Some(left))
    }

    /// Does not record what it passes over.
    #[track_caller]
    fn nth(&mut self, n: usize) -> Option<&'a mut T> {
        self.front = self.back.min(self.front.saturating_add(n));
        self.next()
    }

    fn count(self) -> usize {
        self.len()
    }

    #[track_caller]
    fn last(mut self) -> Option<&'a mut T> {
        self.next_back()
    }
}

impl<T: Share> DoubleEndedIterator for IterMut<'_, T> {
    #[inline]
    #[track_caller]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front == self.back {
            return None;
        }
        let index = self.back - 1;
        if index >= self.ready {
            self.record(index..index + 1);
        }
        self.back = index;
        // SAFETY: recorded, and not yielded before.
        Some(unsafe { self.element(index) })
    }

    #[track_caller]
    fn nth_back(&mut self, n: usize) -> Option<Self::Item> {
        self.back = self.front.max(self.back.saturating_sub(n));
        self.next_back()
    }
}

impl<T: Share> ExactSizeIterator for IterMut<'_, T> {}
impl<T: Share> FusedIterator for IterMut<'_, T> {}

impl<'a, T> IntoIterator for &'a Vec<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Share> IntoIterator for &'a mut Vec<T> {
    type Item = &'a mut T;
    type IntoIter = IterMut<'a, T>;

    #[track_caller]
    fn into_iter(self) -> IterMut<'a, T> {
        self.iter_mut()
    }
}
