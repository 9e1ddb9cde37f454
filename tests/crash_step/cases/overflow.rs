//! A log that goes on beyond the maximum of a full arena: for whatever is recorded, then for what is
//! dropped alone.

use crate::{
    start::{self, Condition, Start},
    stepper::Pace,
    subject::{Subject, unit, units},
};
use sharena::{
    Arena, Error, Result, Share,
    collections::{String, Vec as Shared},
    sync::Mutex,
};
use std::thread;

#[derive(Share, Default)]
#[repr(C)]
struct Both {
    /// What fills a log: more than it may have for that.
    numbers: Shared<Shared<u64>>,
    /// Each is a block that is dropped by itself.
    words: Shared<String>,
}

type World = Mutex<Both>;

const NUMBERS: usize = 30;
const WORDS: usize = 100;

pub(super) fn subject() -> Subject<(u64, usize)> {
    let full = |name, fill| Start {
        name,
        fill,
        condition: Condition::FullToTheLast,
    };
    let mut starts = vec![
        Start::own("room enough", |arena| {
            fill(arena, &["a word in its own block"])
        }),
        full("full to the last block", |arena| {
            fill(arena, &["a word in its own block"])
        }),
        full("longer words", |arena| {
            fill(arena, &["a word of some length"])
        }),
        full("words of all sizes", |arena| {
            let long = "a word in its own block".repeat(60);
            fill(
                arena,
                &[
                    "a word in its own block",
                    &long[..20],
                    &long[..50],
                    &long,
                    &long[..100],
                ],
            )
        }),
        full("after removals", |arena| {
            fill(
                arena,
                &["a word in its own block", "another word in its own block"],
            )?;
            change(arena, |both| {
                (0..WORDS)
                    .step_by(3)
                    .for_each(|index| both.words[index].clear());
                Ok(both.words[WORDS / 2] = String::new())
            })
        }),
        full("blocks of others", |arena| {
            let fill = || fill(arena, &["a word in its own block"]);
            thread::scope(|scope| scope.spawn(fill).join().expect("no panic"))
        }),
    ];
    // `Condition::Full` takes more room itself than is left beside so long a log.
    let conditions = Start::in_all_conditions(|arena| fill(arena, &["a word in its own block"]));
    starts.extend(conditions.into_iter().skip(1));
    Subject {
        name: "overflow",
        starts,
        operations: vec![
            unit("record and drop", |arena| {
                change(arena, |both| {
                    record(both)?;
                    Ok(drop_words(both, WORDS))
                })
            }),
            units(
                "commit in between, and drop",
                |arena| {
                    let root = start::root::<World>(arena, "overflow")?;
                    let mut guard = root.lock()?;
                    record(&mut guard)?;
                    drop_words(&mut guard, 80);
                    guard.commit()?;
                    guard.numbers[0][0] += 1;
                    Ok(drop_words(&mut guard, WORDS))
                },
                &[|arena| {
                    change(arena, |both| {
                        record(both)?;
                        Ok(drop_words(both, 80))
                    })
                }],
            ),
            unit("undo", |arena| {
                let root = start::root::<World>(arena, "overflow")?;
                let root = &*root;
                let undone = arena.transaction(|tx| {
                    let mut guard = tx.lock(root)?;
                    record(&mut guard)?;
                    drop_words(&mut guard, WORDS);
                    Err::<(), _>(Error::other("taken back"))
                });
                assert!(undone.is_err());
                Ok(())
            }),
        ],
        observe: |arena| {
            let root = start::root::<World>(arena, "overflow").unwrap();
            let both = root.lock().unwrap();
            let sum = both.numbers.iter().flat_map(|numbers| numbers.iter());
            let words = both.words.iter().filter(|word| !word.is_empty());
            (sum.sum(), words.count())
        },
        go_on: |arena| {
            change(arena, |both| {
                both.words[0].assign("one more that has its own block")
            })
        },
        pace: Pace::Stores,
        outlives: true,
    }
}

fn fill(arena: &Arena, words: &[&str]) -> Result {
    arena.root::<World>("overflow")?;
    change(arena, |both| {
        for _ in 0..NUMBERS {
            both.numbers.push(Shared::new())?;
            let last = both.numbers.len() - 1;
            both.numbers[last].resize(230, 0)?;
        }
        let words = words.iter().cycle().take(WORDS);
        words
            .copied()
            .try_for_each(|word| both.words.push_from(word))
    })
}

/// Records all words, and as many numbers as the log has room for, which change.
fn record(both: &mut Both) -> Result {
    both.words.try_as_mut_slice()?;
    for numbers in both.numbers.try_as_mut_slice()? {
        match numbers.try_as_mut_slice() {
            Ok(numbers) => numbers[0] += 1,
            Err(Error::Full { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn drop_words(both: &mut Both, count: usize) {
    let words = both.words.as_mut_slice();
    words[..count]
        .iter_mut()
        .for_each(|word| *word = String::new());
}

fn change(arena: &Arena, f: impl FnOnce(&mut Both) -> Result) -> Result {
    let root = start::root::<World>(arena, "overflow")?;
    f(&mut *root.lock()?)
}
