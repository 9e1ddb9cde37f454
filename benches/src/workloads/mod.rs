//! What is measured: a file for each part of sharena.

pub(crate) mod alloc;
pub(crate) mod map;

use crate::rivals::name;
use sharena::Arena;

/// An arena in a file on tmpfs, with a journal, as `Arena::named` makes it. Its name is gone again
/// when this returns; the memory goes with the arena.
pub(crate) fn arena() -> Arena {
    let name = name("arena");
    let arena = Arena::named(&name).expect("an arena can be created");
    Arena::unlink_named(&name).expect("the arena has a name");
    arena
}
