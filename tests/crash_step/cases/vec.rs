//! Vectors, of strings.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit},
};
use sharena::{
    Arena, Result,
    collections::{String, Vec as Shared},
    sync::Mutex,
};

type Words = Mutex<Shared<String>>;

pub(super) fn subject() -> Subject<Vec<std::string::String>> {
    let mut starts = vec![
        Start::own("empty", |arena| with(arena, &[])),
        Start::own("one element", |arena| {
            with(arena, &["alone, in its own block"])
        }),
        Start::own("three elements", three),
        Start::own("at capacity", at_capacity),
        Start::own("after removals", after_removals),
        Start::own("long strings", long_strings),
        Start::own("a buffer of many slabs", many),
    ];
    starts.push(Start::unattached(three));
    starts.extend(Start::in_all_conditions(three));
    Subject {
        name: "vec",
        starts,
        operations: vec![
            unit("push", |arena| push(arena, "pushed, with its own block")),
            unit("pop", |arena| change(arena, |words| Ok(drop(words.pop())))),
            unit("insert", insert),
            unit("remove", remove),
            unit("swap_remove", swap_remove),
            unit("truncate", |arena| {
                change(arena, |words| Ok(words.truncate(1)))
            }),
            unit("clear", |arena| change(arena, |words| Ok(words.clear()))),
            unit("drain", drain),
            unit("retain", |arena| {
                change(arena, |words| Ok(words.retain(|word| word.len() > 1)))
            }),
            unit("dedup", |arena| change(arena, |words| Ok(words.dedup()))),
            unit("extend", |arena| {
                change(arena, |words| {
                    words.try_extend(["x", "a longer one, in a block", "z"])
                })
            }),
            unit("split_off", split_off),
            unit("resize_with", |arena| {
                change(arena, |words| words.resize_with(5, String::new))
            }),
            unit("reserve", |arena| change(arena, |words| words.reserve(20))),
            unit("shrink_to_fit", |arena| {
                change(arena, Shared::shrink_to_fit)
            }),
            unit("move an element", move_an_element),
            unit("drop all", |arena| {
                change(arena, |words| {
                    *words = Shared::new();
                    Ok(())
                })
            }),
            unit("change each", change_each),
        ],
        observe,
        go_on,
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn change(arena: &Arena, f: impl FnOnce(&mut Shared<String>) -> Result) -> Result {
    let root = start::root::<Words>(arena, "words")?;
    let mut guard = root.lock()?;
    f(&mut guard)
}

fn with(arena: &Arena, texts: &[&str]) -> Result {
    change(arena, |words| {
        texts.iter().try_for_each(|&text| words.push_from(text))
    })
}

fn three(arena: &Arena) -> Result {
    with(
        arena,
        &["a word in its own block", "a word that is longer", "c"],
    )
}

fn at_capacity(arena: &Arena) -> Result {
    change(arena, |words| {
        words.push_from("first, in its own block")?;
        while words.len() < words.capacity() {
            words.push_from("up to capacity, in blocks")?;
        }
        Ok(())
    })
}

fn after_removals(arena: &Arena) -> Result {
    with(
        arena,
        &[
            "a, which has its own block",
            "b, which has its own block",
            "c is the longest here",
            "d",
            "e, which has its own block",
            "f",
        ],
    )?;
    change(arena, |words| {
        words.pop();
        drop(words.remove(1));
        words.retain(|word| word.as_str() != "d");
        Ok(())
    })
}

fn long_strings(arena: &Arena) -> Result {
    with(arena, &[&"l".repeat(5000), "short", &"m".repeat(1500)])
}

fn many(arena: &Arena) -> Result {
    change(arena, |words| {
        words.reserve_exact(120)?;
        ["a, in its own block", "b", "c, in its own block"]
            .iter()
            .try_for_each(|&text| words.push_from(text))
    })
}

fn push(arena: &Arena, text: &str) -> Result {
    change(arena, |words| words.push_from(text))
}

fn insert(arena: &Arena) -> Result {
    change(arena, |words| {
        let middle = words.len() / 2;
        words.insert(middle, "in the middle, in a block")
    })
}

fn remove(arena: &Arena) -> Result {
    change(arena, |words| {
        if !words.is_empty() {
            drop(words.remove(0));
        }
        Ok(())
    })
}

fn swap_remove(arena: &Arena) -> Result {
    change(arena, |words| {
        if !words.is_empty() {
            drop(words.swap_remove(0));
        }
        Ok(())
    })
}

fn drain(arena: &Arena) -> Result {
    change(arena, |words| {
        let some = words.len().min(2);
        drop(words.drain(..some));
        Ok(())
    })
}

fn split_off(arena: &Arena) -> Result {
    change(arena, |words| {
        let tail = words.split_off(words.len().min(1))?;
        *words = tail;
        Ok(())
    })
}

fn move_an_element(arena: &Arena) -> Result {
    change(arena, |words| {
        if words.len() > 1 {
            let text = words.remove(0).take();
            words.insert(1, text)?;
        }
        Ok(())
    })
}

fn change_each(arena: &Arena) -> Result {
    change(arena, |words| {
        words.iter_mut().try_for_each(|word| word.push('!'))
    })
}

fn observe(arena: &Arena) -> Vec<std::string::String> {
    let root = start::root::<Words>(arena, "words").unwrap();
    let guard = root.lock().unwrap();
    guard.iter().map(|word| word.to_string()).collect()
}

fn go_on(arena: &Arena) -> Result {
    push(arena, "one more")?;
    change(arena, |words| {
        words.pop();
        Ok(())
    })?;
    remove(arena)
}
