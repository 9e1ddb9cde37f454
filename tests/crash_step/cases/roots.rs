//! Roots: creating, finding and removing them.

use crate::{
    start::Start,
    stepper::Pace,
    subject::{Subject, unit, units},
};
use sharena::{
    Arena, Error, Result,
    collections::{HashMap, String, Vec as Shared},
    sync::Mutex,
};

type Deep = Mutex<HashMap<String, Shared<String>>>;

pub(super) fn subject() -> Subject<Vec<std::string::String>> {
    let mut starts = vec![
        Start::own("none", |_| Ok(())),
        Start::own("one", |arena| create(arena, "old")),
        Start::own("several", several),
        Start::own("many", |arena| {
            several(arena)?;
            (0..20).try_for_each(|number| create(arena, &format!("root {number}")))
        }),
        Start::own("after removals", |arena| {
            several(arena)?;
            arena.remove("old")?;
            arena.remove("a")
        }),
        Start::own("a deep one", |arena| create_deep(arena, "old")),
        Start::removed("removed, and in use by the dead", several, "a"),
    ];
    starts.push(Start::unattached(several));
    starts.extend(Start::in_all_conditions(|arena| {
        create_deep(arena, "old")?;
        create(arena, "a")
    }));
    Subject {
        name: "roots",
        starts,
        operations: vec![
            unit("create", |arena| create(arena, "new")),
            unit("create a deep one", |arena| create_deep(arena, "new")),
            unit("find or create", |arena| create(arena, "a")),
            unit("find", |arena| {
                none_is_fine(arena.find::<Mutex<u64>>("a").map(drop))
            }),
            unit("remove", |arena| none_is_fine(arena.remove("old"))),
            units(
                "create and remove",
                |arena| {
                    create(arena, "new")?;
                    arena.remove("new")
                },
                &[|arena| create(arena, "new")],
            ),
            unit("fail to create", |arena| {
                let filled = arena.root_with::<Mutex<Shared<String>>>("new", |list| {
                    list.get_mut()?.push_from("dropped again, with its block")?;
                    Err(Error::from("no"))
                });
                match filled {
                    Err(error @ Error::Full { .. }) => Err(error),
                    _ => Ok(()),
                }
            }),
            unit("reap", |arena| arena.reap().map(drop)),
        ],
        observe: |arena| {
            let roots = arena.roots().unwrap();
            roots.iter().map(|root| format!("{root:?}")).collect()
        },
        go_on: |arena| {
            create(arena, "another")?;
            arena.remove("another")?;
            none_is_fine(arena.remove("old"))
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn create(arena: &Arena, name: &str) -> Result {
    match arena.root::<Mutex<u64>>(name) {
        Err(Error::TypeMismatch { .. }) => Ok(()),
        other => other.map(drop),
    }
}

fn create_deep(arena: &Arena, name: &str) -> Result {
    let fill = |deep: &mut Deep| {
        let map = deep.get_mut()?;
        for key in ["a", "b"] {
            let list = map.entry(key).or_default()?;
            list.push_from("a string that is long enough for a block of its own")?;
            list.push_from("another")?;
        }
        Ok(())
    };
    arena.root_with::<Deep>(name, fill).map(drop)
}

fn several(arena: &Arena) -> Result {
    ["old", "a", "b"]
        .iter()
        .try_for_each(|name| create(arena, name))
}

fn none_is_fine(result: Result) -> Result {
    match result {
        Err(Error::UnknownRoot { .. } | Error::TypeMismatch { .. }) => Ok(()),
        other => other,
    }
}
