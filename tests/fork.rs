//! Forks at any time: the child gets a slot of its own, and no block is handed out twice.

mod common;

use common::Forked;
use sharena::{Arena, RelPtr, Share, collections::Vec, sync::Mutex};
use std::{collections::HashSet, thread};

#[derive(Share, Default)]
#[repr(C)]
struct Blocks {
    all: Vec<u64>,
}

type World = Mutex<Blocks>;

/// Takes blocks and writes down which.
fn take(arena: &Arena, world: &World, count: usize) {
    for n in 0..count {
        let pointer: RelPtr<u64> = arena.alloc_value(n as u64).unwrap().into_raw().unwrap();
        world.lock().unwrap().all.push(pointer.offset()).unwrap();
    }
}

fn assert_all_different(world: &World) {
    let guard = world.lock().unwrap();
    let different: HashSet<u64> = guard.all.iter().copied().collect();
    assert_eq!(
        different.len(),
        guard.all.len(),
        "a block was handed out twice"
    );
}

#[test]
fn parent_and_child_take_blocks_in_turn() {
    let arena = Arena::anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    take(&arena, &world, 50);
    let mut children = std::vec::Vec::new();
    for _ in 0..8 {
        children.push(Forked::run(|| {
            take(&arena, &world, 200);
            // A grandchild, too.
            Forked::run(|| {
                take(&arena, &world, 100);
                0
            })
            .succeed();
            take(&arena, &world, 100);
            0
        }));
        take(&arena, &world, 100);
    }
    children.into_iter().for_each(Forked::succeed);
    assert_eq!(world.lock().unwrap().all.len(), 50 + 8 * 500);
    assert_all_different(&world);
}

#[test]
fn forks_while_other_threads_are_at_work() {
    let arena = Arena::anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| take(&arena, &world, 2000));
        }
        for _ in 0..60 {
            // SAFETY: the child uses handles only, and nothing of the process's own locks.
            match unsafe { libc::fork() } {
                0 => {
                    take(&arena, &world, 10);
                    // SAFETY: ends the child.
                    unsafe { libc::_exit(0) }
                }
                child => {
                    let mut status = 0;
                    // SAFETY: waits for our own child.
                    unsafe { libc::waitpid(child, &raw mut status, 0) };
                    assert_eq!(status, 0);
                }
            }
        }
    });
    assert_eq!(world.lock().unwrap().all.len(), 4000 + 600);
    assert_all_different(&world);
}

#[test]
fn what_a_child_drops_stays_the_parents() {
    let arena = Arena::anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    let reserved = arena.alloc_value(77u64).unwrap();
    // SAFETY: the child only drops what it inherited.
    match unsafe { libc::fork() } {
        0 => {
            drop(reserved);
            drop(world);
            drop(arena);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(status, 0);
        }
    }
    let other = arena.alloc_value(78u64).unwrap();
    assert_ne!(other.as_ptr(), reserved.as_ptr());
    // SAFETY: made from a value above.
    assert_eq!(unsafe { *reserved.as_ptr() }, 77);
    drop((reserved, other));
    take(&arena, &world, 3);
    assert_eq!(world.lock().unwrap().all.len(), 3);
}

#[test]
fn a_root_removed_by_the_parent_stays_for_the_child() {
    let arena = Arena::anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    take(&arena, &world, 5);
    let (mut ready, mut told) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
    let child = Forked::run(|| {
        use std::io::{Read, Write};
        ready.1.write_all(b"x").unwrap();
        let mut byte = [0];
        told.0.read_exact(&mut byte).unwrap();
        i32::from(world.lock().unwrap().all.len() != 5)
    });
    {
        use std::io::{Read, Write};
        let mut byte = [0];
        ready.0.read_exact(&mut byte).unwrap();
        arena.remove("world").unwrap();
        drop(world);
        arena.reap().unwrap();
        told.1.write_all(b"x").unwrap();
    }
    child.succeed();
}
