//! UTF-8 text that grows.

mod edit;
mod store;
mod traits;

use super::Vec;
use crate::{
    layout::{BufferHeader, SHORT_TEXT, TextHeader, VecHeader},
    share::{Builtin, Share, TypeInfo},
};
use std::{
    marker::PhantomData,
    mem::{self, ManuallyDrop},
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
    /// That of a short text, or a [`VecHeader`]: see [`String::is_short`]. The text is UTF-8: kept by every
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

    /// A string that lies nowhere yet, if the text is short.
    #[inline(always)]
    fn short(text: &[u8]) -> Option<Self> {
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
    fn of(bytes: Vec<u8>) -> Self {
        const { assert!(size_of::<Vec<u8>>() == size_of::<VecHeader>()) };
        // SAFETY: the header of a vector is that of a string: its offset is that of a block, or it is empty,
        // and the offset 0. It is moved, not copied.
        unsafe { mem::transmute_copy(&ManuallyDrop::new(bytes)) }
    }

    /// Whether the text lies in the header. Then the buffer's offset is its length.
    #[inline(always)]
    fn is_short(&self) -> bool {
        !self.header.buffer.has_buffer()
    }

    /// The vector that the string is, unless its text is short.
    #[inline(always)]
    fn long(&self) -> Option<&Vec<u8>> {
        // SAFETY: then the header is a vector's, which is all that a vector consists of.
        (!self.is_short()).then(|| unsafe { &*ptr::from_ref(self).cast() })
    }

    /// The same, to be changed. Whatever becomes of it is a string again, if the bytes are UTF-8: without a
    /// buffer the offset is 0.
    #[inline(always)]
    fn long_mut(&mut self) -> Option<&mut Vec<u8>> {
        // SAFETY: as above.
        (!self.is_short()).then(|| unsafe { &mut *ptr::from_mut(self).cast() })
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
        let bytes: &mut [u8] = if self.is_empty() {
            &mut []
        } else if self.is_short() {
            self.open_or_panic();
            let len = self.len();
            &mut self.header.text[..len]
        } else {
            // SAFETY: as in `long_mut`.
            unsafe { &mut *ptr::from_mut(self).cast::<Vec<u8>>() }
        };
        // SAFETY: the bytes are UTF-8, and `str` keeps them so.
        unsafe { str::from_utf8_unchecked_mut(bytes) }
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
