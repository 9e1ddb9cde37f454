//! Where a text lies: in the header of its string, while it is short, or in a buffer.
//!
//! Every header is one of the two, and tells which: see [`TextHeader`]. A text moves to a buffer when it
//! becomes too long (it *spills*), and back only on demand.

use super::String;
use crate::{
    collections::{Vec, raw, vec::refuse},
    error::Result,
    layout::{SHORT_TEXT, TextHeader, VecHeader},
    section::Writer,
};
use std::{
    mem::{self, ManuallyDrop},
    ops::Range,
    ptr,
};

impl String {
    /// A string that lies nowhere yet, if the text is short.
    #[inline(always)]
    pub(super) fn short(text: &[u8]) -> Option<Self> {
        let mut string = String::new();
        string
            .header
            .text
            .get_mut(..text.len())?
            .copy_from_slice(text);
        string.header.buffer.offset = text.len() as u64;
        Some(string)
    }

    /// The string that a vector of UTF-8 is.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        const { assert!(size_of::<Vec<u8>>() == size_of::<VecHeader>()) };
        // SAFETY: the header of a vector is that of a string: its offset is that of a block, or it is empty,
        // and the offset 0. It is moved, not copied.
        unsafe { mem::transmute_copy(&ManuallyDrop::new(bytes)) }
    }

    /// Whether the text lies in the header. Then the buffer's offset is its length.
    #[inline(always)]
    pub(super) fn is_short(&self) -> bool {
        !self.header.buffer.has_buffer()
    }

    /// The vector that the string is, unless its text is short.
    #[inline(always)]
    pub(super) fn long(&self) -> Option<&Vec<u8>> {
        // SAFETY: then the header is a vector's, which is all that a vector consists of.
        (!self.is_short()).then(|| unsafe { &*ptr::from_ref(self).cast() })
    }

    /// The same, to be changed. Whatever becomes of it is a string again, if the bytes are UTF-8: without a
    /// buffer the offset is 0.
    #[inline(always)]
    pub(super) fn long_mut(&mut self) -> Option<&mut Vec<u8>> {
        // SAFETY: as above.
        (!self.is_short()).then(|| unsafe { self.vec_mut() })
    }

    /// The vector that the string is.
    ///
    /// # Safety
    ///
    /// The text is not short, or the header is that of an empty vector: all zeroes but for stamp, arena, marks.
    #[inline(always)]
    unsafe fn vec_mut(&mut self) -> &mut Vec<u8> {
        // SAFETY: by contract the header is a vector's, which is all that a vector consists of.
        unsafe { &mut *ptr::from_mut(self).cast() }
    }

    /// The bytes, to be changed within their length: recorded.
    #[track_caller]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        if len == 0 {
            return &mut [];
        }
        if self.is_short() {
            self.open_or_panic();
            return &mut self.header.text[..len];
        }
        // SAFETY: not a short one.
        unsafe { self.vec_mut() }
    }

    /// Begins to change the string's header.
    #[inline(always)]
    fn open(&mut self) -> Result<Writer> {
        let header = &raw mut self.header;
        // SAFETY: the whole header of this string, which is borrowed mutably.
        unsafe { raw::open::<{ size_of::<TextHeader>() }>(header.cast()) }
    }

    #[track_caller]
    fn open_or_panic(&mut self) -> Writer {
        match self.open() {
            Ok(writer) => writer,
            Err(error) => refuse(error),
        }
    }

    /// Gives an opened string without a buffer a text of that length.
    #[inline(always)]
    fn set_short(&mut self, len: usize, text: [u8; SHORT_TEXT]) {
        self.header.buffer.offset = len as u64;
        self.header.text = text;
    }

    /// Moves a short text to a buffer, which `make_room` makes for so many bytes, more than are short.
    fn spill(&mut self, capacity: usize, make_room: fn(&mut Vec<u8>, usize) -> Result) -> Result {
        self.open()?;
        let (len, text) = (self.len(), self.header.text);
        self.set_short(0, [0; SHORT_TEXT]);
        // SAFETY: without offset, length and capacity it is empty.
        let bytes = unsafe { self.vec_mut() };
        make_room(bytes, capacity)
            .and_then(|()| bytes.extend_from_slice(&text[..len]))
            .inspect_err(|_| self.set_short(len, text))
    }

    /// Replaces bytes by others.
    pub(super) fn splice(&mut self, range: Range<usize>, with: &[u8]) -> Result {
        let len = self.len();
        if let Some(bytes) = self.long_mut() {
            return bytes.splice(range, with);
        }
        let after = len - range.len() + with.len();
        if after > SHORT_TEXT {
            self.spill(after, Vec::reserve)?;
            return self.splice(range, with);
        }
        self.open()?;
        let mut text = self.header.text;
        text.copy_within(range.end..len, range.start + with.len());
        text[range.start..][..with.len()].copy_from_slice(with);
        self.set_short(after, text);
        Ok(())
    }

    /// Moves a text that is short, and lies in a buffer, to the header.
    pub(super) fn give_up_buffer(&mut self) -> Result {
        let writer = self.open()?;
        let (len, mut text) = (self.len(), [0; SHORT_TEXT]);
        text[..len].copy_from_slice(self.as_bytes());
        raw::free_buffer(writer, &mut self.header.buffer)?;
        self.set_short(len, text);
        Ok(())
    }

    /// Makes room for so many more bytes by that method of the vector, where the text does not stay short.
    pub(super) fn make_room(
        &mut self,
        additional: usize,
        make_room: fn(&mut Vec<u8>, usize) -> Result,
    ) -> Result {
        let len = self.len();
        if let Some(bytes) = self.long_mut() {
            return make_room(bytes, additional);
        }
        let capacity = len.saturating_add(additional);
        if capacity <= SHORT_TEXT {
            return Ok(());
        }
        self.spill(capacity, make_room)
    }

    /// Leaves so many bytes, which are no more than there are, and end with a character.
    #[track_caller]
    pub(super) fn cut(&mut self, len: usize) {
        if let Some(bytes) = self.long_mut() {
            bytes.truncate(len);
        } else if len != self.len() {
            self.open_or_panic();
            self.header.buffer.offset = len as u64;
        }
    }
}
