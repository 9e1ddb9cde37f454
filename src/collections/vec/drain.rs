//! Taking out many elements, one by one.
//!
//! Items may outlive the iterator, may be kept or forgotten in any order, and the vector must be
//! whole all the time. So the first item makes the elements that go change places with those behind
//! them, and turns them around: from then on, each item is the vector's last element, which the
//! vector gives up. It lies behind the vector's end until it is dropped or moved; since items borrow
//! the vector, nobody else puts anything there.
//!
//! ```text
//! | head | a b c | tail |   ->   | head | tail | c b | a        a is out
//! ```

use super::{Vec, check_move, checked_range};
use crate::{
    error::Result,
    section::Writer,
    share::{Share, Store},
};
use std::{
    fmt,
    iter::FusedIterator,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    ops::{Deref, RangeBounds},
    ptr::{self, NonNull},
};

/// Takes elements out of a [`Vec`], one by one; made by [`Vec::drain`].
///
/// What it did not yield goes when it is dropped. Forgotten, it leaves that in the vector: in place
/// if it yielded nothing, otherwise at the vector's end, last things first.
pub struct Drain<'a, T: Share> {
    vec: &'a mut Vec<T>,
    /// Where the elements to take out begin, and how many are left.
    start: usize,
    left: usize,
    /// Whether they are at the end, turned around.
    turned: bool,
}

/// An element that [`Drain`] took out: to be read where it lies, or stored elsewhere in the arena.
/// Dropped with the guard; forgotten, it is lost.
pub struct Drained<'a, T: Share> {
    element: NonNull<T>,
    vec: PhantomData<&'a mut Vec<T>>,
}

impl<T: Share> Vec<T> {
    /// Takes the elements of the range out, one by one; those behind it move up.
    ///
    /// # Panics
    ///
    /// If the range is out of bounds; and as all that changes a vector and returns no `Result`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, collections::{String, Vec}, sync::Mutex};
    /// # let arena = Arena::in_memory()?;
    /// # let lists = arena.root::<Mutex<[Vec<String>; 2]>>("lists")?;
    /// # let mut lists = lists.lock()?;
    /// # let [open, done] = &mut *lists;
    /// open.try_extend(["write", "test", "rest"])?;
    /// for job in open.drain(..2) {
    ///     done.push_from(job)?;                     // moves
    /// }
    /// assert_eq!(*done, ["write", "test"]);
    /// # Ok::<(), sharena::Error>(())
    /// ```
    #[track_caller]
    pub fn drain(&mut self, range: impl RangeBounds<usize>) -> Drain<'_, T> {
        let len = self.len();
        let range = checked_range(range, len);
        if !range.is_empty() {
            let writer = self.open_or_panic();
            self.record_or_panic(writer, range.start..len);
        }
        Drain {
            start: range.start,
            left: range.len(),
            turned: false,
            vec: self,
        }
    }
}

impl<T: Share> Drain<'_, T> {
    /// Puts the elements at the vector's end, the first one last.
    fn turn(&mut self, writer: Writer) {
        let len = self.vec.len();
        // SAFETY: all from `start` on were recorded when the iterator was made.
        let moved = unsafe { self.vec.slice_mut(writer, self.start..len) };
        moved[..self.left].reverse();
        moved.rotate_left(self.left);
        self.turned = true;
    }
}

impl<'a, T: Share> Iterator for Drain<'a, T> {
    type Item = Drained<'a, T>;

    #[inline]
    fn next(&mut self) -> Option<Drained<'a, T>> {
        if self.left == 0 {
            return None;
        }
        let writer = self.vec.open_or_panic();
        if !self.turned {
            self.turn(writer);
        }
        self.left -= 1;
        let last = self.vec.len() - 1;
        self.vec.set_len(last);
        let element = self.vec.start(writer).wrapping_add(last);
        Some(Drained {
            // SAFETY: an element's address.
            element: unsafe { NonNull::new_unchecked(element) },
            vec: PhantomData,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Share> ExactSizeIterator for Drain<'_, T> {}
impl<T: Share> FusedIterator for Drain<'_, T> {}

impl<T: Share> Drop for Drain<'_, T> {
    fn drop(&mut self) {
        let Ok(writer) = Writer::at(self.vec) else {
            return;
        };
        if self.left == 0 {
            return;
        }
        let (left, len) = (self.left, self.vec.len());
        let from = if self.turned { len - left } else { self.start };
        // SAFETY: recorded when the iterator was made; dropped once, as what lies behind moves
        // over them.
        unsafe {
            let gone = self.vec.start(writer).add(from);
            writer.release_locks_in(gone, (len - from) * size_of::<T>());
            ptr::slice_from_raw_parts_mut(gone, left).drop_in_place();
            ptr::copy(gone.add(left), gone, len - from - left);
        }
        self.vec.set_len(len - left);
    }
}

impl<T: Share> Drained<'_, T> {
    /// Takes the value to the stack, as [`Removed::take`](super::Removed::take) does.
    pub fn take(self) -> T {
        let item = ManuallyDrop::new(self);
        item.release_locks_in();
        // SAFETY: the vector gave the element up, and the guard is not used again.
        unsafe { item.element.read() }
    }

    /// Lets go of locks in the element (J4). Says whether the section in which it was taken out
    /// goes on: not in a forked child.
    #[inline]
    fn release_locks_in(&self) -> bool {
        if size_of::<T>() == 0 {
            return true;
        }
        let writer = Writer::at(self.element.as_ptr());
        if let Ok(writer) = writer {
            writer.release_locks_in(self.element.as_ptr(), size_of::<T>());
        }
        writer.is_ok()
    }
}

impl<T: Share> Deref for Drained<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard has the element, which lies in a buffer that is borrowed as long.
        unsafe { self.element.as_ref() }
    }
}

impl<T: Share> Drop for Drained<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if mem::needs_drop::<T>() && self.release_locks_in() {
            // SAFETY: the vector gave the element up.
            unsafe { self.element.drop_in_place() };
        }
    }
}

// SAFETY: the slot holds the value that was moved there.
unsafe impl<T: Share> Store<T> for Drained<'_, T> {
    #[inline]
    unsafe fn store(self, slot: *mut T) -> Result {
        check_move(self.element.as_ptr(), slot)?;
        let item = ManuallyDrop::new(self);
        item.release_locks_in();
        // SAFETY: the vector gave the element up, the guard is not used again, and the caller
        // vouches for the slot.
        unsafe { ptr::copy_nonoverlapping(item.element.as_ptr(), slot, 1) };
        Ok(())
    }
}

impl<T: Share + fmt::Debug> fmt::Debug for Drained<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Share + fmt::Display> fmt::Display for Drained<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
