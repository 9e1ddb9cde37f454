//! Free slabs become holes, and holes are used again.

use super::{Tally, prove, small};
use sharena::{Arena, RelPtr, sync::Mutex};
use std::alloc::Layout;

type Pointers = Mutex<[Option<RelPtr<u8>>; 4]>;

/// A small block, a large one, a span, a longer one.
const SIZES: [usize; 4] = [40, 2000, 5000, 30_000];

/// The bytes of a block that are written to: few, since each is a crash state.
fn marked(which: usize) -> impl Iterator<Item = usize> {
    (0..SIZES[which]).step_by(3000)
}

fn link(arena: &Arena, which: usize) {
    let root = arena.root::<Pointers>("blocks").unwrap();
    let layout = Layout::from_size_align(SIZES[which], 8).unwrap();
    let block = arena.alloc(layout).unwrap();
    for at in marked(which) {
        // SAFETY: inside the block, which is reserved for us.
        unsafe { block.as_ptr().add(at).write(which as u8 + 1) };
    }
    block.link(&mut root.lock().unwrap()[which]).unwrap();
}

fn free(arena: &Arena, which: usize) {
    let root = arena.root::<Pointers>("blocks").unwrap();
    let mut guard = root.lock().unwrap();
    let old = guard[which].take().unwrap();
    // SAFETY: linked here only, and taken out just now.
    unsafe { arena.dealloc(old).unwrap() };
}

/// Which blocks there are, with what was written to them.
fn blocks(arena: &Arena) -> [bool; 4] {
    let root = arena.root::<Pointers>("blocks").unwrap();
    let guard = root.lock().unwrap();
    std::array::from_fn(|which| {
        guard[which].is_some_and(|block| {
            let place = block.resolve(arena).unwrap();
            // SAFETY: what is linked is allocated and was marked, and the lock is held.
            let byte = |at| unsafe { place.add(at).read() };
            assert!(marked(which).all(|at| byte(at) == which as u8 + 1));
            true
        })
    })
}

fn with_free_slabs() -> Arena {
    let arena = small().in_memory().unwrap();
    (0..4).for_each(|which| link(&arena, which));
    (0..4).step_by(2).for_each(|which| free(&arena, which));
    arena
}

fn with_holes() -> Arena {
    let arena = with_free_slabs();
    arena.trim().unwrap();
    arena
}

fn go_on(arena: &Arena) {
    let kept = blocks(arena);
    arena.trim().unwrap();
    for round in 0..2 {
        for which in (0..4).filter(|&which| !kept[which]) {
            link(arena, which);
        }
        assert_eq!(blocks(arena), [true; 4], "round {round}");
        for which in (0..4).filter(|&which| !kept[which]) {
            free(arena, which);
        }
        arena.trim().unwrap();
    }
    assert_eq!(blocks(arena), kept);
    assert!(arena.stats().holes > 0);
    assert_eq!(arena.trim().unwrap(), 0, "something free is left");
}

pub(crate) fn all() -> Vec<Tally> {
    let trim = |arena: &Arena| assert!(arena.trim().unwrap() > 0);
    vec![
        prove("trim", with_free_slabs, trim, blocks, go_on),
        prove(
            "claim a hole for a slab of blocks",
            with_holes,
            |arena| link(arena, 0),
            blocks,
            go_on,
        ),
        prove(
            "claim holes for a span",
            with_holes,
            |arena| link(arena, 2),
            blocks,
            go_on,
        ),
        prove(
            "free into holes and trim",
            with_holes,
            |arena| {
                free(arena, 3);
                arena.trim().unwrap();
            },
            blocks,
            go_on,
        ),
    ]
}
