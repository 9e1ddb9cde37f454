//! The traits of `std`.

use super::String;
use std::{
    borrow::{Borrow, Cow},
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

impl Default for String {
    fn default() -> Self {
        String::new()
    }
}

impl fmt::Debug for String {
    /// The text; of a string that was moved out of its arena only how long it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.long().map(|bytes| bytes.slice_anywhere()) {
            Some(None) => write!(f, "\"{} bytes elsewhere\"", self.len()),
            _ => self.as_str().fmt(f),
        }
    }
}

impl fmt::Display for String {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Write for String {
    /// Appends text; fails where the arena is full.
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text).map_err(|_| fmt::Error)
    }
}

impl Eq for String {}

impl PartialEq for String {
    #[inline]
    fn eq(&self, other: &String) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

macro_rules! equal {
    ($($theirs:ty),*) => { $(
        impl PartialEq<$theirs> for String {
            #[inline]
            fn eq(&self, other: &$theirs) -> bool {
                self[..] == other[..]
            }
        }

        impl PartialEq<String> for $theirs {
            #[inline]
            fn eq(&self, other: &String) -> bool {
                self[..] == other[..]
            }
        }
    )* };
}

equal!(str, &str, std::string::String, Cow<'_, str>);

impl PartialOrd for String {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for String {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other)
    }
}

impl Hash for String {
    /// As `str`.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for String {
    #[inline]
    fn borrow(&self) -> &str {
        self
    }
}

impl AsRef<str> for String {
    #[inline]
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for String {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<std::path::Path> for String {
    #[inline]
    fn as_ref(&self) -> &std::path::Path {
        self.as_str().as_ref()
    }
}

impl AsRef<std::ffi::OsStr> for String {
    #[inline]
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.as_str().as_ref()
    }
}

impl From<&String> for std::string::String {
    fn from(text: &String) -> Self {
        text.as_str().to_owned()
    }
}

macro_rules! extend {
    ($($source:ty: $text:ident => $as_str:expr;)*) => { $(
        impl<'a> Extend<$source> for String {
            /// Appends what the iterator yields.
            ///
            /// # Panics
            ///
            /// When the arena is full: [`String::try_extend`] says so instead.
            #[track_caller]
            fn extend<I: IntoIterator<Item = $source>>(&mut self, texts: I) {
                for $text in texts {
                    if let Err(error) = self.push_str($as_str) {
                        crate::collections::vec::refuse(error);
                    }
                }
            }
        }
    )* };
}

extend! {
    &'a str: text => text;
    &'a String: text => text;
    std::string::String: text => &text;
    &'a std::string::String: text => text;
    Cow<'a, str>: text => &text;
    char: c => c.encode_utf8(&mut [0; 4]);
    &'a char: c => c.encode_utf8(&mut [0; 4]);
}
