//! The containers of `std`, in shared memory.

pub(crate) mod raw;
