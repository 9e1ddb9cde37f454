//! Room for elements: opening, recording, growing and shrinking.

use super::Vec;
use crate::{
    collections::raw,
    error::{Error, Rare, Result, unbox},
    layout::{VecHeader, marks},
    section::{Allocated, Writer},
    share::Share,
};
use std::{alloc::Layout, ops::Range, ptr};

/// A first buffer is no smaller, so that short vectors do not grow step by step.
const FIRST: usize = 64;
/// From this size on growing in place is tried: then the buffer is a run of slabs.
const LARGE: usize = 512;
/// The most that a buffer grows by in place.
const STEP: usize = 64 << 20;
/// Log entries that replacing a buffer takes.
const REPLACING: usize = 3;

/// Where a method without a `Result` cannot do its work.
#[cold]
#[inline(never)]
#[track_caller]
pub(in crate::collections) fn refuse(error: Error) -> ! {
    match error {
        Error::NotInArena => {
            panic!(
                "this container does not lie in an arena: one that was made elsewhere stays empty, and one \
                 that was moved out of its arena is put back before it is changed"
            )
        }
        error => panic!("the container was not changed: {error}"),
    }
}

impl<T: Share> Vec<T> {
    /// Begins to change the vector.
    #[inline(always)]
    pub(super) fn open(&mut self) -> Result<Writer> {
        let header = &raw mut self.header;
        // SAFETY: the whole header of this vector, which is borrowed mutably.
        unsafe { raw::open::<{ size_of::<VecHeader>() }>(header.cast()) }
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn open_or_panic(&mut self) -> Writer {
        match self.open() {
            Ok(writer) => writer,
            Err(error) => refuse(error),
        }
    }

    /// Where the elements begin, once the vector is open: then it lies in its arena.
    #[inline(always)]
    pub(super) fn start(&self, writer: Writer) -> *mut T {
        if Self::ZERO_SIZED {
            return ptr::dangling_mut();
        }
        let offset = self.header.buffer.offset as usize;
        writer.base().wrapping_add(offset).cast()
    }

    /// Records elements before they are handed out, moved or taken away.
    #[inline(always)]
    pub(super) fn record(&mut self, writer: Writer, elements: Range<usize>) -> Result {
        let (from, len) = (elements.start, elements.len());
        if Self::ZERO_SIZED || len == 0 {
            return Ok(());
        }
        let (size, whole) = (size_of::<T>(), self.len() * size_of::<T>());
        writer.forget_locks_in(self.start(writer).wrapping_add(from), len * size);
        raw::record_in_buffer(
            writer,
            &mut self.header.buffer,
            from * size,
            len * size,
            whole,
        )
    }

    /// Records elements before they are lent.
    #[inline(always)]
    pub(super) fn record_lent(&mut self, writer: Writer, elements: Range<usize>) -> Result {
        if T::UNLOGGED {
            let place = self.start(writer).wrapping_add(elements.start);
            return raw::record_lent(writer, &mut self.header.buffer, place, elements.len());
        }
        self.record(writer, elements)
    }

    #[inline(always)]
    #[track_caller]
    pub(super) fn record_or_panic(&mut self, writer: Writer, elements: Range<usize>) {
        if let Err(error) = self.record(writer, elements) {
            refuse(error);
        }
    }

    /// Records elements while others are handed out: never the whole buffer, which these are in.
    pub(super) fn record_piece(&mut self, writer: Writer, elements: Range<usize>) -> Result {
        let (place, len) = (
            self.start(writer).wrapping_add(elements.start),
            elements.len() * size_of::<T>(),
        );
        if self.is_recorded() {
            writer.forget_locks_in(place, len);
            return Ok(());
        }
        writer.record_lent(place, elements.len())?;
        raw::count_recorded(&mut self.header.buffer, len);
        Ok(())
    }

    /// Records all elements.
    pub(super) fn record_all(&mut self, writer: Writer) -> Result {
        let whole = self.len() * size_of::<T>();
        writer.forget_locks_in(self.start(writer), whole);
        raw::record_whole(writer, &mut self.header.buffer, whole)
    }

    /// Whether the elements in the buffer need no record any more.
    pub(super) fn is_recorded(&self) -> bool {
        self.header.buffer.marks & (marks::FRESH | marks::WHOLE) != 0
    }

    /// Says how many elements there are. The vector is open.
    #[inline(always)]
    pub(super) fn set_len(&mut self, len: usize) {
        self.header.len = len as u64;
    }

    /// Makes room for `additional` elements, if there is none.
    #[inline(always)]
    pub(super) fn make_room(&mut self, writer: Writer, additional: usize) -> Result {
        if self.capacity() - self.len() < additional {
            return unbox(self.grow(writer, additional));
        }
        Ok(())
    }

    /// Makes room for `additional` elements and some more, so that growing is paid for by pushing.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, writer: Writer, additional: usize) -> Rare {
        let (size, before) = (size_of::<T>(), self.buffer_size());
        let needed = self.bytes_for(additional)?;
        if before >= LARGE {
            let wanted = before + (before / 8).min(STEP);
            if self.extend_in_place(writer, needed.max(wanted)) {
                return Ok(());
            }
        }
        let wanted = if before < 8192 {
            before * 2
        } else {
            before + before / 2
        };
        let wanted = wanted.max(needed).max(FIRST.min(size * 8));
        match self.replace(writer, wanted) {
            Err(Error::Full { .. } | Error::NoSpace { .. }) if wanted > needed => {
                Ok(self.replace(writer, needed)?)
            }
            done => Ok(done?),
        }
    }

