//! Changing text.

use super::String;
use crate::{
    collections::{
        Vec, raw,
        vec::{checked_range, refuse},
    },
    error::Result,
    layout::{SHORT_TEXT, TextHeader},
    section::Writer,
};
use std::{
    ops::{Range, RangeBounds},
    ptr,
};

impl String {
    /// Begins to change the string's header.
    #[inline(always)]
    fn open(&mut self) -> Result<Writer> {
        let header = &raw mut self.header;
        // SAFETY: the whole header of this string, which is borrowed mutably.
        unsafe { raw::open::<{ size_of::<TextHeader>() }>(header.cast()) }
    }

    #[track_caller]
    pub(super) fn open_or_panic(&mut self) -> Writer {
        self.open().unwrap_or_else(|error| refuse(error))
    }

    /// Gives an opened string without a buffer a text of that length.
    #[inline(always)]
    fn set_short(&mut self, len: usize, text: [u8; SHORT_TEXT]) {
        self.header.buffer.offset = len as u64;
        self.header.text = text;
    }

    /// Moves a short text to a buffer, which `make_room` makes for so many bytes.
    fn spill(
        &mut self,
        capacity: usize,
        make_room: fn(&mut Vec<u8>, usize) -> Result,
    ) -> Result<&mut Vec<u8>> {
        self.open()?;
        let (len, text) = (self.len(), self.header.text);
        self.set_short(0, [0; SHORT_TEXT]);
        // SAFETY: without offset, length and capacity the header is that of a vector which is empty.
        let bytes: &mut Vec<u8> = unsafe { &mut *ptr::from_mut(self).cast() };
        let moved = make_room(bytes, capacity).and_then(|()| bytes.extend_from_slice(&text[..len]));
        if let Err(error) = moved {
            self.set_short(len, text);
            return Err(error);
        }
        Ok(bytes)
    }

    /// Replaces bytes by others.
    fn splice(&mut self, range: Range<usize>, with: &[u8]) -> Result {
        let len = self.len();
        if let Some(bytes) = self.long_mut() {
            return bytes.splice(range, with);
        }
        let after = len - range.len() + with.len();
        if after > SHORT_TEXT {
            return self.spill(after, Vec::reserve)?.splice(range, with);
        }
        self.open()?;
        let mut text = self.header.text;
        text.copy_within(range.end..len, range.start + with.len());
        text[range.start..][..with.len()].copy_from_slice(with);
        self.set_short(after, text);
        Ok(())
    }

    /// Appends text.
    ///
    /// # Errors
    ///
    /// When the arena is full, or the string cannot be changed where it lies. Nothing is changed
    /// then.
    #[inline]
    pub fn push_str(&mut self, text: &str) -> Result {
        match self.long_mut() {
            Some(bytes) => bytes.extend_from_slice(text.as_bytes()),
            None => self.splice(self.len()..self.len(), text.as_bytes()),
        }
    }

    /// Appends a character.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    #[inline]
    pub fn push(&mut self, c: char) -> Result {
        self.push_str(c.encode_utf8(&mut [0; 4]))
    }

