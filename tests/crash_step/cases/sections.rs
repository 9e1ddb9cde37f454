//! Sections: several changes, under one lock or several, that take place wholly or not at all.

use crate::{
    start::{self, Start},
    stepper::Pace,
    subject::{Subject, unit, units},
};
use sharena::{
    Arena, Error, Result, Share,
    collections::{HashMap, String, Vec as Shared},
    sync::Mutex,
};

/// A type whose values are torn by a kill in the middle of an assignment.
#[derive(Share, Default)]
#[repr(u8)]
enum State {
    #[default]
    Nothing,
    Numbers(u64, u64, u64, u64),
    Text(String),
    List {
        flag: bool,
        list: Shared<u64>,
    },
}

type Deep = HashMap<String, Shared<Shared<String>>>;

#[derive(Share, Default)]
#[repr(C)]
struct Account {
    balance: i64,
    state: State,
    words: Shared<String>,
    deep: Deep,
}

type Accounts = [Mutex<Account>; 3];

pub(super) fn subject() -> Subject<Vec<std::string::String>> {
    let mut starts = vec![
        Start::own("empty", |arena| change(arena, 0, |_| Ok(()))),
        Start::own("one element", |arena| filled(arena, 1)),
        Start::own("several elements", |arena| filled(arena, 4)),
        Start::own("at capacity", at_capacity),
        Start::own("at rehash", at_rehash),
        Start::own("after removals", |arena| {
            filled(arena, 6)?;
            change(arena, 0, |account| {
                account.words.truncate(2);
                account.deep.remove("key of some length, 1");
                account.deep.remove("key of some length, 2");
                Ok(())
            })
        }),
        Start::own("nested values", |arena| {
            filled(arena, 2)?;
            change(arena, 0, |account| fill_deep(&mut account.deep, 3, 6))
        }),
        Start::own("a text in the enum", |arena| {
            filled(arena, 2)?;
            change(arena, 0, |account| {
                account.state = State::Text(String::new());
                match &mut account.state {
                    State::Text(text) => text.push_str(&"text ".repeat(500)),
                    _ => Ok(()),
                }
            })
        }),
    ];
    starts.extend(Start::in_all_conditions(|arena| filled(arena, 3)));
    Subject {
        name: "section",
        starts,
        operations: vec![
            unit("two locks", two_locks),
            unit("three locks, one within", |arena| {
                arena.section(|| {
                    change(arena, 2, |account| {
                        account.words.push_from("the third one, in a block")
                    })?;
                    two_locks(arena)
                })
            }),
            unit("swap", |arena| {
                change(arena, 0, |account| {
                    if account.words.len() > 1 {
                        let last = account.words.len() - 1;
                        account.words.swap(0, last);
                    }
                    Ok(())
                })
            }),
            unit("swap between accounts", |arena| {
                let root = start::root::<Accounts>(arena, "accounts")?;
                arena.section(|| {
                    let (mut from, mut to) = (root[0].lock()?, root[1].lock()?);
                    std::mem::swap(&mut from.words, &mut to.words);
                    std::mem::swap(&mut from.state, &mut to.state);
                    Ok(())
                })
            }),
            unit("append to another's", |arena| {
                let root = start::root::<Accounts>(arena, "accounts")?;
                arena.section(|| {
                    let (mut from, mut to) = (root[0].lock()?, root[1].lock()?);
                    to.words.append(&mut from.words)
                })
            }),
            unit("sort by a closure", |arena| {
                change(arena, 0, |account| {
                    account.words.sort_by(|a, b| b.as_str().cmp(a.as_str()));
                    Ok(())
                })
            }),
            unit("take and put back", |arena| {
                change(arena, 0, |account| {
                    if account.words.len() > 1 {
                        let word = std::mem::take(&mut account.words[1]);
                        account.words[0] = word;
                    }
                    Ok(())
                })
            }),
            unit("enum assignment: numbers", |arena| {
                change(arena, 0, |account| {
                    account.state = State::Numbers(1, 2, 3, 4);
                    Ok(())
                })
            }),
            unit("enum assignment: a list", |arena| {
                change(arena, 0, |account| {
                    account.state = State::List {
                        flag: true,
                        list: Shared::new(),
                    };
                    match &mut account.state {
                        State::List { list, .. } => list.try_extend([1u64, 2, 3]),
                        _ => Ok(()),
                    }
                })
            }),
            unit("enum assignment: nothing", |arena| {
                change(arena, 0, |account| {
                    account.state = State::Nothing;
                    Ok(())
                })
            }),
            units(
                "commit in the middle",
                commit_in_the_middle,
                &[|arena| {
                    change(arena, 0, |account| {
                        account.balance += 1;
                        account.words.push_from("committed, in a block")
                    })
                }],
            ),
            unit("drop of a deep value", |arena| {
                change(arena, 0, |account| {
                    account.deep = HashMap::new();
                    Ok(())
                })
            }),
            unit("whole value replaced", |arena| {
                change(arena, 0, |account| {
                    *account = Account::default();
                    account.balance = 5;
                    Ok(())
                })
            }),
            unit("transaction", |arena| transfer(arena, false)),
            unit("transaction that is undone", |arena| transfer(arena, true)),
            unit("an error in the middle", |arena| {
                let failed = arena.section(|| {
                    change(arena, 0, |account| {
                        account.words.push_from("kept, in its own block")
                    })?;
                    Err::<(), _>(Error::from("stop"))
                });
                match failed {
                    Err(error @ Error::Full { .. }) => Err(error),
                    _ => Ok(()),
                }
            }),
        ],
        observe,
        go_on: |arena| {
            two_locks(arena)?;
            change(arena, 0, |account| {
                account.words.push_from("one more, in its own block")?;
                drop(account.words.remove(0));
                fill_deep(&mut account.deep, 1, 1)
            })
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

fn change(arena: &Arena, which: usize, f: impl FnOnce(&mut Account) -> Result) -> Result {
    let root = start::root::<Accounts>(arena, "accounts")?;
    let mut guard = root[which].lock()?;
    f(&mut guard)
}

fn filled(arena: &Arena, words: usize) -> Result {
    for which in 0..2 {
        change(arena, which, |account| {
            account.balance = 10;
            account.state = State::Numbers(9, 8, 7, 6);
            for word in 0..words {
                let word = format!("a word, number {} of {which}", (word * 7) % 5);
                account.words.push_from(word.as_str())?;
            }
            fill_deep(&mut account.deep, words.min(3), 1)
        })?;
    }
    Ok(())
}

fn fill_deep(deep: &mut Deep, keys: usize, lists: usize) -> Result {
    for key in 0..keys {
        let value = deep
            .entry(format!("key of some length, {key}").as_str())
            .or_default()?;
        for list in 0..lists {
            value.push(Shared::new())?;
            let inner = value.last_mut().expect("pushed just now");
            inner.push_from(format!("a text of the list {list}").as_str())?;
        }
    }
    Ok(())
}

fn at_capacity(arena: &Arena) -> Result {
    filled(arena, 1)?;
    for which in 0..2 {
        change(arena, which, |account| {
            while account.words.len() < account.words.capacity() {
                account.words.push_from("full")?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn at_rehash(arena: &Arena) -> Result {
    filled(arena, 2)?;
    change(arena, 0, |account| {
        let full = account.deep.capacity();
        fill_deep(&mut account.deep, full, 1)
    })
}

fn two_locks(arena: &Arena) -> Result {
    let root = start::root::<Accounts>(arena, "accounts")?;
    arena.section(|| {
        let (mut from, mut to) = (root[0].lock()?, root[1].lock()?);
        from.balance -= 1;
        to.balance += 1;
        if let Some(word) = from.words.pop() {
            to.words.push_from(word)?;
        }
        Ok(())
    })
}

/// Moves words, and takes all of that back if it `fails`.
fn transfer(arena: &Arena, fails: bool) -> Result {
    let root = start::root::<Accounts>(arena, "accounts")?;
    let root: &Accounts = &root;
    let done = arena.transaction(|tx| {
        let (mut from, mut to) = (tx.lock(&root[0])?, tx.lock(&root[1])?);
        from.balance -= 3;
        to.balance += 3;
        to.words.push_from("transferred, in a block")?;
        from.state = State::Nothing;
        from.deep.remove("key of some length, 0");
        match fails {
            true => Err(Error::other("taken back")),
            false => Ok(()),
        }
    });
    match done {
        Err(Error::Other(_)) => Ok(()),
        other => other,
    }
}

fn commit_in_the_middle(arena: &Arena) -> Result {
    let root = start::root::<Accounts>(arena, "accounts")?;
    let mut guard = root[0].lock()?;
    guard.balance += 1;
    guard.words.push_from("committed, in a block")?;
    guard.commit()?;
    drop(guard.words.remove(0));
    guard.balance += 1;
    Ok(())
}

fn observe(arena: &Arena) -> Vec<std::string::String> {
    let root = start::root::<Accounts>(arena, "accounts").unwrap();
    // What is known about a type is found out once for each thread: that is not to be stepped through.
    arena
        .section(|| Ok(drop((root[0].lock()?, root[1].lock()?))))
        .unwrap();
    let seen = |account: &Account| {
        let state = match &account.state {
            State::Nothing => "nothing".to_owned(),
            State::Numbers(a, b, c, d) => format!("{a} {b} {c} {d}"),
            State::Text(text) => text.to_string(),
            State::List { flag, list } => format!("{flag} {list:?}"),
        };
        let mut deep: Vec<_> = account
            .deep
            .iter()
            .map(|entry| format!("{entry:?}"))
            .collect();
        deep.sort();
        format!("{} {state} {:?} {deep:?}", account.balance, account.words)
    };
    root.iter()
        .map(|account| seen(&account.lock().unwrap()))
        .collect()
}

type Numbers = Mutex<HashMap<u64, u64>>;

/// A section that outgrows the slot's part of the log.
pub(super) fn long() -> Subject<std::collections::BTreeMap<u64, u64>> {
    let mut starts = vec![
        Start::own("empty", |arena| numbers(arena, 0..0)),
        Start::own("one entry", |arena| numbers(arena, 0..1)),
        Start::own("twenty entries", |arena| numbers(arena, 0..20)),
        Start::own("at rehash", |arena| {
            numbers(arena, 0..1)?;
            let capacity = start::root::<Numbers>(arena, "numbers")?.lock()?.capacity() as u64;
            numbers(arena, 0..capacity)
        }),
        Start::own("after removals", |arena| {
            numbers(arena, 0..50)?;
            let root = start::root::<Numbers>(arena, "numbers")?;
            root.lock()?.retain(|key, _| key % 3 == 0);
            Ok(())
        }),
    ];
    starts.extend(Start::in_all_conditions(|arena| numbers(arena, 0..30)));
    Subject {
        name: "long section",
        starts,
        operations: vec![unit("1000 inserts", |arena| numbers(arena, 1000..2000))],
        observe: |arena| {
            let root = start::root::<Numbers>(arena, "numbers").unwrap();
            let guard = root.lock().unwrap();
            guard.iter().map(|(key, value)| (*key, *value)).collect()
        },
        go_on: |arena| {
            numbers(arena, 7000..7001)?;
            start::root::<Numbers>(arena, "numbers")?
                .lock()?
                .remove(&7000);
            Ok(())
        },
        pace: Pace::Stores,
        outlives: true,
    }
}

fn numbers(arena: &Arena, keys: std::ops::Range<u64>) -> Result {
    let root = start::root::<Numbers>(arena, "numbers")?;
    let mut guard = root.lock()?;
    for key in keys {
        guard.insert(key, key * 2)?;
    }
    Ok(())
}
