//! What can be put into a place of some type, and what finds it again.
//!
//! Containers take what they store as `impl Store<T>`: a `T` itself, or something from which a `T`
//! is made where it is to lie. So a map with `String` keys takes `&str`, copies the bytes into the
//! arena, and never makes a `String` on the stack. Maps put in what is a [`Key`], and
//! find it by what its type can [`Lookup`].

use std::{borrow::Borrow, hash::Hash};

use super::Share;
use crate::error::Result;

/// What can be stored as a `T`: a `T` itself, or something a `T` is made from in place.
///
/// # Safety
///
/// When [`store`](Store::store) returns `Ok`, the slot holds a valid `T`. When it returns `Err` or
/// panics, nothing that it allocated remains.
pub unsafe trait Store<T: Share> {
    /// Makes a `T` in the slot, without reading or dropping what was there.
    ///
    /// # Safety
    ///
    /// `slot` is valid for writes, aligned, and inside an arena; its old bytes are recorded in the
    /// journal, or fresh.
    #[doc(hidden)]
    unsafe fn store(self, slot: *mut T) -> Result;

    /// Lets go of what could not be stored, since there was no room for something else.
    ///
    /// A value is dropped; a guard on an element of another container leaves it there.
    #[doc(hidden)]
    fn decline(self)
    where
        Self: Sized,
    {
    }
}

// SAFETY: the slot holds the value that was moved there.
unsafe impl<T: Share> Store<T> for T {
    #[inline(always)]
    unsafe fn store(self, slot: *mut T) -> Result {
        // SAFETY: the caller vouches for the slot.
        unsafe { slot.write(self) };
        Ok(())
    }
}

// SAFETY: as the value that it refers to.
unsafe impl<T: Share + Copy> Store<T> for &T {
    #[inline(always)]
    unsafe fn store(self, slot: *mut T) -> Result {
        // SAFETY: the caller vouches for the slot.
        unsafe { slot.write(*self) };
        Ok(())
    }
}

/// What a stored `K` can be found by and made from: a `K`, or a borrowed form of it, such as
/// `&str` for `String`.
///
/// The forms of equal keys are equal and hash equally, as with [`Borrow`](std::borrow::Borrow),
/// whichever type they come from; otherwise maps do not find what they hold.
pub trait Key<K: Share>: Store<K> {
    /// What is hashed and compared.
    type Form: ?Sized + Hash + Eq + 'static;

    /// This key in the form that is hashed and compared.
    fn form(&self) -> &Self::Form;
}

impl<K: Share + Hash + Eq> Key<K> for K {
    type Form = K;

    fn form(&self) -> &K {
        self
    }
}

impl<K: Share + Hash + Eq + Copy> Key<K> for &K {
    type Form = K;

    fn form(&self) -> &K {
        self
    }
}

/// What a stored key can be looked up by: by what it can be [borrowed](Borrow) as, and by what `std`
/// has of that, such as a [`std::string::String`] for a `String`.
///
/// Equal keys have equal hashes, whichever of the two types they are of.
#[diagnostic::on_unimplemented(message = "a map's key `{Self}` cannot be looked up by a `{Q}`")]
pub trait Lookup<Q: ?Sized> {
    /// Whether this is the key.
    fn is(&self, key: &Q) -> bool;
}

impl<K: Borrow<Q>, Q: ?Sized + Eq> Lookup<Q> for K {
    #[inline(always)]
    fn is(&self, key: &Q) -> bool {
        self.borrow() == key
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Store};

    #[test]
    fn a_value_is_stored_as_itself() {
        let mut slot = 0;
        // SAFETY: a local integer.
        unsafe { Store::<u32>::store(7, &mut slot) }.unwrap();
        assert_eq!(slot, 7);
        assert_eq!(*Key::<u32>::form(&slot), 7);
    }
}
