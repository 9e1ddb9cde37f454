//! Raw blocks, linked by relative pointers.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit, units},
};
use sharena::{Arena, RelPtr, Result, Share, sync::Mutex, sync::RawMutex};
use std::alloc::Layout;

/// A block of more than one slab.
type Large = [u64; 700];

#[derive(Share, Default)]
#[repr(C)]
struct Links {
    a: Option<RelPtr<u64>>,
    b: Option<RelPtr<u64>>,
    large: Option<RelPtr<Large>>,
    sum: u64,
}

#[derive(Share, Default)]
#[repr(C)]
struct Linked {
    links: Mutex<Links>,
    raw: RawMutex,
}

type Seen = (Option<u64>, Option<u64>, Option<u64>, u64);

pub(super) fn subject() -> Subject<Seen> {
    let mut starts = vec![
        Start::own("nothing linked", |arena| change(arena, |_| Ok(()))),
        Start::own("one linked", link_a),
        Start::own("two linked", both),
        Start::own("a span linked", link_large),
        Start::own("all linked", all),
        Start::own("after removals", |arena| {
            all(arena)?;
            unlink_a(arena)?;
            unlink_large(arena)
        }),
    ];
    starts.push(Start::unattached(all));
    starts.extend(Start::in_all_conditions(all));
    Subject {
        name: "links",
        starts,
        operations: vec![
            unit("link and free the old", link_a),
            unit("link a span and free the old", link_large),
            units(
                "link a span, then unlink it",
                |arena| {
                    link_large(arena)?;
                    unlink_large(arena)
                },
                &[link_large],
            ),
            unit("unlink", unlink_a),
            unit("unlink all", |arena| {
                arena.section(|| {
                    unlink_a(arena)?;
                    unlink_large(arena)
                })
            }),
            unit("exchange", |arena| {
                change(arena, |links| {
                    std::mem::swap(&mut links.a, &mut links.b);
                    Ok(())
                })
            }),
            unit("allocate and give back", |arena| {
                for size in [24, 500, 5000] {
                    let layout = Layout::from_size_align(size, 8).expect("a sane layout");
                    drop(arena.alloc(layout)?);
                }
                Ok(())
            }),
            unit("give out and free in a section", |arena| {
                arena.section(|| {
                    let block = arena.alloc_value(3u64)?.into_raw()?;
                    link_a(arena)?;
                    // SAFETY: given out just now, and nobody else knows of it.
                    unsafe { arena.dealloc(block) }
                })
            }),
            unit("a lock without a section", |arena| {
                let root = start::root::<Linked>(arena, "links")?;
                use parking_lot::lock_api::RawMutex as _;
                if root.raw.try_lock() {
                    // SAFETY: taken just now.
                    unsafe { root.raw.unlock() };
                }
                Ok(())
            }),
        ],
        observe,
        go_on: |arena| {
            both(arena)?;
            link_large(arena)?;
            unlink_large(arena)?;
            unlink_a(arena)
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn change(arena: &Arena, f: impl FnOnce(&mut Links) -> Result) -> Result {
    let root = start::root::<Linked>(arena, "links")?;
    let mut guard = root.links.lock()?;
    f(&mut guard)
}

/// Links a new block, and frees the one that was linked before.
fn replace<T: Share>(
    arena: &Arena,
    value: T,
    link: impl FnOnce(&mut Links) -> &mut Option<RelPtr<T>>,
) -> Result {
    let block = arena.alloc_value(value)?;
    change(arena, |links| {
        links.sum += 1;
        let link = link(links);
        let old = link.take();
        block.link(link)?;
        match old {
            // SAFETY: linked here only, and taken out just now.
            Some(old) => unsafe { arena.dealloc(old) },
            None => Ok(()),
        }
    })
}

fn unlink<T>(arena: &Arena, link: impl FnOnce(&mut Links) -> &mut Option<RelPtr<T>>) -> Result {
    change(arena, |links| match link(links).take() {
        // SAFETY: linked here only, and taken out just now.
        Some(old) => unsafe { arena.dealloc(old) },
        None => Ok(()),
    })
}

fn link_a(arena: &Arena) -> Result {
    replace(arena, 1, |links| &mut links.a)
}

fn unlink_a(arena: &Arena) -> Result {
    unlink(arena, |links| &mut links.a)
}

fn link_large(arena: &Arena) -> Result {
    replace(arena, [7; 700], |links| &mut links.large)
}

fn unlink_large(arena: &Arena) -> Result {
    unlink(arena, |links| &mut links.large)
}

fn both(arena: &Arena) -> Result {
    link_a(arena)?;
    replace(arena, 2, |links| &mut links.b)
}

fn all(arena: &Arena) -> Result {
    both(arena)?;
    link_large(arena)
}

fn observe(arena: &Arena) -> Seen {
    let root = start::root::<Linked>(arena, "links").unwrap();
    let guard = root.links.lock().unwrap();
    // SAFETY: what is linked is allocated and filled, and the lock is held.
    let get = |p: Option<RelPtr<u64>>| p.map(|p| unsafe { *p.resolve(arena).unwrap() });
    // SAFETY: as above.
    let large = guard
        .large
        .map(|p| unsafe { (*p.resolve(arena).unwrap()).iter().sum() });
    (get(guard.a), get(guard.b), large, guard.sum)
}
