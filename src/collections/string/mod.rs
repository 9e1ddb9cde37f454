//! UTF-8 text that grows.

mod edit;
mod form;
mod store;
mod traits;

use super::Vec;
use crate::{
    layout::{BufferHeader, SHORT_TEXT, TextHeader},
    share::{Builtin, Share, TypeInfo},
};
use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr,
};

/// A UTF-8 string in an arena, used like [`std::string::String`].
///
/// What may allocate returns [`Result`](crate::Result). See [`Vec`] for where a string can be used.
/// Places that hold a `String` take `&str` as well: it is copied to where it is to lie.
///
/// A text of up to 16 bytes lies in the string itself, which is 40 bytes long, and needs no other memory. A
/// longer one lies in a buffer, and goes on doing so when it becomes shorter, unless
/// [`shrink_to_fit`](String::shrink_to_fit) is called.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, collections::String, sync::Mutex};
///
/// let arena = Arena::in_memory()?;
/// let motto = arena.root::<Mutex<String>>("motto")?;
///
/// let mut motto = motto.lock()?;
/// motto.push_str("all or nothing")?;
/// assert_eq!(*motto, "all or nothing");
/// assert!(motto.starts_with("all"));
/// # Ok::<(), sharena::Error>(())
/// ```
#[repr(C)]
pub struct String {
    /// That of a short text, or that of a vector: see `form`. The text is UTF-8: kept by every
    /// method here, in every program that writes to the arena.
    header: TextHeader,
    bytes: PhantomData<Vec<u8>>,
}

// SAFETY: `repr(C)`: numbers and bytes, or a `Vec<u8>`, and `Share` as that; no `Cell`. Its `Drop` is known
// to the schema as that of a builtin.
unsafe impl Share for String {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::String, &[]);
}

impl String {
    /// An empty string, which owns nothing. It can be made anywhere, also in constants.
    pub const fn new() -> Self {
        String {
            header: TextHeader {
                buffer: BufferHeader::new(),
                text: [0; SHORT_TEXT],
            },
            bytes: PhantomData,
        }
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        match self.long() {
            Some(bytes) => bytes.len(),
            None => self.header.buffer.offset as usize,
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes fit without another allocation.
    #[inline]
    pub fn capacity(&self) -> usize {
        match self.long() {
            Some(bytes) => bytes.capacity(),
            None => SHORT_TEXT,
        }
    }

    /// The text.
    ///
    /// # Panics
    ///
    /// If it lies in a buffer, and the string was moved out of its arena.
    #[inline]
    pub fn as_str(&self) -> &str {
        // SAFETY: the bytes are UTF-8, see the field.
        unsafe { str::from_utf8_unchecked(self.as_bytes()) }
    }

    /// The bytes.
    ///
    /// # Panics
    ///
    /// As [`as_str`](String::as_str).
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self.long() {
            Some(bytes) => bytes,
            None => &self.header.text[..self.header.buffer.offset as usize],
        }
    }

    /// The text, to be changed within its bytes. Records it, once per section.
    ///
    /// # Panics
    ///
    /// As [`Vec::as_mut_slice`].
    #[track_caller]
    pub fn as_mut_str(&mut self) -> &mut str {
        // SAFETY: the bytes are UTF-8, and `str` keeps them so.
        unsafe { str::from_utf8_unchecked_mut(self.bytes_mut()) }
    }
}

impl Deref for String {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl DerefMut for String {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut str {
        self.as_mut_str()
    }
}

impl Drop for String {
    /// Frees the buffer, if there is one, as [`Vec`] does.
    #[inline]
    fn drop(&mut self) {
        if let Some(bytes) = self.long_mut() {
            // SAFETY: the string is not used any more.
            unsafe { ptr::drop_in_place(bytes) };
        }
    }
}
