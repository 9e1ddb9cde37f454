//! Iterating.

use super::Vec;
use crate::{section::Writer, share::Share};
use std::{iter::FusedIterator, marker::PhantomData, ptr, slice};

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
    /// From `front` to here the elements are recorded; not beyond `back`.
    ready: usize,
    /// How many to record next: twice as many each time, so that stopping early is cheap.
    ahead: usize,
    elements: PhantomData<&'a mut Vec<T>>,
}

impl<T: Share> Vec<T> {
    /// Yields the elements to be changed. They are recorded as it gets to them.
    #[track_caller]
    pub fn iter_mut(&mut self) -> IterMut<'_, T> {
        let len = self.len();
        let (mut writer, mut start, mut ready) = (None, ptr::dangling_mut(), len);
        if len != 0 && !Self::ZERO_SIZED {
            let open = self.open_or_panic();
            start = self.start(open);
            if self.is_recorded() {
                open.forget_locks_in(start, len * size_of::<T>());
            } else {
                ready = 0;
            }
            writer = Some(open);
        }
        IterMut {
            start,
            writer,
            front: 0,
            back: len,
            ready,
            ahead: 1,
            vec: self,
            elements: PhantomData,
        }
    }
}

impl<'a, T: Share> IterMut<'a, T> {
    /// Records the next elements, if there are any.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn make_ready(&mut self) -> bool {
        if self.front == self.back {
            return false;
        }
        let end = self.back.min(self.front + self.ahead);
        self.record(self.front..end);
        self.ready = end;
        self.ahead = (self.ahead * 2).min(AHEAD / size_of::<T>().max(1)).max(1);
        true
    }

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
        if self.front == self.ready && !self.make_ready() {
            return None;
        }
        let index = self.front;
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
        self.ready = self.ready.max(self.front);
        self.next()
    }

    /// Goes through what is recorded at a time in a plain loop.
    #[track_caller]
    fn fold<B, F: FnMut(B, &'a mut T) -> B>(mut self, init: B, mut f: F) -> B {
        let mut folded = init;
        while self.front != self.ready || self.make_ready() {
            for index in self.front..self.ready {
                // SAFETY: recorded, and not yielded before; `self` is not used if `f` panics.
                folded = f(folded, unsafe { self.element(index) });
            }
            self.front = self.ready;
        }
        folded
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
        self.ready = self.ready.min(index);
        // SAFETY: recorded, and not yielded before.
        Some(unsafe { self.element(index) })
    }

    #[track_caller]
    fn nth_back(&mut self, n: usize) -> Option<Self::Item> {
        self.back = self.front.max(self.back.saturating_sub(n));
        self.ready = self.ready.min(self.back);
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
