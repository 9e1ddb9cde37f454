//! Errors as slow paths hand them to fast ones: in one word.

use super::{Error, Result};
use std::{
    mem::{self, ManuallyDrop},
    ptr::NonNull,
};

/// What slow paths return to fast ones: small enough for registers. An [`Error`] is not: where a call
/// may return one, the fast path, too, would put its result together in memory.
pub(crate) type Rare<T = ()> = std::result::Result<T, Boxed>;

/// The error as users get it.
#[inline(always)]
pub(crate) fn unbox<T>(result: Rare<T>) -> Result<T> {
    match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.unbox()),
    }
}

/// An [`Error`] in one word.
///
/// Those that carry nothing of their own are not allocated: signal handlers get them, and may have interrupted
/// the allocator.
pub(crate) struct Boxed(NonNull<Error>);

/// All errors that carry nothing, or always the same.
static PLAIN: [Error; 16] = [
    Error::Endianness,
    Error::NotInArena,
    Error::ReadOnly,
    Error::NotFrozen,
    Error::Frozen,
    Error::Poisoned,
    Error::WouldBlock,
    Error::TimedOut,
    Error::WouldDeadlock,
    Error::NeedsSection,
    Error::OtherArena,
    Error::InSection,
    Error::InTransaction,
    Error::NoSection,
    Error::Reentered,
    Error::TooManyPermits {
        limit: MOST_PERMITS,
    },
];

/// The limit that `TooManyPermits` always tells: `layout::PERMITS`.
pub(crate) const MOST_PERMITS: usize = 32;

impl Boxed {
    fn is_plain(&self) -> bool {
        PLAIN.as_ptr_range().contains(&self.0.as_ptr().cast_const())
    }

    #[cold]
    #[inline(never)]
    fn unbox(self) -> Error {
        let this = ManuallyDrop::new(self);
        if this.is_plain() {
            // SAFETY: one of `PLAIN`, which owns nothing: its bytes may be another's, too.
            unsafe { this.0.read() }
        } else {
            // SAFETY: what is not in `PLAIN` was leaked by `from`, and belongs to this alone.
            *unsafe { Box::from_raw(this.0.as_ptr()) }
        }
    }
}

impl From<Error> for Boxed {
    #[cold]
    fn from(error: Error) -> Self {
        let kind = mem::discriminant(&error);
        let plain = PLAIN.iter().find(|plain| mem::discriminant(*plain) == kind);
        Boxed(plain.map_or_else(|| Box::leak(Box::new(error)).into(), NonNull::from))
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        if !self.is_plain() {
            // SAFETY: as in `unbox`.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}
