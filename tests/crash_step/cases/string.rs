//! Strings.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit},
};
use sharena::{Arena, Result, collections::String, sync::Mutex};

type Text = Mutex<String>;

pub(super) fn subject() -> Subject<std::string::String> {
    let mut starts = vec![
        Start::own("empty", |arena| with(arena, "")),
        Start::own("one letter", |arena| with(arena, "a")),
        Start::own("several bytes to a letter", |arena| with(arena, "äöü€𝄞")),
        Start::own("the longest without a block", |arena| {
            with(arena, "0123456789abcdef")
        }),
        Start::own("short, in a block", short_in_a_block),
        Start::own("at capacity", at_capacity),
        Start::own("after removals", after_removals),
        Start::own("long", |arena| with(arena, &"long ".repeat(300))),
        Start::own("many slabs", |arena| with(arena, &"longest ".repeat(520))),
    ];
    starts.extend(Start::in_all_conditions(|arena| {
        with(arena, "some text of some length")
    }));
    Subject {
        name: "string",
        starts,
        operations: vec![
            unit("push", |arena| change(arena, |text| text.push('€'))),
            unit("push_str that grows", |arena| {
                change(arena, |text| text.push_str(&"0123456789".repeat(12)))
            }),
            unit("pop", |arena| {
                change(arena, |text| {
                    text.pop();
                    Ok(())
                })
            }),
            unit("assign", |arena| change(arena, |text| text.assign("other"))),
            unit("insert_str", |arena| {
                change(arena, |text| text.insert_str(0, "before "))
            }),
            unit("replace_range", |arena| {
                change(arena, |text| text.replace_range(.., "with"))
            }),
            unit("remove", remove),
            unit("retain", |arena| {
                change(arena, |text| Ok(text.retain(|c| c != 'e' && c != 'ö')))
            }),
            unit("truncate", |arena| {
                change(arena, |text| Ok(text.truncate(0)))
            }),
            unit("clear", |arena| change(arena, |text| Ok(text.clear()))),
            unit("shrink_to_fit", |arena| {
                change(arena, String::shrink_to_fit)
            }),
            unit("split_off", |arena| {
                change(arena, |text| {
                    *text = text.split_off(0)?;
                    Ok(())
                })
            }),
            unit("change in place", |arena| {
                change(arena, |text| Ok(text.as_mut_str().make_ascii_uppercase()))
            }),
            unit("drop", |arena| {
                change(arena, |text| {
                    *text = String::new();
                    Ok(())
                })
            }),
        ],
        observe: |arena| {
            start::root::<Text>(arena, "text")
                .unwrap()
                .lock()
                .unwrap()
                .to_string()
        },
        go_on: |arena| {
            change(arena, |text| text.push_str("and more"))?;
            remove(arena)
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn change(arena: &Arena, f: impl FnOnce(&mut String) -> Result) -> Result {
    let root = start::root::<Text>(arena, "text")?;
    let mut guard = root.lock()?;
    f(&mut guard)
}

fn with(arena: &Arena, content: &str) -> Result {
    change(arena, |text| text.assign(content))
}

fn at_capacity(arena: &Arena) -> Result {
    change(arena, |text| {
        text.push_str("full, in a block")?;
        text.push('.')?;
        while text.len() < text.capacity() {
            text.push('.')?;
        }
        Ok(())
    })
}

fn short_in_a_block(arena: &Arena) -> Result {
    with(arena, "text that was longer")?;
    change(arena, |text| Ok(text.truncate(7)))
}

fn after_removals(arena: &Arena) -> Result {
    with(arena, &"text that was longer ".repeat(10))?;
    change(arena, |text| {
        text.truncate(30);
        text.pop();
        Ok(())
    })
}

fn remove(arena: &Arena) -> Result {
    change(arena, |text| {
        if !text.is_empty() {
            text.remove(0);
        }
        Ok(())
    })
}
