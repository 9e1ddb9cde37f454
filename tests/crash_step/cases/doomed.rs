//! Dropping more than a slot's log has room for: it is taken apart after the commit.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Act, Subject, unit},
};
use sharena::{
    Arena, Error, Result,
    collections::{String, Vec as Shared},
    sync::Mutex,
};

type Words = Mutex<Shared<String>>;

pub(super) fn subject() -> Subject<usize> {
    let many: Act = |arena| with(arena, 400, "word");
    let mut starts = vec![
        Start::own("just too many", |arena| with(arena, 350, "word")),
        Start::own("many", many),
        Start::own("many more", |arena| with(arena, 700, "word")),
        Start::own("large ones", |arena| with(arena, 360, &"word ".repeat(40))),
        Start::own("after removals", |arena| {
            with(arena, 500, "word")?;
            let root = start::root::<Words>(arena, "many words")?;
            root.lock()?.truncate(400);
            Ok(())
        }),
    ];
    starts.extend(Start::in_all_conditions(many));
    Subject {
        name: "doomed",
        starts,
        operations: vec![
            unit("clear", |arena| change(arena, |words| Ok(words.clear()))),
            unit("replace", |arena| {
                change(arena, |words| Ok(*words = Shared::new()))
            }),
            unit("clear and undo", |arena| {
                let root = start::root::<Words>(arena, "many words")?;
                let root = &*root;
                let undone = arena.transaction(|tx| {
                    tx.lock(root)?.clear();
                    Err::<(), _>(Error::other("taken back"))
                });
                assert!(undone.is_err());
                Ok(())
            }),
        ],
        observe: |arena| {
            let root = start::root::<Words>(arena, "many words").unwrap();
            let words = root.lock().unwrap();
            words.iter().map(|word| word.len()).sum()
        },
        go_on: |arena| {
            change(arena, |words| {
                words.push_from("one more")?;
                Ok(drop(words.pop()))
            })
        },
        pace: Pace::Stores,
        outlives: true,
    }
}

fn with(arena: &Arena, count: usize, word: &str) -> Result {
    arena.root::<Words>("many words")?;
    change(arena, |words| {
        (0..count).try_for_each(|_| words.push_from(word))
    })
}

fn change(arena: &Arena, f: impl FnOnce(&mut Shared<String>) -> Result) -> Result {
    let root = start::root::<Words>(arena, "many words")?;
    f(&mut *root.lock()?)
}
