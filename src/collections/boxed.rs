//! A value in a block of its own, or none.

use super::{
    raw, take_apart,
    vec::{check_move, refuse},
};
use crate::{
    error::{Error, Result},
    layout::BufferHeader,
    section::Writer,
    share::{Builtin, Share, Store, TypeInfo, node},
};
use std::{
    alloc::Layout,
    fmt,
    marker::PhantomData,
    mem::{self, ManuallyDrop},
    ops::Deref,
    ptr,
};

/// A value in a block of its own, or nothing: what an `Option<Box<T>>` is in `std`.
///
/// With it, types can contain themselves. It is made empty, anywhere, and filled where it lies in an
/// arena. What takes values as [`Store`] makes a full one of a `T` itself, or of
/// [`Boxed`]`(x)` for an `x` that a `T` can be made from.
///
/// `Sync`, but not `Send`. Dropping a list of any length needs little stack; `Debug` and other
/// derived code that follows it recurse as deep as it is.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, Share, collections::Box, sync::Mutex};
///
/// #[derive(Share, Default)]
/// #[repr(C)]
/// struct Node {
///     value: u64,
///     next: Box<Node>,
/// }
///
/// let arena = Arena::in_memory()?;
/// let list = arena.root::<Mutex<Box<Node>>>("list")?;
///
/// let mut list = list.lock()?;
/// let first = list.set(Node { value: 1, ..Node::default() })?;
/// first.next.set(Node { value: 2, ..Node::default() })?;
/// assert_eq!(list.get().unwrap().next.get().unwrap().value, 2);
/// # Ok::<(), sharena::Error>(())
/// ```
#[repr(C)]
pub struct Box<T> {
    header: BufferHeader,
    value: PhantomData<T>,
    /// Writing belongs to the thread whose section it is.
    not_send: PhantomData<*mut ()>,
}

// SAFETY: shared references to a box only give shared references to its value.
unsafe impl<T: Sync> Sync for Box<T> {}

// SAFETY: `repr(C)`: an offset and numbers; the block holds a `Share` value; no `Cell`. Its `Drop`
// is known to the schema as that of a builtin.
unsafe impl<T: Share> Share for Box<T> {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::Box, &[node::<T>]);
}

impl<T> Box<T> {
    /// An empty box, which owns nothing. It can be made anywhere, also in constants.
    pub const fn new() -> Self {
        Box {
            header: BufferHeader::new(),
            value: PhantomData,
            not_send: PhantomData,
        }
    }

    /// Whether there is no value.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.header.offset == 0
    }

    /// The value, if there is one.
    ///
    /// # Panics
    ///
    /// If there is one, and the box was moved out of its arena.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if self.is_empty() {
            return None;
        }
        let value = raw::buffer(&self.header).cast();
        // SAFETY: a full box has an initialised value, which is borrowed with the box; that lies
        // in the value's arena, so the mapping outlives the borrow.
        Some(unsafe { value.as_ref() })
    }
}

impl<T: Share> Box<T> {
    #[inline(always)]
    fn open(&mut self) -> Result<Writer> {
        // SAFETY: the whole of this box, which is borrowed mutably.
        unsafe { raw::open::<{ size_of::<BufferHeader>() }>(ptr::from_mut(self).cast()) }
    }

    /// Where the value of an opened box lies.
    fn place(&self, writer: Writer) -> *mut T {
        writer
            .base()
            .wrapping_add(self.header.offset as usize)
            .cast()
    }

    /// Begins to change the value of a full box, which is recorded.
    fn open_value(&mut self) -> Result<(Writer, *mut T)> {
        let writer = self.open()?;
        let value = self.place(writer);
        writer.forget_locks_in(value, size_of::<T>());
        if T::UNLOGGED {
            raw::record_lent(writer, &mut self.header, value, 1)?;
        } else {
            raw::record_whole(writer, &mut self.header, size_of::<T>())?;
        }
        Ok((writer, value))
    }

