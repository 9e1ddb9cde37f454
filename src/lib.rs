#![doc = include_str!("../README.md")]
//! ## Where to look
//!
//! An [`Arena`] is opened or created, and has [`Root`]s: values with names. What lies in it are
//! [`collections`], locks and semaphores of [`sync`], offsets ([`ptr`]), and your own types, which derive
//! [`Share`] ([`share`] says what that asks of them). How arenas are made and watched is in [`arena`].
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate self as sharena;

pub mod arena;
pub mod collections;
mod error;
mod heap;
mod journal;
mod layout;
mod mapping;
#[cfg(not(feature = "mutants"))]
mod mutant;
#[cfg(feature = "mutants")]
#[doc(hidden)]
pub mod mutant;
mod os;
pub mod ptr;
mod section;
pub mod share;
pub mod sync;
mod walk;

pub use arena::{Arena, Frozen, Options, Report, Reserved, Root, RootInfo, Stats, Transaction};
pub use error::{Error, Result};
pub use mapping::Access;
pub use ptr::{AtomicRelPtr, RelPtr};
pub use share::Share;
pub use sharena_derive::Share;

/// What the code that `derive(Share)` generates needs. Not for use by hand.
#[doc(hidden)]
pub mod __private {
    pub use crate::share::{
        Field, Kind, MustNotImplDrop, Part, Primitive, TypeInfo, TypeRef, Variant, check,
        enum_info, enum_start, node, variant_offsets,
    };
}
