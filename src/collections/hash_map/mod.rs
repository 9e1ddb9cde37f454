//! The hash map, and what it hands out.
//!
//! # What is stored
//!
//! A header, and one block: the pairs of key and value, then a control byte for each
//! ([`control`](self), a "Swiss table").
//!
//! ```text
//! | pair | pair | ... | pair | control bytes: one for each pair, 16 at least |
//! 0                          buckets * size of a pair
//! ```
//!
//! Only the pairs whose control byte says *full* mean anything.
//!
//! # What a change records, and why that is enough
//!
//! The header is recorded once in a section, the old value of a control byte each time before it
//! changes, and a *pair when it stops to be full*, or before it is handed out as `&mut`. A free
//! pair is filled without a record: either it was free when the section began, and then its bytes
//! do not matter after a death, since its control byte will say *free* again; or it was full then,
//! and its bytes were recorded when it was removed. (So rule J3 holds without asking which one it
//! is.) What lies in a block that was allocated in the section needs no record at all.
//!
//! # The order of a change
//!
//! 1. Code of the user's that may panic: hashing, comparing, closures.
//! 2. All that can fail: the records, a larger table, which is filled while the old one stays.
//! 3. The pair is made in a bucket that is still free: this may run the user's code again, allocate
//!    and fail; what is half made is taken back then, and nothing has changed.
//! 4. The control byte, the counts: nothing can fail any more.
//!
//! A removal is in the same order: the pair is recorded, the guard is handed out; when that is
//! dropped, the control byte and the counts come first, then the pair is dropped where it lies.

mod control;
mod entry;
mod hash;
mod iter;
mod map;
mod removed;
mod storage;
mod table;
mod traits;

/// What a table looks like in memory, for those who read one without trusting it.
pub(crate) mod stored {
    pub(crate) use super::{
        control::{DELETED, EMPTY},
        table::{FEWEST_BUCKETS, capacity_of, control_len},
    };
}

pub use entry::{Entry, OccupiedEntry, VacantEntry};
pub use iter::{Drain, Iter, IterMut, Keys, Values, ValuesMut};
pub use map::HashMap;
pub use removed::Removed;