    /// The value, to be changed; it is recorded first, once per section.
    ///
    /// # Panics
    ///
    /// If the box does not lie in the arena that its value is in, or the arena is so full that the
    /// value cannot be recorded. Nothing is changed then.
    #[inline]
    #[track_caller]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        if self.is_empty() {
            return None;
        }
        match self.open_value() {
            // SAFETY: the value of a full box, recorded, and borrowed with the box.
            Ok((_, value)) => Some(unsafe { &mut *value }),
            Err(error) => refuse(error),
        }
    }

    /// Puts a value into the box, and drops the one that was there.
    ///
    /// # Errors
    ///
    /// When the arena is full, or the box cannot be changed where it lies. Nothing is changed then.
    pub fn set(&mut self, value: impl Store<T>) -> Result<&mut T> {
        let block = match self.open().and_then(Block::<T>::allocate) {
            Ok(block) => block,
            Err(error) => {
                value.decline();
                return Err(error);
            }
        };
        // SAFETY: a new block of the right size and alignment. If this fails or panics, the block
        // is freed, and the box was not touched.
        unsafe { value.store(block.place()) }?;
        let (writer, offset) = block.keep();
        let old = Box::<T> {
            header: BufferHeader { ..self.header },
            ..Box::new()
        };
        raw::set_fresh_buffer(&mut self.header, offset);
        drop(old);
        // SAFETY: filled just now, fresh, and borrowed with the box.
        Ok(unsafe { &mut *self.place(writer) })
    }

    /// Takes the value out, if there is one: to be read where it lies, stored elsewhere in the
    /// arena, or dropped with the guard.
    ///
    /// # Panics
    ///
    /// As [`get_mut`](Box::get_mut).
    #[track_caller]
    pub fn take(&mut self) -> Option<Taken<'_, T>> {
        if self.is_empty() {
            return None;
        }
        // The value stays as it is until commit, so it needs no record; freeing does need room.
        match self.open().and_then(|writer| writer.reserve(1)) {
            Ok(()) => Some(Taken { from: self }),
            Err(error) => refuse(error),
        }
    }

    /// Drops the value, if there is one.
    ///
    /// # Panics
    ///
    /// As [`get_mut`](Box::get_mut).
    #[track_caller]
    pub fn clear(&mut self) {
        drop(self.take());
    }
}

impl<T> Drop for Box<T> {
    /// Drops the value and frees its block; a death before commit brings both back. Never panics; a
    /// box whose arena is not mapped any more frees nothing.
    #[inline]
    fn drop(&mut self) {
        take_apart::drop_buffer::<T, Self, BufferHeader>(&self.header, 1);
    }
}

/// A new block, which is freed again unless it is kept.
struct Block<T> {
    writer: Writer,
    offset: u64,
    value: PhantomData<T>,
}

impl<T> Block<T> {
    /// Also makes room in the log for a free.
    fn allocate(writer: Writer) -> Result<Self> {
        let (size, align) = (size_of::<T>().max(1), align_of::<T>());
        let layout =
            Layout::from_size_align(size, align).map_err(|_| Error::Layout { size, align })?;
        writer.reserve(2)?;
        let offset = writer.alloc(layout)?.offset;
        Ok(Block {
            writer,
            offset,
            value: PhantomData,
        })
    }

    fn place(&self) -> *mut T {
        self.writer.base().wrapping_add(self.offset as usize).cast()
    }

    fn keep(self) -> (Writer, u64) {
        let block = ManuallyDrop::new(self);
        (block.writer, block.offset)
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        let _ = self.writer.free_dropped(self.offset, true);
    }
}

/// The value of a [`Box`] on its way out; made by [`Box::take`].
///
/// It can be read where it lies, stored elsewhere in the arena, or taken to the stack. Dropped, the
/// guard drops the value; forgotten, it leaves the value in the box.
#[must_use = "the value is dropped as soon as the guard is"]
pub struct Taken<'a, T: Share> {
    /// Full, and opened.
    from: &'a mut Box<T>,
}

