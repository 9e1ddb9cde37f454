//! Threads that detach from an arena, and attach to it again.

use crate::{
    start::{self, Condition, Start},
    stepper::Pace,
    subject::{Act, Subject, unit},
};
use sharena::{
    Arena, Result,
    collections::{String, Vec as Shared},
    sync::Mutex,
};

type Words = Mutex<Shared<String>>;

pub(super) fn subject() -> Subject<Vec<usize>> {
    let some: Act = |arena| with(arena, &[3, 40, 300]);
    let mut starts = vec![
        Start::own("nothing of its own", |arena| with(arena, &[])),
        Start::own("a few blocks", some),
        Start::own("a span", |arena| with(arena, &[3, 9000])),
        Start::own("empty slabs", |arena| {
            with(arena, &[3, 40, 300, 1000, 2000])?;
            change(arena, |words| Ok(words.truncate(1)))
        }),
        Start::own("segments of a log", |arena| {
            with(arena, &[10; 200])?;
            change(arena, |words| Ok(words.truncate(2)))
        }),
        Start::own("a free span", |arena| {
            with(arena, &[3, 9000])?;
            change(arena, |words| Ok(words.truncate(1)))
        }),
        Start {
            name: "full to the last block",
            fill: some,
            condition: Condition::FullToTheLast,
        },
    ];
    starts.push(Start::unattached(some));
    starts.extend(Start::in_all_conditions(some));
    Subject {
        name: "threads",
        starts,
        operations: vec![
            unit("attach, detach, attach", |arena| {
                drop(arena.alloc_value(1u64)?);
                arena.detach();
                drop(arena.alloc_value([1u64; 30])?);
                Ok(())
            }),
            unit("detach", |arena| Ok(arena.detach())),
            unit("detach and attach", |arena| {
                arena.detach();
                arena.reap().map(drop)?;
                // Attaches.
                drop(arena.alloc_value(1u64)?);
                Ok(())
            }),
            unit("change and detach", |arena| {
                change(arena, |words| words.push_from("one more"))?;
                Ok(arena.detach())
            }),
        ],
        observe: |arena| {
            let root = start::root::<Words>(arena, "words").unwrap();
            let words = root.lock().unwrap();
            words.iter().map(|word| word.len()).collect()
        },
        go_on: |arena| {
            change(arena, |words| {
                words.push_from("one more")?;
                Ok(drop(words.pop()))
            })
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn with(arena: &Arena, lengths: &[usize]) -> Result {
    arena.root::<Words>("words")?;
    change(arena, |words| {
        words.reserve_exact(8)?;
        lengths
            .iter()
            .try_for_each(|&len| words.push_from("w".repeat(len).as_str()))
    })
}

fn change(arena: &Arena, f: impl FnOnce(&mut Shared<String>) -> Result) -> Result {
    let root = start::root::<Words>(arena, "words")?;
    f(&mut *root.lock()?)
}
