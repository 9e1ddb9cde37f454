//! Roots across forks: handles of children, races, and deaths in the middle.
//!
//! Apart from `roots.rs`, and one at a time: handles from before a fork are not counted down any more,
//! since the child has them too.

mod common;

use common::{Forked, await_stage, reach, until};
use sharena::{
    Arena, Error, Root,
    collections::{HashMap, String, Vec},
    sync::{Mutex, Semaphore},
};
use std::{
    io::{Read, Write},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
    thread,
    time::Duration,
};

type Words = Mutex<HashMap<String, Vec<String>>>;

/// Lets the tests run one at a time.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[track_caller]
fn assert_clean(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

fn fill(words: &mut Words) -> sharena::Result {
    let words = words.get_mut()?;
    for key in ["one", "two", "three"] {
        let list = words.entry(key).or_default()?;
        for _ in 0..10 {
            list.push_from("a text of its own that is longer than nothing")?;
        }
    }
    Ok(())
}

fn count(words: &Words) -> usize {
    let words = words.lock().unwrap();
    words.values().map(|list| list.len()).sum()
}

#[test]
fn handles_of_a_forked_child() {
    let _alone = alone();
    let arena = Arena::anonymous().unwrap();
    let stage = arena.root::<AtomicU32>("stage").unwrap();
    // Neither has handles of its own before the fork, but of the stage.
    let mut child = Forked::run(|| {
        let words = arena.root_with("childs", fill).unwrap();
        reach(&stage, 1);
        await_stage(&stage, 2);
        assert_eq!(count(&words), 30);
        // The parent has a handle: it stays.
        arena.remove("parents").unwrap();
        reach(&stage, 3);
        await_stage(&stage, 99);
        0
    });
    let words = arena.root_with("parents", fill).unwrap();
    await_stage(&stage, 1);
    arena.remove("childs").unwrap();
    assert_eq!(arena.check().removed_roots(), 1);
    reach(&stage, 2);
    await_stage(&stage, 3);
    arena.reap().unwrap();
    assert_eq!(arena.check().removed_roots(), 2, "{}", arena.check());
    assert_eq!(count(&words), 30);
    child.kill();
    arena.reap().unwrap();
    assert_eq!(arena.check().removed_roots(), 1, "{}", arena.check());
    assert_eq!(count(&words), 30);
    drop(words);
    assert_eq!(arena.check().removed_roots(), 0);
    assert_clean(&arena);
}

/// The first process to have handles after a fork may be either, and both share what they had
/// opened before.
#[test]
fn handles_when_nobody_had_any_before_the_fork() {
    let _alone = alone();
    for child_first in [true, false] {
        let arena = Arena::anonymous().unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let (mut back, mut reply) = std::io::pipe().unwrap();
        let mut child = Forked::run(|| {
            let mut byte = [0];
            if !child_first {
                reader.read_exact(&mut byte).unwrap();
            }
            let words = arena.root_with("childs", fill).unwrap();
            reply.write_all(&[1]).unwrap();
            reader.read_exact(&mut byte).unwrap();
            assert_eq!(count(&words), 30);
            reply.write_all(&[2]).unwrap();
            thread::sleep(common::PATIENCE);
            0
        });
        let mut byte = [0];
        if child_first {
            back.read_exact(&mut byte).unwrap();
        }
        let own = arena.root_with("parents", fill).unwrap();
        if !child_first {
            writer.write_all(&[0]).unwrap();
            back.read_exact(&mut byte).unwrap();
        }
        arena.remove("childs").unwrap();
        arena.root_with("filler", fill).unwrap();
        assert_eq!(
            arena.check().removed_roots(),
            1,
            "child first: {child_first}"
        );
        writer.write_all(&[0]).unwrap();
        back.read_exact(&mut byte).unwrap();
        child.kill();
        arena.reap().unwrap();
        assert_eq!(arena.check().removed_roots(), 0);
        assert_eq!(count(&own), 30);
        assert_clean(&arena);
    }
}

/// A child has its parent's handles, also when the parent has gone.
#[test]
fn inherited_handles_outlive_the_parent() {
    let _alone = alone();
    let arena = Arena::anonymous().unwrap();
    let stage = arena.root::<AtomicU32>("stage").unwrap();
    let orphan = arena.root::<AtomicU64>("orphan").unwrap();
    let mut parent = Forked::run(|| {
        let words = arena.root_with("words", fill).unwrap();
        // SAFETY: the grandchild uses handles only.
        let child = unsafe { libc::fork() };
        if child == 0 {
            orphan.store(u64::from(std::process::id()), SeqCst);
            await_stage(&stage, 1);
            let sound = count(&words) == 30;
            reach(&stage, if sound { 2 } else { 1000 });
            await_stage(&stage, 3);
            // SAFETY: ends the grandchild.
            unsafe { libc::_exit(0) }
        }
        until("the grandchild is there", || orphan.load(SeqCst) != 0);
        0
    });
    parent.wait();
    arena.remove("words").unwrap();
    arena.reap().unwrap();
    assert_eq!(arena.check().removed_roots(), 1);
    reach(&stage, 1);
    await_stage(&stage, 2);
    assert_eq!(stage.load(SeqCst), 2);
    reach(&stage, 3);
    until("the root has gone", || {
        arena.reap().unwrap();
        arena.check().removed_roots() == 0
    });
    assert_clean(&arena);
}

/// What a dead thread's journal and permits name must not be freed before they are resolved.
#[test]
fn a_root_that_was_being_changed_goes_after_its_changer_is_undone() {
    let _alone = alone();
    let arena = Arena::anonymous().unwrap();
    let stage = arena.root::<AtomicU32>("stage").unwrap();
    for round in 0..20 {
        let value = arena
            .root_with::<Mutex<[u64; 20]>>("value", |value| {
                *value.get_mut()? = [1; 20];
                Ok(())
            })
            .unwrap();
        let permits = arena
            .root_with::<Semaphore>("permits", |permits| {
                *permits = Semaphore::new(7);
                Ok(())
            })
            .unwrap();
        stage.store(0, SeqCst);
        let places = (value.rel_ptr().offset(), permits.rel_ptr().offset());
        drop((value, permits));
        let mut child = Forked::run(|| {
            let value = arena.find::<Mutex<[u64; 20]>>("value").unwrap();
            let permits = arena.find::<Semaphore>("permits").unwrap();
            let _permit = permits.acquire().unwrap();
            let mut value = value.lock().unwrap();
            *value = [2; 20];
            reach(&stage, 1);
            thread::sleep(common::PATIENCE);
            0
        });
        await_stage(&stage, 1);
        child.kill();
        arena.remove("value").unwrap();
        arena.remove("permits").unwrap();
        // These take the places of the values that were freed.
        let mut same = 0;
        let others: std::vec::Vec<Root<Mutex<[u64; 20]>>> = (0..30)
            .map(|number| {
                let fill = |value: &mut Mutex<[u64; 20]>| {
                    *value.get_mut()? = [3; 20];
                    Ok(())
                };
                let name = format!("other {number}");
                let other = arena.root_with(&name, fill).unwrap();
                same += u32::from(other.rel_ptr().offset() == places.0);
                other
            })
            .collect();
        arena.reap().unwrap();
        assert_eq!(arena.check().removed_roots(), 0);
        for (number, other) in others.into_iter().enumerate() {
            assert_eq!(*other.lock().unwrap(), [3; 20], "round {round}: {same}");
            arena.remove(&format!("other {number}")).unwrap();
        }
        assert_clean(&arena);
    }
}

#[test]
fn of_many_that_race_one_makes_the_root() {
    let _alone = alone();
    let arena = Arena::anonymous().unwrap();
    let stage = arena.root::<AtomicU32>("stage").unwrap();
    let calls = arena.root::<AtomicU64>("calls").unwrap();
    for round in 0..20u32 {
        let name = format!("raced {round}");
        let racers: std::vec::Vec<_> = (0..16u64)
            .map(|racer| {
                let (arena, stage, calls, name) = (&arena, &stage, &calls, &name);
                Forked::run(move || {
                    await_stage(stage, round + 1);
                    let root = arena
                        .root_with::<Mutex<Vec<u64>>>(name, |value| {
                            calls.fetch_add(1, SeqCst);
                            value.get_mut()?.extend_from_slice(&[racer; 50])
                        })
                        .unwrap();
                    let first = *root.lock().unwrap().first().unwrap();
                    let same = root.lock().unwrap().iter().all(|&of| of == first);
                    i32::from(!same || root.lock().unwrap().len() != 50)
                })
            })
            .collect();
        reach(&stage, round + 1);
        racers.into_iter().for_each(Forked::succeed);
        let report = arena.check();
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.roots(), 3);
        assert_eq!(
            arena
                .find::<Mutex<Vec<u64>>>(&name)
                .unwrap()
                .lock()
                .unwrap()
                .len(),
            50
        );
        arena.remove(&name).unwrap();
        arena.reap().unwrap();
        assert_eq!(arena.check().removed_roots(), 0);
    }
    assert!(calls.load(SeqCst) >= 20);
    assert_clean(&arena);
}