impl<T: Share> Taken<'_, T> {
    /// Takes the value to the stack, as [`vec::Removed::take`](super::vec::Removed::take) does.
    pub fn take(self) -> T {
        let value: *const T = &*self;
        let mut guard = ManuallyDrop::new(self);
        guard.forget_locks_in();
        // SAFETY: the box is emptied without dropping the value.
        let value = unsafe { value.read() };
        guard.free();
        value
    }

    fn forget_locks_in(&self) {
        let value: &T = self;
        if let Ok(writer) = Writer::at(value) {
            writer.forget_locks_in(value, size_of::<T>());
        }
    }

    /// Empties the box: frees the block, whose value was moved.
    fn free(&mut self) {
        if let Ok(writer) = self.from.open() {
            let freed = raw::free_buffer(writer, &mut self.from.header);
            if freed.is_err() {
                // No room in the log, although there was: the block is left to `check`.
                self.from.header.offset = 0;
            }
        }
    }
}

impl<T: Share> Deref for Taken<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.from.get().expect("the box is full")
    }
}

impl<T: Share> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        // In a child of the process that made the guard, the section is not the child's.
        if self.from.open().is_ok() {
            drop(mem::take(self.from));
        }
    }
}

// SAFETY: the slot holds the value that was moved there. On an error it stays in the box.
unsafe impl<T: Share> Store<T> for Taken<'_, T> {
    unsafe fn store(self, slot: *mut T) -> Result {
        let mut guard = ManuallyDrop::new(self);
        let value: *const T = &**guard;
        check_move(value, slot)?;
        guard.forget_locks_in();
        // SAFETY: the caller vouches for the slot; the box is emptied without dropping the value.
        unsafe { ptr::copy_nonoverlapping(value, slot, 1) };
        guard.free();
        Ok(())
    }

    fn decline(self) {
        mem::forget(self);
    }
}

/// What a full [`Box`] is made of, where one is stored: `Boxed("text")` for a `Box<String>`.
///
/// # Examples
///
/// ```
/// # use sharena::{Arena, collections::{Box, Boxed, String, Vec}, sync::Mutex};
/// # let arena = Arena::in_memory()?;
/// # let texts = arena.root::<Mutex<Vec<Box<String>>>>("texts")?;
/// let mut texts = texts.lock()?;
/// texts.push_from(Boxed("text"))?;
/// assert_eq!(texts[0].get().unwrap(), "text");
/// # Ok::<(), sharena::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Boxed<S>(pub S);

// SAFETY: the slot holds a box with a block that holds the value. If that cannot be made, `set`
// frees the block.
unsafe impl<T: Share, S: Store<T>> Store<Box<T>> for Boxed<S> {
    unsafe fn store(self, slot: *mut Box<T>) -> Result {
        let writer = match Writer::at(slot) {
            Ok(writer) => writer,
            Err(error) => {
                self.decline();
                return Err(error);
            }
        };
        let mut empty = Box::new();
        empty.header.arena = writer.arena();
        empty.header.stamp = writer.stamp();
        // SAFETY: by contract. An empty box owns nothing, so nothing remains if this fails.
        unsafe {
            slot.write(empty);
            (*slot).set(self.0)?;
        }
        Ok(())
    }

    fn decline(self) {
        self.0.decline();
    }
}

// SAFETY: as `Boxed`.
unsafe impl<T: Share> Store<Box<T>> for T {
    unsafe fn store(self, slot: *mut Box<T>) -> Result {
        // SAFETY: by contract.
        unsafe { Boxed(self).store(slot) }
    }
}

impl<T> Default for Box<T> {
    fn default() -> Self {
        Box::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Box<T> {
    /// The value, or `Empty`; of a box that was moved out of its arena only that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_empty() && raw::buffer_anywhere(&self.header).is_none() {
            return f.write_str("Elsewhere");
        }
        match self.get() {
            Some(value) => value.fmt(f),
            None => f.write_str("Empty"),
        }
    }
}

impl<T: fmt::Debug + Share> fmt::Debug for Taken<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Box<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for Box<T> {}

impl<T: PartialOrd> PartialOrd for Box<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.get().partial_cmp(&other.get())
    }
}

impl<T: Ord> Ord for Box<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.get().cmp(&other.get())
    }
}

impl<T: std::hash::Hash> std::hash::Hash for Box<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}
