//! Semaphores: permits of the dead come back.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit, units},
};
use sharena::{Arena, Error, Result, Root, sync::Semaphore};
use std::rc::Rc;

type Two = [Semaphore; 2];

pub(super) fn subject() -> Subject<[u32; 2]> {
    let mut starts = vec![
        Start::own("no permit", |arena| with(arena, [0, 0])),
        Start::own("one permit", |arena| with(arena, [1, 0])),
        Start::own("two permits", |arena| with(arena, [2, 1])),
        Start::own("all permits there can be", |arena| {
            with(arena, [u32::MAX, 1])
        }),
        Start::own("one held", |arena| hold(arena, [2, 0], 1)),
        Start::own("the last one held", |arena| hold(arena, [1, 3], 1)),
        Start::own("several held", |arena| hold(arena, [5, 0], 3)),
        Start::own("one used up", |arena| {
            with(arena, [3, 0])?;
            use_up(arena)
        }),
    ];
    starts.push(Start::unattached(|arena| with(arena, [2, 1])));
    starts.extend(Start::in_all_conditions(|arena| hold(arena, [4, 1], 2)));
    Subject {
        name: "semaphore",
        starts,
        operations: vec![
            unit("acquire", |arena| take(&find(arena)?[0])),
            unit("acquire and release", |arena| {
                no_permit_is_fine(find(arena)?[0].try_acquire().map(drop))
            }),
            unit("acquire from both", |arena| {
                let root = find(arena)?;
                take(&root[0])?;
                take(&root[1])
            }),
            unit("acquire twice, release once", |arena| {
                let root = find(arena)?;
                let first = root[0].try_acquire();
                no_permit_is_fine(root[0].try_acquire().map(drop))?;
                no_permit_is_fine(first.map(std::mem::forget))
            }),
            unit("use up", use_up),
            unit("post", |arena| too_many_is_fine(find(arena)?[0].post())),
            units(
                "post one and three",
                |arena| {
                    let root = find(arena)?;
                    too_many_is_fine(root[0].post())?;
                    too_many_is_fine(root[0].post_many(3))
                },
                &[|arena| too_many_is_fine(find(arena)?[0].post())],
            ),
        ],
        observe: |arena| {
            let root = find(arena).unwrap();
            [root[0].available(), root[1].available()]
        },
        go_on: |arena| {
            let root = find(arena)?;
            no_permit_is_fine(root[0].try_acquire().map(drop))?;
            root[1].post()
        },
        pace: Pace::Instructions,
        outlives: false,
    }
}

fn find(arena: &Arena) -> Result<Rc<Root<Two>>> {
    start::root(arena, "semaphores")
}

fn with(arena: &Arena, permits: [u32; 2]) -> Result {
    let fill = |two: &mut Two| {
        *two = permits.map(Semaphore::new);
        Ok(())
    };
    arena.root_with::<Two>("semaphores", fill).map(drop)
}

/// The thread keeps permits of the first.
fn hold(arena: &Arena, permits: [u32; 2], held: u32) -> Result {
    with(arena, permits)?;
    let root = find(arena)?;
    (0..held).try_for_each(|_| take(&root[0]))
}

/// Takes a permit and keeps it, if there is one.
fn take(semaphore: &Semaphore) -> Result {
    no_permit_is_fine(semaphore.try_acquire().map(std::mem::forget))
}

/// Takes a permit that never comes back.
fn use_up(arena: &Arena) -> Result {
    let root = find(arena)?;
    no_permit_is_fine(root[0].try_acquire().map(|permit| permit.forget()))
}

fn no_permit_is_fine(result: Result) -> Result {
    match result {
        Err(Error::WouldBlock) => Ok(()),
        other => other,
    }
}

/// A semaphore holds so many and no more.
fn too_many_is_fine(result: Result) -> Result {
    match result {
        Err(Error::Other(_)) => Ok(()),
        other => other,
    }
}
