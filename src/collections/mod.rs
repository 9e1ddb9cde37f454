//! The containers of `std`, in shared memory.

pub mod hash_map;
pub(crate) mod raw;

#[doc(no_inline)]
pub use hash_map::HashMap;