    /// The bytes of a buffer for so many more elements.
    fn bytes_for(&self, additional: usize) -> Result<usize> {
        let size = size_of::<T>();
        let bytes = self.len().checked_add(additional);
        let bytes = bytes.and_then(|count| count.checked_mul(size));
        bytes
            .filter(|&bytes| bytes <= isize::MAX as usize - 8192 && size != 0)
            .ok_or(Error::Layout {
                size: bytes.unwrap_or(usize::MAX),
                align: align_of::<T>(),
            })
    }

    fn buffer_size(&self) -> usize {
        self.header.capacity as usize * size_of::<T>()
    }

    fn extend_in_place(&mut self, writer: Writer, bytes: usize) -> bool {
        let Some(bytes) = writer.extend(self.header.buffer.offset, bytes) else {
            return false;
        };
        self.header.capacity = (bytes / size_of::<T>()) as u64;
        true
    }

    /// Moves the elements to a new buffer of at least `bytes`, and frees the old one.
    fn replace(&mut self, writer: Writer, bytes: usize) -> Result {
        let new = self.allocate(writer, bytes)?;
        self.move_to(writer, new)
    }

    /// A new buffer, with room in the log for what is needed to put it in place of the old one.
    pub(super) fn allocate(&self, writer: Writer, bytes: usize) -> Result<Allocated> {
        let align = align_of::<T>();
        let layout = Layout::from_size_align(bytes, align)
            .map_err(|_| Error::Layout { size: bytes, align })?;
        writer.reserve(REPLACING)?;
        writer.alloc(layout)
    }

    fn move_to(&mut self, writer: Writer, new: Allocated) -> Result {
        let bytes = self.len() * size_of::<T>();
        let old = self.start(writer).cast::<u8>();
        writer.forget_locks_in(old, bytes);
        let place = writer.base().wrapping_add(new.offset as usize);
        // SAFETY: `bytes` bytes of elements; the new buffer is at least as long, nobody else's,
        // and fresh.
        unsafe { ptr::copy_nonoverlapping(old, place, bytes) };
        raw::free_buffer(writer, &mut self.header.buffer)?;
        raw::set_fresh_buffer(&mut self.header.buffer, new.offset);
        self.header.capacity = (new.size / size_of::<T>()) as u64;
        Ok(())
    }

    /// Gives up the buffer of an open vector, which has no elements any more.
    pub(super) fn give_up_buffer(&mut self, writer: Writer) -> Result {
        raw::free_buffer(writer, &mut self.header.buffer)?;
        self.header.capacity = 0;
        Ok(())
    }

    /// Makes room for at least `additional` more elements, and perhaps some more.
    ///
    /// # Errors
    ///
    /// When the arena is full or the size overflows; [`Error::NotInArena`] where the vector lies
    /// elsewhere. Nothing is changed then.
    pub fn reserve(&mut self, additional: usize) -> Result {
        if self.capacity() - self.len() >= additional {
            return Ok(());
        }
        let writer = self.open()?;
        unbox(self.grow(writer, additional))
    }

    /// Makes room for at least `additional` more elements; not more than the allocator's rounding.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Vec::reserve).
    pub fn reserve_exact(&mut self, additional: usize) -> Result {
        if self.capacity() - self.len() >= additional {
            return Ok(());
        }
        let writer = self.open()?;
        let needed = self.bytes_for(additional)?;
        if self.buffer_size() >= LARGE && self.extend_in_place(writer, needed) {
            return Ok(());
        }
        self.replace(writer, needed)
    }

    /// Gives back what room is left over, as far as the allocator's rounding lets it.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Vec::reserve): a smaller buffer is another one.
    pub fn shrink_to_fit(&mut self) -> Result {
        self.shrink_to(0)
    }

    /// The same, but keeps room for `capacity` elements.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Vec::reserve).
    pub fn shrink_to(&mut self, capacity: usize) -> Result {
        let keep = capacity.max(self.len());
        if Self::ZERO_SIZED || keep >= self.capacity() {
            return Ok(());
        }
        let writer = self.open()?;
        if keep == 0 {
            return self.give_up_buffer(writer);
        }
        let new = self.allocate(writer, keep * size_of::<T>())?;
        if new.size / size_of::<T>() >= self.capacity() {
            return writer.free(new.offset, true);
        }
        self.move_to(writer, new)
    }
}
