//! Changing text.

use super::String;
use crate::{
    collections::{
        Vec,
        vec::{checked_range, refuse},
    },
    error::Result,
    layout::SHORT_TEXT,
};
use std::ops::RangeBounds;

impl String {
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
        match self.long_mut() {
            Some(bytes) if bytes.len() > SHORT_TEXT => bytes.shrink_to_fit(),
            Some(_) => self.give_up_buffer(),
            None => Ok(()),
        }
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