#[test]
fn found_while_others_remove_and_make_it() {
    let _alone = alone();
    let arena = Arena::anonymous().unwrap();
    let stop = arena.root::<AtomicU32>("stop").unwrap();
    let found = arena.root::<AtomicU64>("found").unwrap();
    let mut makers: std::vec::Vec<_> = (0..2)
        .map(|_| {
            Forked::run(|| {
                while stop.load(SeqCst) == 0 {
                    let _ = arena.root_with("words", fill).unwrap();
                    match arena.remove("words") {
                        Ok(()) | Err(Error::UnknownRoot { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                0
            })
        })
        .collect();
    let finders: std::vec::Vec<_> = (0..2)
        .map(|_| {
            Forked::run(|| {
                while stop.load(SeqCst) == 0 {
                    match arena.find::<Words>("words") {
                        Ok(words) => {
                            assert_eq!(count(&words), 30);
                            found.fetch_add(1, SeqCst);
                        }
                        Err(Error::UnknownRoot { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                0
            })
        })
        .collect();
    until("it was found often", || found.load(SeqCst) > 300);
    makers[0].kill();
    until("it was found more often", || found.load(SeqCst) > 600);
    reach(&stop, 1);
    makers.remove(1).succeed();
    finders.into_iter().for_each(Forked::succeed);
    let _ = arena.remove("words");
    arena.reap().unwrap();
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.roots(), report.removed_roots()), (2, 0));
}

#[test]
fn creators_are_killed_at_any_time() {
    let _alone = alone();
    let arena = Arena::anonymous().unwrap();
    let made = arena.root::<AtomicU64>("made").unwrap();
    for round in 0..150u64 {
        let mut creator = Forked::run(|| {
            for n in 0.. {
                let name = format!("root {}", n % 5);
                let root = arena.root_with::<Words>(&name, fill).unwrap();
                made.fetch_add(1, Relaxed);
                drop(root);
                let _ = arena.remove(&name);
            }
            0
        });
        thread::sleep(Duration::from_micros(round * 37 % 3000));
        creator.kill();
        for info in arena.roots().unwrap() {
            if info.name != "made" {
                let root = arena.find::<Words>(&info.name).unwrap();
                assert_eq!(count(&root), 30, "half a root");
            }
        }
    }
    assert!(made.load(Relaxed) > 0);
    for info in arena.roots().unwrap() {
        if info.name != "made" {
            arena.remove(&info.name).unwrap();
        }
    }
    arena.reap().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
    assert_eq!(arena.roots().unwrap().len(), 1);
}

/// Who leaks a guard has the lock without a handle, and an open section: what that may yet write
/// back must not be somebody else's by then.
#[test]
fn kept_while_a_leaked_guard_holds_its_lock() {
    let _alone = alone();
    let arena = Arena::anonymous().unwrap();
    let stages = arena.root::<[AtomicU32; 1]>("stages").unwrap();
    let mut leaker = Forked::run(|| {
        let numbers = arena.root::<Mutex<[u64; 8]>>("numbers").unwrap();
        let mut guard = numbers.lock().unwrap();
        *guard = [9; 8];
        std::mem::forget(guard);
        drop(numbers);
        reach(&stages[0], 1);
        thread::sleep(Duration::from_secs(60));
        0
    });
    await_stage(&stages[0], 1);
    let before = arena.stats().used;
    arena.remove("numbers").unwrap();
    assert_eq!(arena.stats().used, before, "freed under a section");
    let others = arena.root::<Mutex<[u64; 8]>>("others").unwrap();
    *others.lock().unwrap() = [1; 8];
    let with_others = arena.stats().used;
    leaker.kill();
    arena.reap().unwrap();
    assert_eq!(*others.lock().unwrap(), [1; 8]);
    assert!(arena.stats().used < with_others, "not freed");
    assert!(arena.check().is_clean(), "{}", arena.check());
}
