//! Roots: handles on named objects.

use super::{Arena, directory, process};
use crate::{
    error::{Error, Result},
    layout::RootEntry,
    os,
    share::Share,
    sync::{Mutex, RwLock},
};
use std::{
    fmt,
    ops::Deref,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering::*},
};

/// A handle on a named object of an arena.
///
/// `Clone`, `Send`, `Sync` and `'static`: it keeps the mapping alive and goes into your structs.
/// Dereferences to the object. While a handle exists in any process, the object stays, also when
/// its name was removed.
///
/// References into the arena borrow from the handle or a guard, so nothing is used after it was
/// unmapped:
///
/// ```compile_fail,E0505
/// # use sharena::{Arena, sync::Mutex};
/// # let arena = Arena::in_memory()?;
/// let root = arena.root::<Mutex<u64>>("count")?;
/// let guard = root.lock()?;
/// drop(root);
/// println!("{}", *guard); // does not compile
/// # Ok::<(), sharena::Error>(())
/// ```
pub struct Root<T: Share> {
    arena: Arena,
    value: NonNull<T>,
    hold: Hold,
}

/// A handle's share in the count of handles.
struct Hold {
    /// The root's entry; 0 where handles are not counted.
    entry: u64,
    /// The process entry under which it is counted, and the process generation of then.
    process: usize,
    generation: u64,
    /// The process's forks when it was counted.
    forks: u64,
}

impl Hold {
    /// Whether the handle is this process's alone: not its parent's, and no child has it too.
    fn is_sole(&self) -> bool {
        self.generation == os::process::generation() && self.forks == process::forks()
    }
}

// SAFETY: a handle gives shared references only, and its object lies in memory that every thread
// may use.
unsafe impl<T: Share + Sync> Send for Root<T> {}
// SAFETY: as above.
unsafe impl<T: Share + Sync> Sync for Root<T> {}

impl<T: Share> Root<T> {
    /// A handle that is counted already, under `process`.
    pub(super) fn counted(arena: &Arena, value: NonNull<T>, entry: u64, process: usize) -> Self {
        Root {
            arena: arena.clone(),
            value,
            hold: Hold {
                entry,
                process,
                generation: os::process::generation(),
                forks: process::forks(),
            },
        }
    }

    /// A handle in an arena that cannot be written, and so cannot count.
    pub(super) fn uncounted(arena: &Arena, value: NonNull<T>) -> Self {
        Root {
            arena: arena.clone(),
            value,
            hold: Hold {
                entry: 0,
                process: 0,
                generation: 0,
                forks: 0,
            },
        }
    }

    /// The arena that the object lies in.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Where in the arena the object lies.
    pub fn rel_ptr(&self) -> crate::RelPtr<T> {
        let offset = self.arena.mapping().offset_of(self.value.as_ptr());
        offset
            .and_then(crate::RelPtr::from_offset)
            .expect("a root lies in its arena, not at its begin")
    }

    fn cell(&self) -> Option<&AtomicU32> {
        if self.hold.entry == 0 {
            return None;
        }
        directory::user_cell(self.arena.mapping(), self.hold.entry, self.hold.process)
    }
}

impl<T: Share + Sync> Root<Mutex<T>> {
    /// Takes the lock for ever, and gives what is read without it. See [`Mutex::freeze`].
    ///
    /// # Errors
    ///
    /// As [`Mutex::freeze`].
    ///
    /// # Examples
    ///
    /// ```
    /// use sharena::{Arena, sync::Mutex};
    ///
    /// let arena = Arena::in_memory()?;
    /// let limit = arena.root::<Mutex<u64>>("limit")?;
    /// *limit.lock()? = 10;
    /// let frozen = limit.freeze()?;
    /// assert_eq!(*frozen, 10);
    /// assert!(limit.lock().is_err());
    /// # Ok::<(), sharena::Error>(())
    /// ```
    #[track_caller]
    pub fn freeze(&self) -> Result<Frozen<T>> {
        Mutex::freeze(self)?;
        self.into_frozen()
    }

    /// A handle on the value of a frozen root.
    ///
    /// # Errors
    ///
    /// [`Error::NotFrozen`].
    pub fn into_frozen(&self) -> Result<Frozen<T>> {
        let value = NonNull::from(Mutex::frozen(self)?);
        Ok(Frozen {
            root: Behind::Mutex(self.clone()),
            value,
        })
    }
}

