//! `RelPtr<T>`: an offset from the arena's begin, never 0.

use crate::{
    arena::Arena,
    error::{Error, Result},
    mapping::Mapping,
    share::{Builtin, Share, TypeInfo, node},
};
use std::{cmp::Ordering, fmt, hash, marker::PhantomData, num::NonZeroU64};

/// A pointer into an arena that means the same in every process.
///
/// Eight bytes, `Copy`, and so is `Option<RelPtr<T>>`, whose `None` is stored as 0. It does not own
/// what it points to, and does not know its arena: resolving it in another arena gives another
/// place, or an error.
///
/// # Examples
///
/// ```
/// use sharena::Arena;
///
/// let arena = Arena::in_memory()?;
/// let block = arena.alloc_value(42u64)?;
/// let pointer = block.into_raw()?;
/// // SAFETY: allocated as a `u64` just now, and freed by nobody.
/// assert_eq!(unsafe { *pointer.resolve(&arena)? }, 42);
/// # Ok::<(), sharena::Error>(())
/// ```
#[repr(transparent)]
pub struct RelPtr<T> {
    offset: NonZeroU64,
    target: PhantomData<fn() -> T>,
}

// SAFETY: a transparent number; never followed without a check or without `unsafe`.
unsafe impl<T: Share> Share for RelPtr<T> {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::RelPtr, &[node::<T>]);
}

// SAFETY: the same with 0 for `None`: `Option` of a transparent `NonZeroU64` is guaranteed to be
// laid out so.
unsafe impl<T: Share> Share for Option<RelPtr<T>> {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::OptionRelPtr, &[node::<T>]);
}

static_assertions::assert_eq_size!(RelPtr<u64>, Option<RelPtr<u64>>, u64);

impl<T> RelPtr<T> {
    /// The pointer to an offset; `None` for offset 0, which is null.
    pub const fn from_offset(offset: u64) -> Option<Self> {
        match NonZeroU64::new(offset) {
            Some(offset) => Some(RelPtr {
                offset,
                target: PhantomData,
            }),
            None => None,
        }
    }

    /// How many bytes behind the arena's begin the target lies.
    pub const fn offset(self) -> u64 {
        self.offset.get()
    }

    /// The same place as another type.
    pub const fn cast<U>(self) -> RelPtr<U> {
        RelPtr {
            offset: self.offset,
            target: PhantomData,
        }
    }

    /// Where the target lies in this process's mapping of `arena`.
    ///
    /// Checks that all of a `T` lies inside the arena's memory and is aligned. Whether there *is* a
    /// `T`, and whether others use it, is for the caller to know before following the pointer.
    ///
    /// # Errors
    ///
    /// [`Error::BadPointer`].
    #[inline]
    pub fn resolve(self, arena: &Arena) -> Result<*mut T> {
        self.resolve_in(arena.mapping())
    }

    #[inline]
    pub(crate) fn resolve_in(self, mapping: &Mapping) -> Result<*mut T> {
        let offset = self.offset.get();
        if !offset.is_multiple_of(align_of::<T>() as u64) {
            return Err(Error::BadPointer {
                offset,
                reason: "it is not aligned for its type",
            });
        }
        match mapping.address(offset, size_of::<T>()) {
            Some(place) => Ok(place.as_ptr().cast()),
            None => Err(Error::BadPointer {
                offset,
                reason: "it leads outside the arena's memory",
            }),
        }
    }
}

impl<T> Clone for RelPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RelPtr<T> {}

impl<T> PartialEq for RelPtr<T> {
    fn eq(&self, other: &Self) -> bool {
        self.offset == other.offset
    }
}

impl<T> Eq for RelPtr<T> {}

impl<T> PartialOrd for RelPtr<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for RelPtr<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.offset.cmp(&other.offset)
    }
}

impl<T> hash::Hash for RelPtr<T> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.offset.hash(state);
    }
}

impl<T> fmt::Debug for RelPtr<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPtr({:#x})", self.offset)
    }
}
