//! Adding elements, and taking many away at once.

use super::Vec;
use crate::{
    collections::take_apart,
    error::{Error, Rare, Result, unbox},
    layout::VecHeader,
    section::Writer,
    share::{Share, Store},
};
use std::{
    mem,
    ops::{Bound, Range, RangeBounds},
    ptr,
};

/// What is at most recorded only to be taken away; beyond this the buffer is given up.
const CHEAP: usize = 4096;

/// The range of elements that `range` means in a vector of `len`.
///
/// # Panics
///
/// If it is out of bounds.
#[track_caller]
pub(in crate::collections) fn checked_range(
    range: impl RangeBounds<usize>,
    len: usize,
) -> Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&start) => Some(start),
        Bound::Excluded(&before) => before.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.checked_add(1),
        Bound::Excluded(&end) => Some(end),
        Bound::Unbounded => Some(len),
    };
    match (start, end) {
        (Some(start), Some(end)) if start <= end && end <= len => start..end,
        (Some(start), Some(end)) if start <= end => {
            panic!("range end index {end} out of range for a length of {len}")
        }
        (start, end) => panic!(
            "range starts at {} but ends at {}",
            start.unwrap_or(usize::MAX),
            end.unwrap_or(usize::MAX)
        ),
    }
}

impl<T: Share> Vec<T> {
    /// Appends a value.
    ///
    /// Amortised *O*(1). [`push_from`](Vec::push_from) takes what a `T` can be made from.
    ///
    /// # Errors
    ///
    /// When the arena is full, or the vector cannot be changed where it lies; the value is dropped
    /// then, and nothing is changed.
    #[inline]
    pub fn push(&mut self, value: T) -> Result {
        if let Some(writer) = Writer::that_recorded(&self.header.buffer)
            && self.len() < self.capacity()
        {
            // SAFETY: the section recorded the header, and there is room.
            unsafe { self.push_unchecked(writer, value) };
            return Ok(());
        }
        unbox(self.push_slow(value))
    }

    #[inline(never)]
    fn push_slow(&mut self, value: T) -> Rare {
        let writer = self.open_with_room(1)?;
        // SAFETY: there is room behind the last element.
        unsafe { self.push_unchecked(writer, value) };
        Ok(())
    }

    /// # Safety
    ///
    /// The vector is open, and has room for another element.
    #[inline(always)]
    unsafe fn push_unchecked(&mut self, writer: Writer, value: T) {
        let len = self.len();
        // SAFETY: by contract; what lies in that place needs no record (3).
        unsafe { self.start(writer).add(len).write(value) };
        self.set_len(len + 1);
    }

    /// Appends what a `T` can be made from: made in place, or moved from where it lies.
    ///
    /// # Errors
    ///
    /// As [`push`](Vec::push). What a guard would have moved stays where it was.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, collections::{String, Vec}, sync::Mutex};
    /// # let arena = Arena::in_memory()?;
    /// let names = arena.root::<Mutex<[Vec<String>; 2]>>("names")?;
    /// let mut names = names.lock()?;
    /// let [a, b] = &mut *names;
    /// a.push_from("Ada")?;
    /// b.push_from(a.pop().unwrap())?;
    /// assert!(a.is_empty());
    /// assert_eq!(b[0], "Ada");
    /// # Ok::<(), sharena::Error>(())
    /// ```
    #[inline]
    pub fn push_from(&mut self, value: impl Store<T>) -> Result {
        match self.open_with_room(1) {
            Ok(writer) => self.store_behind(writer, value),
            Err(error) => {
                value.decline();
                Err(error)
            }
        }
    }

    #[inline(always)]
    fn open_with_room(&mut self, additional: usize) -> Result<Writer> {
        let writer = self.open()?;
        self.make_room(writer, additional)?;
        Ok(writer)
    }

    /// Makes the element behind the last, for which there is room.
    #[inline(always)]
    fn store_behind(&mut self, writer: Writer, value: impl Store<T>) -> Result {
        let len = self.len();
        let slot = self.start(writer).wrapping_add(len);
        // SAFETY: there is room behind the last element; what lies there needs no record (3). The
        // vector is whole while `store` runs, whatever that does.
        unsafe { value.store(slot) }?;
        self.set_len(len + 1);
        Ok(())
    }

    /// Inserts an element before the one at `index`, or behind the last.
    ///
    /// # Errors
    ///
    /// As [`push_from`](Vec::push_from).
    ///
    /// # Panics
    ///
    /// If `index > len`.
    #[track_caller]
    pub fn insert(&mut self, index: usize, value: impl Store<T>) -> Result {
        let len = self.len();
        assert!(
            index <= len,
            "insertion index (is {index}) should be <= len (is {len})"
        );
        let ready = self.open_with_room(1).and_then(|writer| {
            self.record(writer, index..len)?;
            Ok(writer)
        });
        let writer = match ready {
            Ok(writer) => writer,
            Err(error) => {
                value.decline();
                return Err(error);
            }
        };
        self.store_behind(writer, value)?;
        // SAFETY: `index` to `len`, which is an element now, are recorded or need no record.
        let moved = unsafe { self.slice_mut(writer, index..len + 1) };
        moved.rotate_right(1);
        Ok(())
    }

