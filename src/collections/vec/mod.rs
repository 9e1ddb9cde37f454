//! The growable array.
//!
//! # What is recorded
//!
//! Let *L* be the length that a vector had when the section began, and *B* its buffer then. A death
//! must find the first *L* elements of *B* as they were; what lay behind them was nobody's. So
//! there are three kinds of writes:
//!
//! 1. To a buffer that was allocated in this section: nothing to record (`FRESH`). Once a vector
//!    has one, nobody writes to *B* any more; it is freed at commit.
//! 2. To elements below the current length, in *B*: each operation that hands out elements as
//!    `&mut`, moves them, or *takes them away*, records them first.
//! 3. To slots from the current length on, in *B*: not recorded. Such a slot was either beyond *L*
//!    and nobody's, or its element was taken away in this section, and recorded by that operation.
//!
//! So `push` never records an element. Where much would be recorded only to be taken away, the
//! buffer is given up instead ([`Vec::clear`]).
//!
//! The header is recorded whole before its first change (`raw::open`), and holds the length.

mod buffer;
mod drain;
mod edit;
mod index;
mod iter;
mod removed;
mod retain;
mod sort;
mod store;
mod traits;

pub(super) use buffer::refuse;
pub use drain::{Drain, Drained};
pub(super) use edit::checked_range;
pub use index::Position;
pub use iter::IterMut;
pub use removed::Removed;
pub(super) use removed::check_move;

use super::{raw, take_apart};
use crate::{
    layout::VecHeader,
    share::{Builtin, Share, TypeInfo, node},
};
use std::{marker::PhantomData, ptr::NonNull, slice};

/// A growable array in an arena, used like [`std::vec::Vec`].
///
/// What may allocate returns [`Result`](crate::Result); what takes elements out hands back guards,
/// which can be read in place, or stored elsewhere. A vector can be made anywhere, and is filled
/// where it lies in an arena; moved out of there it is inert.
///
/// `Sync`, but not `Send`.
///
/// All methods of slices are there, too. Those that record nothing but what they change, such as
/// [`get_mut`](Vec::get_mut), [`swap`](Vec::swap) and [`iter_mut`](Vec::iter_mut), are methods of
/// the vector; so is [`sort`](Vec::sort), since `std` sorts *slices* by comparing elements on the
/// stack, where elements that own memory are inert: that panics, and loses nothing. (A short
/// [`String`](super::String) owns none.)
///
/// # Panics
///
/// Methods that change the vector and do not return a `Result` panic where it does not lie in the
/// arena that its elements are in, and where the old elements cannot be recorded: where sections change more
/// in a full arena than a quarter of its maximum size. Nothing is changed then.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, collections::Vec, sync::Mutex};
///
/// let arena = Arena::in_memory()?;
/// let numbers = arena.root::<Mutex<Vec<u64>>>("numbers")?;
///
/// let mut numbers = numbers.lock()?;
/// numbers.push(3)?;
/// numbers.extend_from_slice(&[1, 2])?;
/// numbers.sort();
/// assert_eq!(*numbers, [1, 2, 3]);
/// # Ok::<(), sharena::Error>(())
/// ```
#[repr(C)]
pub struct Vec<T> {
    header: VecHeader,
    elements: PhantomData<T>,
    /// Writing belongs to the thread whose section it is.
    not_send: PhantomData<*mut ()>,
}

// SAFETY: shared references to a vector only read it and give shared references to its elements.
unsafe impl<T: Sync> Sync for Vec<T> {}

// SAFETY: `repr(C)`: offsets and numbers, whose buffer holds `Share` values; no `Cell`. Its `Drop`
// is known to the schema as that of a builtin.
unsafe impl<T: Share> Share for Vec<T> {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::Vec, &[node::<T>]);
}

impl<T> Vec<T> {
    /// Whether elements take no room. Then there is no buffer.
    const ZERO_SIZED: bool = size_of::<T>() == 0;

    /// An empty vector, which owns nothing. It can be made anywhere, also in constants.
    pub const fn new() -> Self {
        Vec {
            header: VecHeader::new(),
            elements: PhantomData,
            not_send: PhantomData,
        }
    }

    /// How many elements there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.header.len as usize
    }

    /// Whether there are none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.header.len == 0
    }

    /// How many elements fit without another allocation.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        if Self::ZERO_SIZED {
            usize::MAX
        } else {
            self.header.capacity as usize
        }
    }

    /// The elements.
    ///
    /// # Panics
    ///
    /// If there are any, and the vector was moved out of its arena.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        if self.is_empty() {
            return &[];
        }
        // SAFETY: the first `len` elements of the buffer are initialised; they are borrowed with
        // the vector, which lies in their arena, so the mapping outlives the borrow.
        unsafe { slice::from_raw_parts(self.first_element().as_ptr(), self.len()) }
    }

    /// Where the elements begin, for reading. Only if there are any.
    #[inline(always)]
    fn first_element(&self) -> NonNull<T> {
        if Self::ZERO_SIZED {
            NonNull::dangling()
        } else {
            raw::buffer(&self.header.buffer).cast()
        }
    }

    /// The elements, for those who must not panic: `None` if the vector was moved out of its arena.
    pub(super) fn slice_anywhere(&self) -> Option<&[T]> {
        let there = self.is_empty()
            || Self::ZERO_SIZED
            || raw::buffer_anywhere(&self.header.buffer).is_some();
        there.then(|| self.as_slice())
    }
}

impl<T> Drop for Vec<T> {
    /// Drops the elements and frees the buffer; a death before commit brings both back. Never
    /// panics; a vector whose arena is not mapped any more frees nothing.
    #[inline]
    fn drop(&mut self) {
        take_apart::drop_buffer::<T, Self, VecHeader>(&self.header, self.len());
    }
}
