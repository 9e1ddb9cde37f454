//! Elements on their way out.

use super::Vec;
use crate::{
    error::{Error, Result},
    mapping,
    section::Writer,
    share::{Share, Store},
};
use std::{
    fmt,
    mem::{self, ManuallyDrop},
    ops::Deref,
    ptr::{self, NonNull},
};

/// An element that is being removed: by [`Vec::remove`], [`Vec::swap_remove`] or [`Vec::pop`].
///
/// It can be read where it lies, stored elsewhere in the arena, or taken to the stack. Dropped, the
/// guard drops the element and closes the gap; forgotten, it leaves the element where it was.
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
/// done.push_from(open.remove(0))?;                 // moves
/// assert_eq!(*open.pop().unwrap(), "rest");        // reads, and drops
/// assert_eq!((open.len(), done.len()), (1, 1));
/// # Ok::<(), sharena::Error>(())
/// ```
#[must_use = "the element is dropped as soon as the guard is"]
pub struct Removed<'a, T: Share> {
    /// Opened, and recorded as far as closing the gap changes it.
    vec: &'a mut Vec<T>,
    /// An element of it.
    element: NonNull<T>,
    /// Whether the last element takes the place, and not those behind it.
    swap: bool,
}

impl<T: Share> Vec<T> {
    /// A guard for an element of an opened vector.
    #[inline(always)]
    fn removing(&mut self, writer: Writer, index: usize, swap: bool) -> Removed<'_, T> {
        let element = self.start(writer).wrapping_add(index);
        Removed {
            // SAFETY: the address of an element, or that of none, which is not null either.
            element: unsafe { NonNull::new_unchecked(element) },
            vec: self,
            swap,
        }
    }

    /// Removes the element at `index`; those behind it move up. *O*(n).
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn remove(&mut self, index: usize) -> Removed<'_, T> {
        let len = self.len();
        assert!(
            index < len,
            "removal index (is {index}) should be < len (is {len})"
        );
        let writer = self.open_or_panic();
        self.record_or_panic(writer, index..len);
        self.removing(writer, index, false)
    }

    /// Removes the element at `index`, and puts the last one in its place. *O*(1).
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn swap_remove(&mut self, index: usize) -> Removed<'_, T> {
        let len = self.len();
        assert!(
            index < len,
            "swap_remove index (is {index}) should be < len (is {len})"
        );
        let writer = self.open_or_panic();
        self.record_or_panic(writer, len - 1..len);
        if index < len - 1 {
            self.record_or_panic(writer, index..index + 1);
        }
        self.removing(writer, index, true)
    }

    /// Removes the last element, if there is one.
    #[inline]
    #[track_caller]
    pub fn pop(&mut self) -> Option<Removed<'_, T>> {
        let last = self.len().checked_sub(1)?;
        let writer = self.open_or_panic();
        self.record_or_panic(writer, last..last + 1);
        Some(self.removing(writer, last, true))
    }

    /// Removes the last element if `condition` says so of it.
    #[track_caller]
    pub fn pop_if(&mut self, condition: impl FnOnce(&T) -> bool) -> Option<Removed<'_, T>> {
        if condition(self.last()?) {
            self.pop()
        } else {
            None
        }
    }
}

impl<T: Share> Removed<'_, T> {
    /// Takes the value to the stack, where it is inert: what it owns can be used again once it is
    /// put back. Not put back in the same section, it is lost if the process dies.
    pub fn take(self) -> T {
        let mut guard = ManuallyDrop::new(self);
        let writer = guard.vec.open_or_panic();
        guard.forget_locks(writer);
        // SAFETY: an element, read once: the gap is closed over it.
        let value = unsafe { guard.element.read() };
        guard.close_gap(writer);
        value
    }

    /// How many elements there are behind this one.
    #[inline(always)]
    fn behind(&self, writer: Writer) -> usize {
        let start = self.vec.start(writer).addr();
        let bytes = self.element.addr().get() - start;
        // Where elements have no bytes, it does not matter which one goes.
        self.vec.len() - 1 - bytes.checked_div(size_of::<T>()).unwrap_or(0)
    }

    /// Forgets locks in what will be moved (J4): they may have been taken since the guard was
    /// made.
    #[inline(always)]
    fn forget_locks(&self, writer: Writer) {
        let elements = 1 + self.behind(writer);
        writer.forget_locks_in(self.element.as_ptr(), elements * size_of::<T>());
    }

    /// Takes the element out, without dropping it. All that this changes was recorded when the
    /// guard was made.
    #[inline(always)]
    fn close_gap(&mut self, writer: Writer) {
        let (gap, behind) = (self.element.as_ptr(), self.behind(writer));
        // SAFETY: elements of the vector, recorded (J1).
        unsafe {
            if behind != 0 && self.swap {
                ptr::copy_nonoverlapping(gap.add(behind), gap, 1);
            } else if behind != 0 {
                ptr::copy(gap.add(1), gap, behind);
            }
        }
        let len = self.vec.len();
        self.vec.set_len(len - 1);
    }
}

impl<T: Share> Deref for Removed<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: an element of the vector, which is borrowed as long.
        unsafe { self.element.as_ref() }
    }
}

impl<T: Share> Drop for Removed<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // In a child of the process that made the guard, the section is not the child's.
        if let Ok(writer) = self.vec.open() {
            self.forget_locks(writer);
            // SAFETY: an element, dropped once: the gap is closed over it. Dropping a `Share` value
            // runs no code but sharena's, and does not panic.
            unsafe { self.element.drop_in_place() };
            self.close_gap(writer);
        }
    }
}

/// Whether a value that lies at `from` may be moved to `to`: within one arena.
pub(in crate::collections) fn check_move<T>(from: *const T, to: *const T) -> Result {
    let arena = |place: *const T| mapping::locate(place).map(|located| located.arena);
    if size_of::<T>() == 0 || arena(from) == arena(to) {
        return Ok(());
    }
    Err(Error::OtherArena)
}

// SAFETY: the slot holds the value that was moved there. On an error the element stays.
unsafe impl<T: Share> Store<T> for Removed<'_, T> {
    #[inline]
    unsafe fn store(self, slot: *mut T) -> Result {
        let mut guard = ManuallyDrop::new(self);
        check_move(guard.element.as_ptr(), slot)?;
        let writer = guard.vec.open()?;
        guard.forget_locks(writer);
        // SAFETY: the element moves to the slot, which the caller vouches for; the gap is closed
        // over it.
        unsafe { ptr::copy_nonoverlapping(guard.element.as_ptr(), slot, 1) };
        guard.close_gap(writer);
        Ok(())
    }

    fn decline(self) {
        mem::forget(self);
    }
}

impl<T: Share + fmt::Debug> fmt::Debug for Removed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Share + fmt::Display> fmt::Display for Removed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Share + PartialEq<U>, U: ?Sized> PartialEq<U> for Removed<'_, T> {
    fn eq(&self, other: &U) -> bool {
        **self == *other
    }
}
