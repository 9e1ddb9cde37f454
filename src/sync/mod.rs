//! Locks that several processes share, and that survive the death of who holds them.
//!
//! A [`Mutex`] is what makes a critical section: what its guard changes takes place wholly or not
//! at all, whenever the process is killed. A [`RwLock`] does so for one writer, or lets many read. A
//! [`Semaphore`] counts permits, and those of the dead come back. [`RawMutex`] is a lock without a
//! section, for structures of your own behind [`parking_lot::lock_api`]'s traits.
//!
//! A lock works only where it lies in an arena; anywhere else it is inert, and says
//! [`Error::NotInArena`](crate::Error::NotInArena).

mod calm;
mod circle;
mod mutex;
mod raw;
mod rwlock;
mod semaphore;
mod wait;

pub use mutex::{Mutex, MutexGuard};
pub use raw::RawMutex;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};

pub(crate) use calm::{is_calm, release_calm, release_mutex};
pub(crate) use mutex::poison_written;
pub(crate) use semaphore::{hold as hold_semaphore, return_permits};
pub(crate) use wait::{Internal, Patience, Taker, release, release_if, wake_one};