impl<T: Share + Sync> Root<RwLock<T>> {
    /// Keeps writers out for ever, and gives what is read without locking. See [`RwLock::freeze`].
    ///
    /// # Errors
    ///
    /// As [`RwLock::freeze`].
    #[track_caller]
    pub fn freeze(&self) -> Result<Frozen<T>> {
        RwLock::freeze(self)?;
        self.into_frozen()
    }

    /// A handle on the value of a frozen root.
    ///
    /// # Errors
    ///
    /// [`Error::NotFrozen`].
    pub fn into_frozen(&self) -> Result<Frozen<T>> {
        let value = NonNull::from(RwLock::frozen(self)?);
        Ok(Frozen {
            root: Behind::RwLock(self.clone()),
            value,
        })
    }
}

impl<T: Share> Deref for Root<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the object stays while it has handles (D3), and its bytes are a `T`: the schema
        // was compared. Shared references are all that handles give.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Share> Clone for Root<T> {
    fn clone(&self) -> Self {
        // In a forked child the parent's count stands for the child's handles too: it is not
        // lowered for those of before the fork.
        let mut hold = Hold { ..self.hold };
        if hold.generation == os::process::generation()
            && let Some(cell) = self.cell()
        {
            if cell.fetch_add(1, AcqRel) >= directory::MOST_HANDLES {
                // As `std::sync::Arc`: only a program that forgets handles gets here.
                std::process::abort();
            }
            hold.forks = process::forks();
        }
        Root {
            arena: self.arena.clone(),
            value: self.value,
            hold,
        }
    }
}

impl<T: Share> Drop for Root<T> {
    fn drop(&mut self) {
        if !self.hold.is_sole() {
            return;
        }
        let last = self
            .cell()
            .is_some_and(|cell| cell.fetch_sub(1, AcqRel) == 1);
        if last && directory::has_orphans(self.arena.mapping()) {
            let _ = directory::sweep(&self.arena);
        }
    }
}

impl<T: Share + fmt::Debug> fmt::Debug for Root<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The value of a frozen root: read without a lock, from any process, also in arenas that are
/// mapped for reading only.
pub struct Frozen<T: Share + Sync> {
    root: Behind<T>,
    value: NonNull<T>,
}

/// The lock that a frozen value lies behind.
enum Behind<T: Share + Sync> {
    Mutex(Root<Mutex<T>>),
    RwLock(Root<RwLock<T>>),
}

impl<T: Share + Sync> Clone for Behind<T> {
    fn clone(&self) -> Self {
        match self {
            Behind::Mutex(root) => Behind::Mutex(root.clone()),
            Behind::RwLock(root) => Behind::RwLock(root.clone()),
        }
    }
}

// SAFETY: shared references only, as `Root`.
unsafe impl<T: Share + Sync> Send for Frozen<T> {}
// SAFETY: as above.
unsafe impl<T: Share + Sync> Sync for Frozen<T> {}

impl<T: Share + Sync> Frozen<T> {
    /// The arena that the value lies in.
    pub fn arena(&self) -> &Arena {
        match &self.root {
            Behind::Mutex(root) => root.arena(),
            Behind::RwLock(root) => root.arena(),
        }
    }

    /// The value, to be changed in this process's private copy of the pages.
    ///
    /// Only for plain values: what owns memory would need the arena's heap, which belongs to all.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`] unless the arena was opened with
    /// [`Access::CopyOnWrite`](crate::Access::CopyOnWrite).
    ///
    /// # Safety
    ///
    /// No other reference to the value is used while the result is: not through a clone of the
    /// root, nor through another handle of it in this process.
    pub unsafe fn make_mut(&mut self) -> Result<&mut T>
    where
        T: Copy,
    {
        if self.arena().access() != crate::Access::CopyOnWrite {
            return Err(Error::ReadOnly);
        }
        // SAFETY: the pages are private to this process, and writable; the rest by contract.
        Ok(unsafe { self.value.as_mut() })
    }
}

impl<T: Share + Sync> Deref for Frozen<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: a frozen value is never written again (L5), and the root keeps it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Share + Sync> Clone for Frozen<T> {
    fn clone(&self) -> Self {
        Frozen {
            root: self.root.clone(),
            value: self.value,
        }
    }
}

impl<T: Share + Sync + fmt::Debug> fmt::Debug for Frozen<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A root, as [`Arena::roots`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RootInfo {
    /// Its name.
    pub name: String,
    /// Its type, as in Rust source.
    pub type_name: String,
    /// Where in the arena it lies.
    pub offset: u64,
    /// Its bytes, without what it owns.
    pub size: u64,
    /// A number that no other root of the arena ever had.
    pub number: u64,
}

static_assertions::const_assert_eq!(size_of::<RootEntry>() % 8, 0);
