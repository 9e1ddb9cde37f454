//! Dropping more than a slot's log has room for: it is taken apart after the commit.

use crate::{
    start::{self, Condition, Start},
    stepper::Pace,
    subject::{Act, Subject, unit},
};
use sharena::{
    Arena, Error, Result, Share,
    collections::{String, Vec as Shared},
    sync::Mutex,
};

type Words = Mutex<Shared<String>>;

/// What fills a log, beyond the arena's maximum too, and what is dropped then.
#[derive(Share, Default)]
#[repr(C)]
struct Both {
    numbers: [Shared<u64>; 30],
    words: [String; 8],
    named: Shared<String>,
}

/// Numbers in each list, where a log shall be filled.
const MANY: usize = 230;

pub(super) fn subject() -> Subject<usize> {
    let many: Act = |arena| with(arena, 400, "a word in its own block");
    let mut starts = vec![
        Start::own("just too many", |arena| {
            with(arena, 350, "a word in its own block")
        }),
        Start::own("many", many),
        Start::own("many more", |arena| {
            with(arena, 700, "a word in its own block")
        }),
        Start::own("large ones", |arena| with(arena, 360, &"word ".repeat(40))),
        Start::own("after removals", |arena| {
            with(arena, 500, "a word in its own block")?;
            let root = start::root::<Words>(arena, "many words")?;
            root.lock()?.truncate(400);
            Ok(())
        }),
    ];
    starts.push(Start {
        name: "full to the last block",
        fill: many,
        condition: Condition::FullToTheLast,
    });
    starts.push(Start {
        name: "full, and so can be its log",
        fill: |arena| with_numbers(arena, 350, "a word in its own block", MANY),
        condition: Condition::FullToTheLast,
    });
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
            unit("drop when the log is full", |arena| {
                let both = start::root::<Mutex<Both>>(arena, "both")?;
                let mut guard = both.lock()?;
                let both = &mut *guard;
                for numbers in &mut both.numbers {
                    // Where the log cannot grow, there is no room for the last ones.
                    let Ok(numbers) = numbers.try_as_mut_slice() else {
                        break;
                    };
                    numbers[0] += 1;
                }
                both.words = Default::default();
                both.named = Shared::new();
                Ok(())
            }),
        ],
        observe: |arena| {
            let root = start::root::<Words>(arena, "many words").unwrap();
            let words = root.lock().unwrap();
            let in_words: usize = words.iter().map(|word| word.len()).sum();
            drop(words);
            let both = start::root::<Mutex<Both>>(arena, "both").unwrap();
            let both = both.lock().unwrap();
            let first: u64 = both.numbers.iter().map(|numbers| numbers[0]).sum();
            let others = both.words.iter().chain(both.named.iter());
            let others: usize = others.map(|word| word.len()).sum();
            in_words + first as usize * 10_000 + others * 1_000_000
        },
        go_on: |arena| {
            change(arena, |words| {
                words.push_from("one more that has its own block")?;
                Ok(drop(words.pop()))
            })
        },
        pace: Pace::Stores,
        outlives: true,
    }
}

fn with(arena: &Arena, count: usize, word: &str) -> Result {
    with_numbers(arena, count, word, 2)
}

fn with_numbers(arena: &Arena, count: usize, word: &str, numbers_each: usize) -> Result {
    arena.root::<Words>("many words")?;
    let both = arena.root::<Mutex<Both>>("both")?;
    for numbers in &mut both.lock()?.numbers {
        numbers.resize(numbers_each, 0)?;
    }
    for word in &mut both.lock()?.words {
        word.assign("a word in its own block")?;
    }
    for _ in 0..12 {
        both.lock()?.named.push_from("a name in its own block")?;
    }
    change(arena, |words| {
        (0..count).try_for_each(|_| words.push_from(word))
    })
}

fn change(arena: &Arena, f: impl FnOnce(&mut Shared<String>) -> Result) -> Result {
    let root = start::root::<Words>(arena, "many words")?;
    f(&mut *root.lock()?)
}
