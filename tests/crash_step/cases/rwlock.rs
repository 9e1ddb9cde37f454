//! Reader-writer locks: what is written takes place wholly or not at all, and nobody minds dead
//! readers.

use crate::{
    start::{self, Condition, Start},
    stepper::Pace,
    subject::{Subject, unit, units},
};
use sharena::{
    Arena, Error, Result, Root, Share,
    collections::{String, Vec as Shared},
    sync::{RwLock, RwLockReadGuard},
};
use std::{cell::RefCell, mem::transmute, rc::Rc};

#[derive(Share, Default)]
#[repr(C)]
struct Value {
    left: u64,
    words: Shared<String>,
    right: u64,
}

/// More than a slot has cells beside those of others.
type Locks = [RwLock<Value>; 12];

pub(super) fn subject() -> Subject<Vec<(u64, usize, u64)>> {
    let of_the_dead = |name, fill| Start {
        name,
        fill,
        condition: Condition::OfTheDead,
    };
    let mut starts = vec![
        Start::own("empty", |arena| root(arena).map(drop)),
        Start::own("filled", |arena| filled(arena, 3)),
        Start::own("another is read", |arena| {
            filled(arena, 1)?;
            keep_reading(arena, 11..12)
        }),
        Start::own("eight others are read", |arena| {
            filled(arena, 1)?;
            keep_reading(arena, 4..12)
        }),
        Start::unattached(|arena| filled(arena, 2)),
        of_the_dead("a dead reader", |arena| {
            filled(arena, 2)?;
            keep_reading(arena, 0..1)
        }),
        of_the_dead("a dead reader of all", |arena| {
            filled(arena, 2)?;
            keep_reading(arena, 0..12)
        }),
    ];
    starts.extend(Start::in_all_conditions(|arena| filled(arena, 3)));
    Subject {
        name: "rwlock",
        starts,
        operations: vec![
            unit("read", |arena| root(arena)?[0].read().map(drop)),
            unit("read two, one of them twice", |arena| {
                let root = root(arena)?;
                let one = root[0].read()?;
                let two = root[1].read()?;
                drop(root[0].read()?);
                drop(one);
                drop(two);
                Ok(())
            }),
            unit("read many", |arena| {
                let root = root(arena)?;
                let guards: Result<Vec<_>> = (0..10).map(|n| root[n].read()).collect();
                guards.map(drop)
            }),
            unit("write", |arena| change(&mut *root(arena)?[0].write()?)),
            units(
                "write, commit, write",
                |arena| {
                    let root = root(arena)?;
                    let mut value = root[0].write()?;
                    change(&mut value)?;
                    committed(value.commit())?;
                    change(&mut value)
                },
                &[|arena| {
                    let root = root(arena)?;
                    let mut value = root[0].write()?;
                    change(&mut value)?;
                    if committed(value.commit())? {
                        return Ok(());
                    }
                    change(&mut value)
                }],
            ),
            unit("a section: read, write", |arena| {
                arena.section(|| {
                    let root = root(arena)?;
                    let read = root[1].read()?.left;
                    let mut value = root[0].write()?;
                    value.left += read;
                    value.right += read;
                    change(&mut value)
                })
            }),
            unit("a section: read, write the same, read it", |arena| {
                arena.section(|| {
                    let root = root(arena)?;
                    let read = root[0].read()?.left;
                    change(&mut *root[0].write()?)?;
                    assert_eq!(root[0].read()?.right, read + 1);
                    Ok(())
                })
            }),
            unit("a transaction", |arena| {
                let root = start::root::<Locks>(arena, "locks")?;
                let root: &Root<Locks> = &root;
                let done = arena.transaction(|tx| {
                    let read = tx.read(&root[1])?.words.len() as u64;
                    let mut value = tx.write(&root[0])?;
                    value.left += read;
                    value.right += read;
                    Ok(())
                });
                unless_reading(done)
            }),
            unit("a transaction that is undone", |arena| {
                let root = start::root::<Locks>(arena, "locks")?;
                let root: &Root<Locks> = &root;
                let undone: Result = arena.transaction(|tx| {
                    drop(tx.read(&root[1])?);
                    change(&mut *tx.write(&root[0])?)?;
                    Err(Error::WouldBlock)
                });
                match undone {
                    Err(Error::WouldBlock) => Ok(()),
                    other => unless_reading(other),
                }
            }),
        ],
        observe: |arena| {
            let root = root(arena).unwrap();
            let see = |lock: &RwLock<Value>| {
                let value = lock.read().unwrap();
                (value.left, value.words.len(), value.right)
            };
            root[..2].iter().map(see).collect()
        },
        go_on: |arena| {
            let root = root(arena)?;
            change(&mut *root[0].write()?)?;
            // Nobody reads any of them any more, but for this thread.
            for lock in root.iter() {
                match lock.try_write() {
                    Ok(_) | Err(Error::WouldDeadlock) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        },
        pace: Pace::Instructions,
        outlives: true,
    }
}

/// A thread that reads something begins no transaction.
fn unless_reading(done: Result) -> Result {
    match done {
        Err(Error::InSection) => Ok(()),
        other => other,
    }
}

fn root(arena: &Arena) -> Result<Rc<Root<Locks>>> {
    start::root(arena, "locks")
}

fn filled(arena: &Arena, times: usize) -> Result {
    let root = root(arena)?;
    for _ in 0..times {
        change(&mut *root[0].write()?)?;
        change(&mut *root[1].write()?)?;
    }
    Ok(())
}

/// Whether a commit was not refused, as it is while something is read.
fn committed(done: Result) -> Result<bool> {
    match done {
        Err(Error::NeedsSection) => Ok(false),
        done => done.map(|()| true),
    }
}

fn change(value: &mut Value) -> Result {
    value.left += 1;
    value.words.push_from("a word or two, or three")?;
    if value.words.len() > 3 {
        drop(value.words.remove(0));
    }
    value.right += 1;
    Ok(())
}

/// Guards that live as long as their thread; dropped before the root that they borrow from.
struct Kept {
    _reads: Vec<RwLockReadGuard<'static, Value>>,
    _root: Rc<Root<Locks>>,
}

thread_local! {
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// The locks, for as long as the calling thread lasts.
fn kept_locks(root: &Rc<Root<Locks>>) -> &'static Locks {
    // SAFETY: what borrows from it goes into `Kept`, where the root goes last.
    unsafe { transmute::<&Locks, &'static Locks>(root) }
}

fn keep_reading(arena: &Arena, which: std::ops::Range<usize>) -> Result {
    let root = root(arena)?;
    let reads: Result<_> = kept_locks(&root)[which].iter().map(RwLock::read).collect();
    KEPT.set(Some(Kept {
        _reads: reads?,
        _root: root,
    }));
    Ok(())
}
