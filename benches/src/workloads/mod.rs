//! What is measured: a file for each part of sharena.

pub(crate) mod alloc;

use sharena::Arena;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// An arena in a file on tmpfs, with a journal, as `Arena::named` makes it. Its name is gone again
/// when this returns; the memory goes with the arena.
pub(crate) fn arena() -> Arena {
    let name = name("arena");
    let arena = Arena::named(&name).expect("an arena can be created");
    Arena::unlink_named(&name).expect("the arena has a name");
    arena
}

/// A name that nobody else has.
pub(crate) fn name(purpose: &str) -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Relaxed);
    format!("bench-{purpose}-{}-{serial}", std::process::id())
}
