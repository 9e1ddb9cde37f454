//! Free slabs become holes, and holes are used again.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Act, Subject, unit},
};
use sharena::{Arena, Error, RelPtr, Result, sync::Mutex};
use std::alloc::Layout;

type Pointers = Mutex<[Option<RelPtr<u8>>; 4]>;

/// A small block, a large one, a span, a longer one.
const SIZES: [usize; 4] = [40, 2000, 5000, 30_000];

pub(super) fn subject() -> Subject<[bool; 4]> {
    let some: Act = |arena| with(arena, &[1, 3]);
    let mut starts = vec![
        Start::own("nothing but free slabs", |arena| with(arena, &[])),
        Start::own("a small block stays", |arena| with(arena, &[0])),
        Start::own("large ones stay", some),
        Start::own("all stay", |arena| with(arena, &[0, 1, 2, 3])),
        Start::own("nothing but holes", |arena| trimmed(arena, &[])),
        Start::own("holes beside a small block", |arena| trimmed(arena, &[0])),
        Start::own("holes beside large ones", |arena| trimmed(arena, &[1, 3])),
        Start::own("trimmed for nothing", |arena| trimmed(arena, &[0, 1, 2, 3])),
    ];
    starts.extend(Start::in_all_conditions(some));
    Subject {
        name: "trim",
        starts,
        operations: vec![
            unit("trim", |arena| arena.trim().map(drop)),
            unit("link a small block", |arena| link(arena, 0)),
            unit("link a span", |arena| link(arena, 2)),
            unit("free one and trim", |arena| {
                free(arena, 3)?;
                arena.trim().map(drop)
            }),
        ],
        observe: |arena| blocks(arena).unwrap(),
        go_on,
        pace: Pace::Instructions,
        outlives: true,
    }
}

/// The bytes of a block that are written to: few, since each is a crash state.
fn marked(which: usize) -> impl Iterator<Item = usize> {
    (0..SIZES[which]).step_by(3000)
}

/// Links a block where none is, if there is room.
fn link(arena: &Arena, which: usize) -> Result {
    let root = start::root::<Pointers>(arena, "blocks")?;
    if root.lock()?[which].is_some() {
        return Ok(());
    }
    let layout = Layout::from_size_align(SIZES[which], 8).map_err(Error::other)?;
    let block = match arena.alloc(layout) {
        Err(Error::Full { .. } | Error::NoSpace { .. }) => return Ok(()),
        block => block?,
    };
    for at in marked(which) {
        // SAFETY: inside the block, which is reserved for us.
        unsafe { block.as_ptr().add(at).write(which as u8 + 1) };
    }
    block.link(&mut root.lock()?[which]).map(drop)
}

fn free(arena: &Arena, which: usize) -> Result {
    let root = start::root::<Pointers>(arena, "blocks")?;
    let mut guard = root.lock()?;
    match guard[which].take() {
        // SAFETY: linked here only, and taken out just now.
        Some(old) => unsafe { arena.dealloc(old) },
        None => Ok(()),
    }
}

/// Which blocks there are; what was written to them is there.
fn blocks(arena: &Arena) -> Result<[bool; 4]> {
    let root = start::root::<Pointers>(arena, "blocks")?;
    let guard = root.lock()?;
    let mut found = [false; 4];
    for (which, block) in guard.iter().enumerate() {
        let Some(block) = block else { continue };
        let place = block.resolve(arena)?;
        // SAFETY: what is linked is allocated and was marked, and the lock is held.
        let byte = |at| unsafe { place.add(at).read() };
        assert!(marked(which).all(|at| byte(at) == which as u8 + 1));
        found[which] = true;
    }
    Ok(found)
}

/// Links all of them, and frees those that do not stay.
fn with(arena: &Arena, stay: &[usize]) -> Result {
    arena.root::<Pointers>("blocks")?;
    (0..4).try_for_each(|which| link(arena, which))?;
    (0..4)
        .filter(|which| !stay.contains(which))
        .try_for_each(|which| free(arena, which))
}

fn trimmed(arena: &Arena, stay: &[usize]) -> Result {
    with(arena, stay)?;
    arena.trim().map(drop)
}

fn go_on(arena: &Arena) -> Result {
    let kept = blocks(arena)?;
    arena.trim()?;
    (0..4).try_for_each(|which| link(arena, which))?;
    for which in (0..4).filter(|&which| !kept[which]) {
        free(arena, which)?;
    }
    arena.trim()?;
    assert_eq!(blocks(arena)?, kept);
    Ok(())
}
