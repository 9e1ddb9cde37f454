//! A survivor that acts while a dead thread still lies there as it died.

use crate::start::{add_spares, free_spares, in_a_thread, small};
use sharena::{Arena, Error, Result};
use std::alloc::Layout;

/// What the survivor does first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum First {
    /// Works beside the dead one, and never touches what that was at.
    Beside,
    /// Takes the lock that the dead one held: resolves its journal, and no more. Then it works.
    Lock,
}

/// Sizes of blocks that operations use, and a span.
const SIZES: [usize; 7] = [16, 40, 96, 160, 320, 1000, 6000];

/// Opens a crash state, and lets a survivor act in it. The dead one is not recovered, unless that
/// was part of what the survivor did.
pub(crate) fn act_first(
    image: &[u8],
    first: First,
    touch: impl Fn(&Arena) + Send + Sync,
) -> Result<Arena> {
    let arena = small().leave_the_dead(true).from_image(image)?;
    // It detaches at the end of its thread.
    in_a_thread(|| {
        if first == First::Lock {
            touch(&arena);
        }
        work(&arena)
    })?;
    Ok(arena)
}

/// Drains, frees, allocates, locks.
fn work(arena: &Arena) -> Result {
    // Adopts abandoned slabs, and drains them.
    let kept: Vec<_> = SIZES.iter().map(|&size| block(arena, size)).collect();
    // Frees blocks in the slabs of the dead; takes a lock that the dead one does not hold.
    unless_full(free_spares(arena, 3))?;
    publish_and_free(arena)?;
    drop(kept);
    // Has blocks when the dead one is recovered: what that one was freeing may be among them if a
    // drain took it too early.
    unless_full(add_spares(arena))?;
    unless_full(add_spares(arena))?;
    // Drains again what was freed meanwhile.
    for size in SIZES {
        drop(block(arena, size));
    }
    Ok(())
}

/// A block that belongs to nobody, if there is room for one.
fn block(arena: &Arena, size: usize) -> Option<sharena::Reserved<u8>> {
    let layout = Layout::from_size_align(size, 8).expect("a sane layout");
    arena.alloc(layout).ok()
}

/// Gives blocks out, and frees them.
fn publish_and_free(arena: &Arena) -> Result {
    for size in SIZES {
        let Some(block) = block(arena, size) else {
            continue;
        };
        let Some(block) = unless_full(block.into_raw())? else {
            continue;
        };
        // SAFETY: given out just now, and nobody else knows of it.
        unsafe { arena.dealloc(block) }?;
    }
    Ok(())
}

/// Nothing, where there was no room.
pub(crate) fn unless_full<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Full { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
