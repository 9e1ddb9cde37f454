//! What a `String` is made from where it is to lie, and what finds one in a map.

use super::String;
use crate::{
    collections::Vec,
    error::Result,
    share::{Key, Lookup, Store},
};
use std::borrow::Cow;

macro_rules! text {
    ($($source:ty),*) => { $(
        // SAFETY: a copy of a slice does as `Store` asks, and leaves nothing when it fails.
        unsafe impl Store<String> for $source {
            #[inline]
            unsafe fn store(self, slot: *mut String) -> Result {
                let bytes: &[u8] = self.as_bytes();
                // SAFETY: by contract; otherwise a `String` is laid out as a `Vec<u8>`. It is UTF-8.
                unsafe {
                    match String::short(bytes) {
                        Some(short) => slot.write(short),
                        None => Vec::store_copy(slot.cast::<Vec<u8>>(), bytes)?,
                    }
                }
                Ok(())
            }
        }
    )* };
}

text!(
    &str,
    &&str,
    &String,
    std::string::String,
    &std::string::String,
    Box<str>,
    Cow<'_, str>
);

// SAFETY: as its text.
unsafe impl Store<String> for char {
    unsafe fn store(self, slot: *mut String) -> Result {
        let mut bytes = [0; 4];
        let text: &str = self.encode_utf8(&mut bytes);
        // SAFETY: by contract.
        unsafe { text.store(slot) }
    }
}

macro_rules! key {
    ($($source:ty),*) => { $(
        impl Key<String> for $source {
            type Form = str;

            #[inline]
            fn form(&self) -> &str {
                self
            }
        }
    )* };
}

key!(
    &str,
    &&str,
    &String,
    std::string::String,
    &std::string::String,
    Box<str>,
    Cow<'_, str>
);

macro_rules! lookup {
    ($($source:ty),*) => { $(
        impl Lookup<$source> for String {
            #[inline]
            fn is(&self, key: &$source) -> bool {
                let key: &str = key;
                self.as_str() == key
            }
        }
    )* };
}

lookup!(&str, std::string::String, Box<str>, Cow<'_, str>);