    /// Replaces the whole text. Needs no memory where the new one fits.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    pub fn assign(&mut self, text: &str) -> Result {
        self.splice(0..self.len(), text.as_bytes())
    }

    /// Inserts a character before the byte at `index`.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    ///
    /// # Panics
    ///
    /// If `index` is beyond the end or inside a character.
    #[track_caller]
    pub fn insert(&mut self, index: usize, c: char) -> Result {
        self.insert_str(index, c.encode_utf8(&mut [0; 4]))
    }

    /// Inserts text before the byte at `index`.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    ///
    /// # Panics
    ///
    /// If `index` is beyond the end or inside a character.
    #[track_caller]
    pub fn insert_str(&mut self, index: usize, text: &str) -> Result {
        self.replace_range(index..index, text)
    }

    /// Replaces a range of bytes.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    ///
    /// # Panics
    ///
    /// If the range is out of bounds, or begins or ends inside a character.
    #[track_caller]
    pub fn replace_range(&mut self, range: impl RangeBounds<usize>, with: &str) -> Result {
        let range = checked_range(range, self.len());
        let whole = self.is_char_boundary(range.start) && self.is_char_boundary(range.end);
        assert!(
            whole,
            "the range {range:?} begins or ends inside a character"
        );
        self.splice(range, with.as_bytes())
    }

    /// Takes the last character away.
    #[track_caller]
    pub fn pop(&mut self) -> Option<char> {
        let last = self.chars().next_back()?;
        self.cut(self.len() - last.len_utf8());
        Some(last)
    }

    /// Takes away the character that begins at byte `index`.
    ///
    /// # Panics
    ///
    /// If none begins there.
    #[track_caller]
    pub fn remove(&mut self, index: usize) -> char {
        let Some(c) = self[index..].chars().next() else {
            panic!("cannot remove a char from the end of a string");
        };
        if let Err(error) = self.splice(index..index + c.len_utf8(), b"") {
            refuse(error);
        }
        c
    }

    /// Keeps the characters for which `keep` says so.
    #[track_caller]
    pub fn retain(&mut self, mut keep: impl FnMut(char) -> bool) {
        let kept: std::string::String = self.chars().filter(|&c| keep(c)).collect();
        if kept.len() == self.len() {
            return;
        }
        // Shorter than before, so only recording can fail.
        if let Err(error) = self.assign(&kept) {
            refuse(error);
        }
    }

    /// Takes away everything from byte `len` on. Does nothing if there are no more than that.
    ///
    /// # Panics
    ///
    /// If `len` is inside a character.
    #[track_caller]
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            assert!(
                self.is_char_boundary(len),
                "byte {len} is inside a character"
            );
            self.cut(len);
        }
    }

    /// Leaves so many bytes, which are no more than there are, and end with a character.
    #[track_caller]
    fn cut(&mut self, len: usize) {
        if let Some(bytes) = self.long_mut() {
            bytes.truncate(len);
        } else if len != self.len() {
            self.open_or_panic();
            self.header.buffer.offset = len as u64;
        }
    }

    /// Takes all text away. As to the capacity, see [`Vec::clear`](super::Vec::clear).
    #[track_caller]
    pub fn clear(&mut self) {
        self.cut(0);
    }

    /// Makes room for at least `additional` more bytes.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    pub fn reserve(&mut self, additional: usize) -> Result {
        self.make_room(additional, Vec::reserve)
    }

    fn make_room(
        &mut self,
        additional: usize,
        make_room: fn(&mut Vec<u8>, usize) -> Result,
    ) -> Result {
        let len = self.len();
        if let Some(bytes) = self.long_mut() {
            return make_room(bytes, additional);
        }
        let capacity = len.saturating_add(additional);
        if capacity > SHORT_TEXT {
            self.spill(capacity, make_room)?;
        }
        Ok(())
    }

    /// The same, but not more than the allocator's rounding.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    pub fn reserve_exact(&mut self, additional: usize) -> Result {
        self.make_room(additional, Vec::reserve_exact)
    }

    /// Gives back what room is left over; of a short text the buffer.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    pub fn shrink_to_fit(&mut self) -> Result {
        let len = self.len();
        let Some(bytes) = self.long_mut() else {
            return Ok(());
        };
        if len > SHORT_TEXT {
            return bytes.shrink_to_fit();
        }
        let writer = self.open()?;
        let mut text = [0; SHORT_TEXT];
        text[..len].copy_from_slice(self.as_bytes());
        raw::free_buffer(writer, &mut self.header.buffer)?;
        self.set_short(len, text);
        Ok(())
    }

    /// Appends what the iterator yields, all of it or nothing.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    pub fn try_extend<S: AsRef<str>>(&mut self, texts: impl IntoIterator<Item = S>) -> Result {
        let before = self.len();
        let done = texts
            .into_iter()
            .try_for_each(|text| self.push_str(text.as_ref()));
        if done.is_err() {
            self.truncate(before);
        }
        done
    }

    /// Splits the text in two: what begins at byte `at` is returned, to be put elsewhere in the
    /// arena.
    ///
    /// # Errors
    ///
    /// As [`push_str`](String::push_str).
    ///
    /// # Panics
    ///
    /// If `at` is beyond the end or inside a character.
    #[track_caller]
    pub fn split_off(&mut self, at: usize) -> Result<String> {
        assert!(self.is_char_boundary(at), "byte {at} is inside a character");
        if at == self.len() {
            return Ok(String::new());
        }
        if let Some(rest) = String::short(&self.as_bytes()[at..]) {
            self.splice(at..self.len(), b"")?;
            return Ok(rest);
        }
        let bytes = self.long_mut().expect("more than a short text");
        Ok(String::of(bytes.split_off(at)?))
    }
}
