//! The gate of a slot: who takes a free slot, gives one up, or finds out that one who was about to
//! take it died, goes through it, and one at a time does (R5).
//!
//! It is a lock on a byte of the file, which the kernel drops when its holder dies, in whatever PID
//! namespace. Of threads of one process, which the kernel does not tell apart there, one at a time
//! goes through any gate.

use crate::{
    error::{Error, Result},
    mapping::{Backing, Mapping},
    os::{
        file::{self, Hold},
        memory::{ProcessLock, WipedPage},
    },
};

/// The first of the bytes that stand for slots.
const FIRST_BYTE: u64 = (1 << 62) + (1 << 20);

static INSIDE: WipedPage = WipedPage::new();

/// Makes what the gates need in this process.
pub(crate) fn prepare() -> std::io::Result<()> {
    INSIDE.get().map(drop)
}

/// Runs `f` unless somebody else is in the slot's gate. Signals are blocked: a handler would wait
/// for its own thread.
///
/// # Errors
///
/// What the kernel says.
pub(super) fn pass<R>(mapping: &Mapping, slot: usize, f: impl FnOnce() -> R) -> Result<Option<R>> {
    let _inside = ProcessLock::take(&INSIDE);
    let Backing::File { locks, .. } = &mapping.backing else {
        return Ok(Some(f()));
    };
    let os = |source| Error::os("lock the arena's file", source);
    let own = locks.of_this_process().map_err(os)?;
    let byte = FIRST_BYTE + slot as u64;
    if !file::try_lock_byte(own, byte, Hold::Exclusive).map_err(os)? {
        return Ok(None);
    }
    let done = f();
    // What stays locked, is so until this process ends.
    let _ = file::unlock_byte(own, byte);
    Ok(Some(done))
}
