//! Children that die inside a section: the parent finds what was there before.

use crate::ops::{Element, Op, apply, contents, op};
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};
use sharena::{
    Arena,
    collections::{Box, String, Vec},
    sync::Mutex,
};
use std::time::Duration;

/// Runs `f` in a child, which is killed: by itself at the end, or by us after that time.
fn killed(after: Option<Duration>, f: impl FnOnce()) {
    // SAFETY: the child uses only what a forked process may, and never returns.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_ok();
        // SAFETY: ends this process.
        unsafe {
            if !done {
                libc::_exit(1);
            }
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
    }
    let mut status = 0;
    // SAFETY: our own child.
    unsafe {
        if let Some(after) = after {
            std::thread::sleep(after);
            libc::kill(child, libc::SIGKILL);
        }
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
    }
    assert!(libc::WIFSIGNALED(status), "the child failed");
}

fn some_ops(runner: &mut TestRunner, count: usize) -> std::vec::Vec<Op> {
    vec(op(), count).new_tree(runner).unwrap().current()
}

fn run<E: Element>(rounds: usize) {
    let arena = Arena::anonymous().unwrap();
    let root = arena.root::<Mutex<Vec<E>>>("v").unwrap();
    let mut runner = TestRunner::deterministic();
    let mut expected = std::vec::Vec::new();
    for round in 0..rounds {
        for op in some_ops(&mut runner, 12) {
            apply(&op, &mut root.lock().unwrap(), &mut expected).unwrap();
        }
        let ops = some_ops(&mut runner, 1 + round % 60);
        let random = Duration::from_micros(300 + (round as u64 * 7919) % 1500);
        let endless = round % 2 == 1;
        killed(endless.then_some(random), || {
            let (mut v, mut std) = (root.lock().unwrap(), expected.clone());
            loop {
                for op in &ops {
                    apply(op, &mut v, &mut std).unwrap();
                }
                if !endless {
                    std::mem::forget(v);
                    break;
                }
                v.truncate(500);
                std.truncate(500);
            }
        });
        assert_eq!(
            contents(&root.lock().unwrap()),
            expected,
            "round {round}: {ops:?}"
        );
        assert!(arena.check().problems().is_empty());
    }
}

#[test]
fn numbers() {
    run::<u64>(200);
}

#[test]
fn strings() {
    run::<String>(200);
}

#[test]
fn vectors() {
    run::<Vec<u64>>(200);
}

/// Larger than what is recorded at a time, and than what fits a small block.
#[test]
fn large() {
    let arena = Arena::anonymous().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let expected: std::vec::Vec<u64> = (0..300_000).collect();
    root.lock().unwrap().extend_from_slice(&expected).unwrap();
    let changes: [fn(&mut Vec<u64>); 9] = [
        |v| v.reverse(),
        |v| v.clear(),
        |v| v.truncate(7),
        |v| v.retain(|x| x % 3 == 0),
        |v| v.iter_mut().for_each(|x| *x += 1),
        |v| drop(v.remove(v.len() - 1)),
        |v| {
            v.drain(v.len().min(100)..v.len().min(200_000))
                .for_each(drop)
        },
        |v| (0..100_000).for_each(|_| drop(v.pop())),
        |v| v.try_extend(0..300_000).unwrap(),
    ];
    for (i, first) in changes.iter().enumerate() {
        for second in &changes {
            killed(None, || {
                let mut v = root.lock().unwrap();
                first(&mut v);
                v.push(1).unwrap();
                v.try_extend(0..1000).unwrap();
                second(&mut v);
                std::mem::forget(v);
            });
            assert!(*root.lock().unwrap() == expected, "{i}");
        }
    }
    assert!(arena.check().problems().is_empty());
}

#[test]
fn boxes() {
    let arena = Arena::anonymous().unwrap();
    let root = arena.root::<Mutex<Box<String>>>("b").unwrap();
    root.lock()
        .unwrap()
        .set("before, in its own block")
        .unwrap();
    let changes: [fn(&mut Box<String>); 5] = [
        |b| b.clear(),
        |b| drop(b.set("after, in its own block").unwrap()),
        |b| drop(std::mem::take(b)),
        |b| b.get_mut().unwrap().push_str("and after").unwrap(),
        |b| {
            b.clear();
            b.set("x").unwrap();
            b.set("y, in its own block").unwrap();
        },
    ];
    for (i, change) in changes.iter().enumerate() {
        killed(None, || {
            let mut b = root.lock().unwrap();
            change(&mut b);
            std::mem::forget(b);
        });
        assert_eq!(
            root.lock().unwrap().get().unwrap(),
            "before, in its own block",
            "{i}"
        );
    }
}
