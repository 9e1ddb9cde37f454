//! The containers of `std`, in shared memory.

pub mod boxed;
pub mod hash_map;
pub(crate) mod raw;
pub mod string;
mod take_apart;
pub mod vec;

pub use boxed::{Box, Boxed};
#[doc(no_inline)]
pub use hash_map::HashMap;
pub use string::String;
pub use vec::Vec;