    /// Elements of an open vector, without recording them.
    ///
    /// # Safety
    ///
    /// They are recorded, and `range` is inside the vector.
    #[inline(always)]
    pub(super) unsafe fn slice_mut(&mut self, writer: Writer, range: Range<usize>) -> &mut [T] {
        let start = self.start(writer).wrapping_add(range.start);
        // SAFETY: initialised elements, borrowed with the vector.
        unsafe { std::slice::from_raw_parts_mut(start, range.len()) }
    }

    /// Appends what the iterator yields, all of it or nothing.
    ///
    /// # Errors
    ///
    /// As [`push_from`](Vec::push_from); what was appended already is dropped then.
    pub fn try_extend<S: Store<T>>(&mut self, values: impl IntoIterator<Item = S>) -> Result {
        let before = self.len();
        let mut values = values.into_iter();
        self.room_for_hint(values.size_hint().0);
        let done = values.try_for_each(|value| self.push_from(value));
        if done.is_err() && self.len() > before {
            self.truncate(before);
        }
        done
    }

    /// Makes room as a hint says, which may be wrong: pushing fails where there is none.
    fn room_for_hint(&mut self, additional: usize) {
        if additional > 1 {
            let _ = self.reserve(additional);
        }
    }

    /// Appends copies of values.
    ///
    /// # Errors
    ///
    /// As [`push`](Vec::push).
    #[inline]
    pub fn extend_from_slice(&mut self, values: &[T]) -> Result
    where
        T: Copy,
    {
        let writer = self.open()?;
        self.make_room(writer, values.len())?;
        let len = self.len();
        // SAFETY: there is room behind the last element, which needs no record (3); `values` is
        // borrowed, so it does not lie there.
        unsafe {
            let slot = self.start(writer).add(len);
            ptr::copy_nonoverlapping(values.as_ptr(), slot, values.len());
        }
        self.set_len(len + values.len());
        Ok(())
    }

    /// Appends copies of some of the vector's own elements.
    ///
    /// # Errors
    ///
    /// As [`push`](Vec::push).
    ///
    /// # Panics
    ///
    /// If the range is out of bounds.
    #[track_caller]
    pub fn extend_from_within(&mut self, range: impl RangeBounds<usize>) -> Result
    where
        T: Copy,
    {
        let len = self.len();
        let range = checked_range(range, len);
        let writer = self.open_with_room(range.len())?;
        let start = self.start(writer);
        // SAFETY: elements, and as much room behind the last, which needs no record (3).
        unsafe {
            ptr::copy_nonoverlapping(start.add(range.start), start.add(len), range.len());
        }
        self.set_len(len + range.len());
        Ok(())
    }

    /// Moves all elements of another vector of the arena behind those of this one.
    ///
    /// # Errors
    ///
    /// As [`push`](Vec::push), for both vectors; [`Error::OtherArena`] if they lie in different
    /// arenas.
    pub fn append(&mut self, other: &mut Vec<T>) -> Result {
        if other.is_empty() {
            return Ok(());
        }
        let writer = self.open_with_room(other.len())?;
        let theirs = other.open()?;
        if theirs.arena() != writer.arena() {
            return Err(Error::OtherArena);
        }
        let (len, count) = (self.len(), other.len());
        other.prepare_to_empty(theirs)?;
        // SAFETY: `count` elements of another vector, and as much room behind the last of this
        // one, which needs no record (3).
        unsafe {
            let slot = self.start(writer).add(len);
            ptr::copy_nonoverlapping(other.start(theirs), slot, count);
        }
        other.empty(theirs);
        self.set_len(len + count);
        Ok(())
    }

    /// Does what can fail before all elements are taken away: records them, unless they are so
    /// many that the buffer will be given up.
    fn prepare_to_empty(&mut self, writer: Writer) -> Result {
        writer.forget_locks_in(self.start(writer), self.len() * size_of::<T>());
        if self.gives_up() {
            writer.reserve(1)
        } else {
            self.record(writer, 0..self.len())
        }
    }

    fn gives_up(&self) -> bool {
        !self.is_recorded() && self.len() * size_of::<T>() > CHEAP
    }

    /// Says that the elements are gone, after [`prepare_to_empty`](Vec::prepare_to_empty).
    fn empty(&mut self, writer: Writer) {
        if self.gives_up() {
            let freed = self.give_up_buffer(writer);
            debug_assert!(freed.is_ok(), "there was room in the log");
        }
        self.set_len(0);
    }

