//! Blocks that are freed where no section is open: by one change of one bit, without a journal.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit},
};
use sharena::{Arena, RelPtr, Result, Share, sync::Mutex};

type Large = [u64; 700];

/// Pointers that are kept when their blocks are freed: each operation frees one once.
#[derive(Share, Default)]
#[repr(C)]
struct Kept {
    small: Option<RelPtr<u64>>,
    medium: Option<RelPtr<[u64; 50]>>,
    large: Option<RelPtr<Large>>,
    new: Option<RelPtr<u64>>,
}

/// How many pointers lead to no block, as their blocks are free.
type Seen = u64;

pub(super) fn subject() -> Subject<Seen> {
    let mut starts = vec![
        Start::own("own blocks", fill),
        Start::own("own blocks, others freed", |arena| {
            fill(arena)?;
            link_new(arena)?;
            unlink_new(arena)
        }),
        Start::own("one more block", |arena| {
            fill(arena)?;
            link_new(arena)
        }),
        Start::own("one more block in front", |arena| {
            link_new(arena)?;
            fill(arena)
        }),
        Start::unattached(fill),
    ];
    starts.extend(Start::in_all_conditions(fill));
    Subject {
        name: "frees",
        starts,
        operations: vec![
            unit("free a small block", |arena| {
                let small = kept(arena, |kept| kept.small)?;
                free(arena, small)
            }),
            unit("free a medium block", |arena| {
                let medium = kept(arena, |kept| kept.medium)?;
                free(arena, medium)
            }),
            unit("free a span", |arena| {
                let large = kept(arena, |kept| kept.large)?;
                free(arena, large)
            }),
        ],
        observe,
        go_on: |arena| {
            link_new(arena)?;
            unlink_new(arena)
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn change<R>(arena: &Arena, f: impl FnOnce(&mut Kept) -> Result<R>) -> Result<R> {
    let root = start::root::<Mutex<Kept>>(arena, "kept")?;
    let mut guard = root.lock()?;
    f(&mut guard)
}

fn kept<T>(arena: &Arena, which: impl FnOnce(&Kept) -> Option<RelPtr<T>>) -> Result<RelPtr<T>> {
    let root = start::root::<Mutex<Kept>>(arena, "kept")?;
    let guard = root.lock()?;
    Ok(which(&guard).expect("each start state has it"))
}

fn free<T>(arena: &Arena, block: RelPtr<T>) -> Result {
    // SAFETY: linked in one place, from which nobody reads any more, and freed once.
    unsafe { arena.dealloc(block) }
}

fn link<T: Share>(
    arena: &Arena,
    value: T,
    place: impl FnOnce(&mut Kept) -> &mut Option<RelPtr<T>>,
) -> Result {
    let block = arena.alloc_value(value)?;
    change(arena, |kept| block.link(place(kept)).map(drop))
}

fn fill(arena: &Arena) -> Result {
    link(arena, 1, |kept| &mut kept.small)?;
    link(arena, [2; 50], |kept| &mut kept.medium)?;
    link(arena, [3; 700], |kept| &mut kept.large)
}

fn link_new(arena: &Arena) -> Result {
    unlink_new(arena)?;
    link(arena, 4, |kept| &mut kept.new)
}

fn unlink_new(arena: &Arena) -> Result {
    change(arena, |kept| match kept.new.take() {
        Some(new) => free(arena, new),
        None => Ok(()),
    })
}

fn observe(arena: &Arena) -> Seen {
    arena.check().stale_pointers()
}
