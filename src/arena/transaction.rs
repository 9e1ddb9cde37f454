//! Transactions: sections that are undone on an error, too.
//!
//! A death takes all of its process with it. A living thread keeps what is not in the arena: its
//! stack, its thread-local variables. If a value that owns a block were there when the section is
//! undone, the block would have two owners (the value, and where it was taken from), or the value
//! would own a block that was never allocated. Three walls:
//!
//! - the closure and its result are `Send`, which values that own memory are not;
//! - guards borrow from the [`Transaction`], so that none outlives it, nor what they lend;
//! - for thread-local variables: each block that is owned before must be owned inside behind, or
//!   freed; and so must each new one. Else the process is aborted.

use super::Arena;
use crate::{
    error::{Error, Result},
    mapping::Mapping,
    section::{self, Ctx},
    share::{Schema, Share},
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
    walk,
};
use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    time::Duration,
};

/// Takes locks in a transaction: see [`Arena::transaction`].
#[derive(Debug)]
pub struct Transaction {
    /// Not `Send`: the section belongs to its thread.
    ctx: NonNull<Ctx>,
}

/// Lets the thread take a lock while it lives.
struct Locking(NonNull<Ctx>);

impl Drop for Locking {
    fn drop(&mut self) {
        // SAFETY: C1: this thread's context, which has a section open.
        unsafe { self.0.as_mut() }.let_lock(false);
    }
}

impl Transaction {
    /// Takes a lock, waiting as long as it takes. It is held to the end of the transaction.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`]. After [`Error::Deadlock`] the transaction should end, with that error,
    /// so that others can go on.
    #[track_caller]
    pub fn lock<'t, T: Share>(&'t self, mutex: &'t Mutex<T>) -> Result<MutexGuard<'t, T>> {
        let _locking = self.locking();
        mutex.lock()
    }

    /// Takes a lock if it is free.
    ///
    /// # Errors
    ///
    /// As [`Mutex::try_lock`].
    #[track_caller]
    pub fn try_lock<'t, T: Share>(&'t self, mutex: &'t Mutex<T>) -> Result<MutexGuard<'t, T>> {
        let _locking = self.locking();
        mutex.try_lock()
    }

    /// Takes a lock, waiting no longer than `time`.
    ///
    /// # Errors
    ///
    /// As [`Mutex::try_lock_for`].
    #[track_caller]
    pub fn try_lock_for<'t, T: Share>(
        &'t self,
        mutex: &'t Mutex<T>,
        time: Duration,
    ) -> Result<MutexGuard<'t, T>> {
        let _locking = self.locking();
        mutex.try_lock_for(time)
    }

    /// Takes a lock to read. It is held to the end of the transaction.
    ///
    /// # Errors
    ///
    /// As [`RwLock::read`].
    #[track_caller]
    pub fn read<'t, T: Share + Sync>(
        &'t self,
        lock: &'t RwLock<T>,
    ) -> Result<RwLockReadGuard<'t, T>> {
        let _locking = self.locking();
        lock.read()
    }

    /// Takes a lock to read if no writer has it, or waits for it.
    ///
    /// # Errors
    ///
    /// As [`RwLock::try_read`].
    #[track_caller]
    pub fn try_read<'t, T: Share + Sync>(
        &'t self,
        lock: &'t RwLock<T>,
    ) -> Result<RwLockReadGuard<'t, T>> {
        let _locking = self.locking();
        lock.try_read()
    }

    /// Takes a lock to read, waiting no longer than `time`.
    ///
    /// # Errors
    ///
    /// As [`RwLock::try_read_for`].
    #[track_caller]
    pub fn try_read_for<'t, T: Share + Sync>(
        &'t self,
        lock: &'t RwLock<T>,
        time: Duration,
    ) -> Result<RwLockReadGuard<'t, T>> {
        let _locking = self.locking();
        lock.try_read_for(time)
    }

    /// Takes a lock to write. It is held to the end of the transaction.
    ///
    /// # Errors
    ///
    /// As [`RwLock::write`]. After [`Error::Deadlock`] the transaction should end, with that error,
    /// so that others can go on.
    #[track_caller]
    pub fn write<'t, T: Share + Sync>(
        &'t self,
        lock: &'t RwLock<T>,
    ) -> Result<RwLockWriteGuard<'t, T>> {
        let _locking = self.locking();
        lock.write()
    }

    /// Takes a lock to write if nobody has it.
    ///
    /// # Errors
    ///
    /// As [`RwLock::try_write`].
    #[track_caller]
    pub fn try_write<'t, T: Share + Sync>(
        &'t self,
        lock: &'t RwLock<T>,
    ) -> Result<RwLockWriteGuard<'t, T>> {
        let _locking = self.locking();
        lock.try_write()
    }

    /// Takes a lock to write, waiting no longer than `time`.
    ///
    /// # Errors
    ///
    /// As [`RwLock::try_write_for`].
    #[track_caller]
    pub fn try_write_for<'t, T: Share + Sync>(
        &'t self,
        lock: &'t RwLock<T>,
        time: Duration,
    ) -> Result<RwLockWriteGuard<'t, T>> {
        let _locking = self.locking();
        lock.try_write_for(time)
    }

    fn locking(&self) -> Locking {
        let mut ctx = self.ctx;
        // SAFETY: C1, for as long as the transaction lasts, and so for as long as `self` lives.
        unsafe { ctx.as_mut() }.let_lock(true);
        Locking(ctx)
    }
}

/// Runs `f`, and keeps what it did if it succeeds.
pub(super) fn run<R, E: From<Error>>(
    arena: &Arena,
    f: impl FnOnce(&Transaction) -> Result<R, E>,
) -> Result<R, E> {
    let mut ctx = section::attach(arena.mapping())?;
    // SAFETY: C1; no reference lives across `f`.
    unsafe { ctx.as_mut() }.open_transaction()?;
    let transaction = Transaction { ctx };
    // Nothing that `f` leaves half changed is seen again: it is undone.
    let done = catch_unwind(AssertUnwindSafe(|| f(&transaction)));
    // SAFETY: C1; `f` has ended, and nothing that borrowed from the transaction is left.
    let own = unsafe { ctx.as_mut() };
    if own.is_own() {
        match &done {
            Ok(Ok(_)) => own.commit_transaction(),
            _ => undo(own),
        }
    }
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Undoes the transaction, unless that would give a block two owners.
fn undo(ctx: &mut Ctx) {
    let locked: Vec<_> = ctx.locked().collect();
    let mapping = ctx.mapping_kept();
    let new = ctx.allocated();
    let mut known = owned(&mapping, &locked);
    let hidden = new.into_iter().find(|block| !known.contains(block));
    known.extend(ctx.freed());
    ctx.undo_transaction(|| {
        let lost = || {
            owned(&mapping, &locked)
                .into_iter()
                .find(|block| !known.contains(block))
        };
        if let Some(block) = hidden.or_else(lost) {
            abort(block);
        }
    });
}

/// The blocks that the values own.
fn owned(mapping: &Mapping, values: &[(u64, Schema)]) -> HashSet<u64> {
    let edges = values
        .iter()
        .flat_map(|(at, schema)| walk::owned(mapping, schema, *at));
    edges.map(|edge| edge.block).collect()
}

fn abort(block: u64) -> ! {
    eprintln!(
        "sharena: a transaction was to be undone, but a value that owns the block at offset \
         {block:#x} is not in the arena any more (it was put into a thread-local variable, or \
         forgotten); the process is aborted, since the block would have two owners, or the value \
         a block that is not allocated"
    );
    std::process::abort()
}
