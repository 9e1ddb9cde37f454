//! The containers of `std`, in shared memory.

pub mod boxed;
pub(crate) mod raw;
pub mod string;
mod take_apart;
pub mod vec;

pub use boxed::{Box, Boxed};
pub use string::String;
pub use vec::Vec;
