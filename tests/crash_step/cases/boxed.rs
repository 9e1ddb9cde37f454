//! Boxes: a list of boxed nodes.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit},
};
use sharena::{
    Arena, Result, Share,
    collections::{Box as Shared, String},
    sync::Mutex,
};

#[derive(Share, Default)]
#[repr(C)]
struct Node {
    number: u64,
    name: String,
    next: Shared<Node>,
}

type List = Mutex<Shared<Node>>;

pub(super) fn subject() -> Subject<Vec<(u64, std::string::String)>> {
    let mut starts = vec![
        Start::own("empty", |arena| change(arena, |_| Ok(()))),
        Start::own("one", |arena| with(arena, 1)),
        Start::own("three", |arena| with(arena, 3)),
        Start::own("deep", |arena| with(arena, 30)),
        Start::own("a long name", |arena| {
            with(arena, 2)?;
            change(arena, |list| match list.get_mut() {
                Some(node) => node.name.assign(&"name ".repeat(1000)),
                None => Ok(()),
            })
        }),
        Start::own("after removals", |arena| {
            with(arena, 6)?;
            (0..4).try_for_each(|_| pop(arena))
        }),
        Start::own("cleared", |arena| {
            with(arena, 2)?;
            change(arena, |list| Ok(list.clear()))
        }),
    ];
    starts.extend(Start::in_all_conditions(|arena| with(arena, 3)));
    Subject {
        name: "box",
        starts,
        operations: vec![
            unit("set", |arena| {
                change(arena, |list| list.set(Node::default()).map(drop))
            }),
            unit("push in front", |arena| push(arena, 77)),
            unit("pop in front", pop),
            unit("change", |arena| {
                change(arena, |list| {
                    let Some(node) = list.get_mut() else {
                        return Ok(());
                    };
                    node.number += 1;
                    node.name.push_str(" changed")
                })
            }),
            unit("change the last", |arena| {
                change(arena, |list| {
                    let mut last = list;
                    while !last.is_empty() {
                        last = &mut last.get_mut().expect("not empty").next;
                    }
                    last.set(Node::default()).map(drop)
                })
            }),
            unit("cut off the rest", |arena| {
                change(arena, |list| {
                    if let Some(node) = list.get_mut() {
                        node.next.clear();
                    }
                    Ok(())
                })
            }),
            unit("take and put back", |arena| {
                change(arena, |list| {
                    let Some(taken) = list.take() else {
                        return Ok(());
                    };
                    let mut node = taken.take();
                    node.number += 100;
                    list.set(node).map(drop)
                })
            }),
            unit("clear", |arena| change(arena, |list| Ok(list.clear()))),
        ],
        observe,
        go_on: |arena| {
            push(arena, 5)?;
            pop(arena)?;
            pop(arena)
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn change(arena: &Arena, f: impl FnOnce(&mut Shared<Node>) -> Result) -> Result {
    let root = start::root::<List>(arena, "list")?;
    let mut guard = root.lock()?;
    f(&mut guard)
}

fn with(arena: &Arena, nodes: u64) -> Result {
    (0..nodes).try_for_each(|number| push(arena, number))
}

fn push(arena: &Arena, number: u64) -> Result {
    change(arena, |list| {
        let next = std::mem::take(list);
        let node = Node {
            number,
            name: String::new(),
            next,
        };
        let node = list.set(node)?;
        node.name.push_str("named, in its own block")
    })
}

fn pop(arena: &Arena) -> Result {
    change(arena, |list| {
        if let Some(node) = list.get_mut() {
            let next = std::mem::take(&mut node.next);
            *list = next;
        }
        Ok(())
    })
}

fn observe(arena: &Arena) -> Vec<(u64, std::string::String)> {
    let root = start::root::<List>(arena, "list").unwrap();
    let guard = root.lock().unwrap();
    let mut next = guard.get();
    std::iter::from_fn(|| {
        let node = next?;
        next = node.next.get();
        Some((node.number, node.name.to_string()))
    })
    .collect()
}