    /// Drops all elements.
    ///
    /// The capacity stays, except where it is cheaper to give the buffer up than to keep what lay
    /// in it for the case of a death: where there were more than a few kilobytes of elements that
    /// the section did not change before.
    #[track_caller]
    pub fn clear(&mut self) {
        if self.is_empty() {
            return;
        }
        let writer = self.open_or_panic();
        if mem::needs_drop::<T>() && writer.would_spill(self.len()) && !self.is_recorded() {
            return self.drop_as_a_whole();
        }
        if let Err(error) = self.prepare_to_empty(writer) {
            super::buffer::refuse(error);
        }
        let elements = ptr::slice_from_raw_parts_mut(self.start(writer), self.len());
        // A buffer that is given up stays as it is until commit.
        self.empty(writer);
        // SAFETY: not elements of the vector any more, and nobody else's.
        unsafe { elements.drop_in_place() };
    }

    /// Gives up the buffer of an opened vector with all that is in it: one entry in the log.
    fn drop_as_a_whole(&mut self) {
        let old = mem::take(&mut self.header);
        self.header.buffer.stamp = old.buffer.stamp;
        self.header.buffer.arena = old.buffer.arena;
        take_apart::drop_buffer::<T, Self, VecHeader>(&old, old.len as usize);
    }

    /// Drops all elements from `len` on. Does nothing if there are no more than that.
    #[track_caller]
    pub fn truncate(&mut self, len: usize) {
        if len == 0 {
            return self.clear();
        }
        let before = self.len();
        if len >= before {
            return;
        }
        let writer = self.open_or_panic();
        self.record_or_panic(writer, len..before);
        // SAFETY: recorded just now.
        let gone: *mut [T] = unsafe { self.slice_mut(writer, len..before) };
        self.set_len(len);
        // SAFETY: not elements of the vector any more.
        unsafe { gone.drop_in_place() };
    }

    /// Makes the vector `len` long: drops elements, or appends clones of `value`.
    ///
    /// # Errors
    ///
    /// As [`push`](Vec::push).
    #[track_caller]
    pub fn resize(&mut self, len: usize, value: T) -> Result
    where
        T: Clone,
    {
        self.resize_with(len, || value.clone())
    }

    /// Makes the vector `len` long: drops elements, or appends what `make` returns.
    ///
    /// # Errors
    ///
    /// As [`push`](Vec::push); before `make` is called.
    #[track_caller]
    pub fn resize_with(&mut self, len: usize, mut make: impl FnMut() -> T) -> Result {
        if len <= self.len() {
            self.truncate(len);
            return Ok(());
        }
        self.reserve(len - self.len())?;
        while self.len() < len {
            self.push(make())?;
        }
        Ok(())
    }

    /// Splits the vector in two: the elements from `at` on are returned, to be put elsewhere in
    /// the arena.
    ///
    /// # Errors
    ///
    /// As [`push`](Vec::push).
    ///
    /// # Panics
    ///
    /// If `at > len`.
    #[track_caller]
    pub fn split_off(&mut self, at: usize) -> Result<Vec<T>> {
        let len = self.len();
        assert!(
            at <= len,
            "`at` split index (is {at}) should be <= len (is {len})"
        );
        let mut rest = Vec::new();
        if at == len {
            return Ok(rest);
        }
        let writer = self.open()?;
        self.record(writer, at..len)?;
        if !Self::ZERO_SIZED {
            rest.adopt(writer, self.allocate(writer, (len - at) * size_of::<T>())?);
        }
        // SAFETY: recorded elements, and a new buffer that is long enough.
        unsafe {
            let from = self.start(writer).add(at);
            ptr::copy_nonoverlapping(from, rest.start(writer), len - at);
        }
        rest.set_len(len - at);
        self.set_len(at);
        Ok(rest)
    }

    /// Copies `with` in the place of some elements.
    pub(in crate::collections) fn splice(&mut self, range: Range<usize>, with: &[T]) -> Result
    where
        T: Copy,
    {
        let len = self.len();
        let writer = self.open_with_room(with.len().saturating_sub(range.len()))?;
        let first_moved = if with.len() == range.len() {
            range.end
        } else {
            len
        };
        self.record(writer, range.start..first_moved)?;
        let start = self.start(writer);
        // SAFETY: the elements from the range's begin on are recorded, as far as they change, and
        // there is room for what they become.
        unsafe {
            let gap_end = start.add(range.start + with.len());
            ptr::copy(start.add(range.end), gap_end, len - range.end);
            ptr::copy_nonoverlapping(with.as_ptr(), start.add(range.start), with.len());
        }
        self.set_len(len - range.len() + with.len());
        Ok(())
    }
}

impl<T: Share, S: Store<T>> Extend<S> for Vec<T> {
    /// Appends what the iterator yields.
    ///
    /// # Panics
    ///
    /// When the arena is full: [`try_extend`](Vec::try_extend) says so instead.
    #[track_caller]
    fn extend<I: IntoIterator<Item = S>>(&mut self, values: I) {
        if let Err(error) = self.try_extend(values) {
            super::buffer::refuse(error);
        }
    }
}
