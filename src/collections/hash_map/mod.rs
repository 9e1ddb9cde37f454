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
//! The header is recorded once in a section, and a value before it is handed out as `&mut`. The old
//! value of a control byte is recorded each time before it changes, in one word of the log; once
//! these are as many words as the control bytes take, all of them are recorded, and no more.
//!
//! A pair that is removed needs no record: its bytes stay as they are, since dropping writes
//! nothing to them, and a death only has to put the control byte back. It needs one when its bucket
//! is *filled again in the same section*. Whether a free bucket was full when the section began its
//! control byte tells ([`control`](self)); of such a one a short pair is recorded, and a long one is
//! spared by filling another bucket, if there is one in its group. One that was free then is filled
//! without a record: its bytes do not matter after a death, since its control byte will say *free*
//! again (J3). What lies in a block that was allocated in the section needs no record at all.
//!
//! # The order of a change
//!
//! 1. Code of the user's that may panic: hashing, comparing, closures.
//! 2. All that can fail: the records, a larger table, which is filled while the old one stays.
//! 3. The pair is made in a bucket that is still free: this may run the user's code again, allocate
//!    and fail; what is half made is taken back then, and nothing has changed.
//! 4. The control byte, the counts: nothing can fail any more.
//!
//! A removal is in the same order: the control byte is recorded, the guard is handed out; when that
//! is dropped, the control byte and the counts come first, then the pair is dropped where it lies.

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
        control::{EMPTY, is_empty, is_full},
        table::{FEWEST_BUCKETS, capacity_of, control_len},
    };
}

pub use entry::{Entry, OccupiedEntry, VacantEntry};
pub use iter::{Drain, Iter, IterMut, Keys, Values, ValuesMut};
pub use map::HashMap;
pub use removed::Removed;
