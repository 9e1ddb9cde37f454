//! Relative pointers: the raw pointers of shared memory.
//!
//! A [`RelPtr`] holds an offset from the begin of its arena, so it means the same in every process,
//! wherever each has mapped the arena. Resolving one checks it and gives a raw pointer; following
//! that is `unsafe`, as with any raw pointer. For structures of your own; the ready-made ones are
//! in [`collections`](crate::collections).

mod atomic;
mod relative;

pub use atomic::AtomicRelPtr;
pub use relative::RelPtr;
