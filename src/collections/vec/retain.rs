//! Keeping some elements.
//!
//! The caller's code runs between steps that each leave a whole vector: an element that is to go
//! changes places with one that stays, and those that go are dropped together at the end, also when
//! a panic ends the loop.

use super::Vec;
use crate::{section::Writer, share::Share};
use std::ptr;

/// A loop over the elements that keeps some. Dropped, it takes the others away.
struct Sieve<'a, T: Share> {
    vec: &'a mut Vec<T>,
    /// Set once there is an element to go: then all behind it are recorded.
    writer: Option<Writer>,
    /// Elements before this stay. Those between `kept` and `next` go.
    kept: usize,
    next: usize,
}

impl<T: Share> Sieve<'_, T> {
    /// Decides over the next element.
    #[track_caller]
    fn decide(&mut self, keep: bool) {
        match (self.writer, keep) {
            (None, true) => self.kept += 1,
            (None, false) => {
                let writer = self.vec.open_or_panic();
                let len = self.vec.len();
                self.vec.record_or_panic(writer, self.next..len);
                self.writer = Some(writer);
            }
            (Some(writer), true) => {
                self.vec.swap_recorded(writer, self.kept, self.next);
                self.kept += 1;
            }
            (Some(_), false) => {}
        }
        self.next += 1;
    }
}

impl<T: Share> Drop for Sieve<'_, T> {
    fn drop(&mut self) {
        let Some(writer) = self.writer else {
            return;
        };
        let (gone, len) = (self.next - self.kept, self.vec.len());
        // SAFETY: recorded when the first element to go was found; dropped once, as what lies
        // behind moves over them.
        unsafe {
            let first = self.vec.start(writer).add(self.kept);
            writer.release_locks_in(first, (len - self.kept) * size_of::<T>());
            ptr::slice_from_raw_parts_mut(first, gone).drop_in_place();
            ptr::copy(first.add(gone), first, len - self.next);
        }
        self.vec.set_len(len - gone);
    }
}

impl<T: Share> Vec<T> {
    fn sieve(&mut self) -> Sieve<'_, T> {
        Sieve {
            vec: self,
            writer: None,
            kept: 0,
            next: 0,
        }
    }

    /// Keeps the elements for which `keep` says so, in their order. *O*(n).
    ///
    /// If `keep` panics, what it decided so far takes place.
    #[track_caller]
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut sieve = self.sieve();
        while sieve.next < sieve.vec.len() {
            let keep = keep(&sieve.vec[sieve.next]);
            sieve.decide(keep);
        }
    }

    /// The same; `keep` may change the elements.
    #[track_caller]
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        let mut sieve = self.sieve();
        while sieve.next < sieve.vec.len() {
            let keep = keep(&mut sieve.vec[sieve.next]);
            sieve.decide(keep);
        }
    }

    /// Of equal elements in a row, keeps the first.
    #[track_caller]
    pub fn dedup(&mut self)
    where
        T: PartialEq,
    {
        self.dedup_by(|a, b| a == b);
    }

    /// Of elements in a row with equal keys, keeps the first.
    #[track_caller]
    pub fn dedup_by_key<K: PartialEq>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.dedup_by(|a, b| key(a) == key(b));
    }

    /// Of elements in a row that `same` says are the same, keeps the first. It is called with an
    /// element and the one kept last.
    #[track_caller]
    pub fn dedup_by(&mut self, mut same: impl FnMut(&T, &T) -> bool) {
        let mut sieve = self.sieve();
        while sieve.next < sieve.vec.len() {
            let keep = sieve.next == 0 || !same(&sieve.vec[sieve.next], &sieve.vec[sieve.kept - 1]);
            sieve.decide(keep);
        }
    }
}
