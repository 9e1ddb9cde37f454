//! UTF-8 text that grows.

mod edit;
mod store;
mod traits;

use super::Vec;
use crate::share::{Builtin, Share, TypeInfo};
use std::ops::{Deref, DerefMut};

/// A UTF-8 string in an arena, used like [`std::string::String`].
///
/// What may allocate returns [`Result`](crate::Result). See [`Vec`] for where a string can be used.
/// Places that hold a `String` take `&str` as well: it is copied to where it is to lie.
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
#[repr(transparent)]
pub struct String {
    /// UTF-8: kept by every method here, in every program that writes to the arena.
    bytes: Vec<u8>,
}

// SAFETY: laid out as a `Vec<u8>`, and `Share` as that.
unsafe impl Share for String {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::String, &[]);
}

impl String {
    /// An empty string, which owns nothing. It can be made anywhere, also in constants.
    pub const fn new() -> Self {
        String { bytes: Vec::new() }
    }

    /// How many bytes there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes fit without another allocation.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The text.
    ///
    /// # Panics
    ///
    /// If there is any, and the string was moved out of its arena.
    #[inline]
    pub fn as_str(&self) -> &str {
        // SAFETY: the bytes are UTF-8, see the field.
        unsafe { str::from_utf8_unchecked(&self.bytes) }
    }

    /// The bytes.
    ///
    /// # Panics
    ///
    /// As [`as_str`](String::as_str).
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The text, to be changed within its bytes. Records it, once per section.
    ///
    /// # Panics
    ///
    /// As [`Vec::as_mut_slice`].
    #[track_caller]
    pub fn as_mut_str(&mut self) -> &mut str {
        // SAFETY: the bytes are UTF-8, and `str` keeps them so.
        unsafe { str::from_utf8_unchecked_mut(&mut self.bytes) }
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
