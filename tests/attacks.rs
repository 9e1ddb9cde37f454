//! Safe programs that break a naive design: here they are refused, or harmless.
//!
//! What the compiler refuses is in `tests/ui`. The user parts below are safe code; the only `unsafe`
//! is that of forking and killing.

mod common;

use common::Forked;
use sharena::{
    Access, Arena, Error, Root, Share,
    collections::{HashMap, String, Vec},
    sync::Mutex,
};
use std::{
    cell::RefCell,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering::*},
    thread,
};

/// A type whose values are torn by a kill in the middle of an assignment.
#[derive(Share, Default)]
#[repr(u8)]
#[allow(dead_code)]
enum Either {
    #[default]
    Nothing,
    Number(u64, u64, u64, u64),
    Text(String),
    Flag(bool),
}

#[derive(Share, Default)]
#[repr(C)]
struct Pair {
    a: Vec<u64>,
    b: Vec<u64>,
    either: Either,
    words: Vec<String>,
}

type World = Mutex<Pair>;

fn world() -> (Arena, Root<World>) {
    let arena = Arena::anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    let mut guard = world.lock().unwrap();
    guard.a.try_extend(0..3).unwrap();
    guard.b.try_extend(0..99).unwrap();
    guard.either = Either::Number(1, 2, 3, 4);
    for n in 0..30 {
        let word = format!("a word in a block, {}", (n * 7) % 31);
        guard.words.push_from(word.as_str()).unwrap();
    }
    drop(guard);
    (arena, world)
}

/// All that can be seen of the world.
fn seen(world: &World) -> std::string::String {
    let guard = world.lock().unwrap();
    let either = match &guard.either {
        Either::Nothing => "nothing".to_owned(),
        Either::Number(a, b, c, d) => format!("{a} {b} {c} {d}"),
        Either::Text(text) => text.to_string(),
        Either::Flag(flag) => flag.to_string(),
    };
    format!("{:?} {:?} {either} {:?}", guard.a, guard.b, guard.words)
}

/// Runs `attack` in a child that is killed before its guard goes: nothing of it may be seen.
fn undone(attack: impl Fn(&mut Pair)) {
    let (arena, world) = world();
    let before = seen(&world);
    let mut child = Forked::run(|| {
        let mut guard = world.lock().unwrap();
        attack(&mut guard);
        // SAFETY: kills this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        0
    });
    child.wait();
    assert_eq!(seen(&world), before);
    arena.reap().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn plain_moves_are_undone() {
    undone(|pair| mem::swap(&mut pair.a, &mut pair.b));
    undone(|pair| pair.a = mem::take(&mut pair.b));
    undone(|pair| pair.either = Either::Flag(true));
    undone(|pair| {
        pair.either = Either::Text(String::new());
        if let Either::Text(text) = &mut pair.either {
            text.push_str("a longer text than there was").unwrap();
        }
    });
    undone(|pair| pair.words.sort());
    undone(|pair| pair.words.reverse());
    undone(|pair| pair.words.as_mut_slice().rotate_left(7));
    undone(|pair| pair.words.iter_mut().for_each(|word| word.clear()));
    undone(|pair| drop(mem::take(pair)));
    undone(|pair| pair.words.drain(3..20).for_each(drop));
    undone(|pair| mem::forget(pair.words.pop()));
    undone(|pair| {
        let taken = mem::take(&mut pair.words);
        mem::forget(taken);
    });
}

#[test]
fn a_value_kept_in_a_thread_local_cannot_be_used_and_can_be_put_back() {
    thread_local! {
        static STASH: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    let (arena, world) = world();
    STASH.with(|stash| *stash.borrow_mut() = mem::take(&mut world.lock().unwrap().b));
    let used = catch_unwind(|| STASH.with(|stash| stash.borrow()[0]));
    assert!(used.is_err());
    assert!(STASH.with(|stash| matches!(stash.borrow_mut().push(1), Err(Error::NotInArena))));
    assert_eq!(arena.check().unowned().len(), 1);
    world.lock().unwrap().b = STASH.take();
    assert_eq!(world.lock().unwrap().b.len(), 99);
    assert!(arena.check().is_clean());
}

#[test]
fn a_static_carries_nothing_to_other_threads() {
    static STATIC: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    assert!(matches!(STATIC.lock(), Err(Error::NotInArena)));
    let boxed = std::boxed::Box::new(Mutex::new(7u64));
    assert!(matches!(boxed.lock(), Err(Error::NotInArena)));
    assert!(matches!(boxed.frozen(), Err(Error::NotInArena)));
}

#[test]
fn two_arenas_do_not_mix() {
    let ((one, in_one), (two, in_two)) = (world(), world());
    {
        let _first = in_one.lock().unwrap();
        assert!(matches!(in_two.lock(), Err(Error::OtherArena)));
        assert!(matches!(two.section(|| Ok(())), Err(Error::OtherArena)));
    }
    // Through the stack, one after the other.
    let taken = mem::take(&mut in_one.lock().unwrap().b);
    let mut guard = in_two.lock().unwrap();
    let theirs = mem::replace(&mut guard.b, taken);
    assert!(catch_unwind(AssertUnwindSafe(|| guard.b[0])).is_err());
    assert!(matches!(guard.b.push(1), Err(Error::OtherArena)));
    let taken = mem::replace(&mut guard.b, theirs);
    drop(guard);
    in_one.lock().unwrap().b = taken;
    for arena in [one, two] {
        assert!(arena.check().is_clean(), "{}", arena.check());
    }
}

#[test]
fn locks_that_move_are_not_lost() {
    let arena = Arena::anonymous().unwrap();
    let outer = arena.root::<Mutex<[Mutex<u64>; 2]>>("outer").unwrap();
    arena
        .section(|| {
            let mut guard = outer.lock()?;
            *guard[0].lock()? = 1;
            // The first lock is retained to the end of the section, and moves now.
            guard.swap(0, 1);
            *guard[0].get_mut()? += 10;
            Ok(())
        })
        .unwrap();
    let child = Forked::run(|| {
        let found = arena.section(|| {
            let guard = outer.lock()?;
            Ok((*guard[0].try_lock()?, *guard[1].try_lock()?))
        });
        i32::from(!matches!(found, Ok((10, 1))))
    });
    child.succeed();
}

/// What a lock lies in, or plain words where it was.
#[derive(Share)]
#[repr(u64)]
enum Slot {
    Words([u64; 5]),
    Lock(Mutex<u64>),
}

impl Default for Slot {
    fn default() -> Self {
        Slot::Lock(Mutex::new(0))
    }
}

#[test]
fn a_retained_lock_that_is_overwritten_is_not_written_to() {
    let arena = Arena::in_memory().unwrap();
    let slot = arena.root::<Mutex<Slot>>("slot").unwrap();
    // Lock words as the first thread of an arena writes them, among others.
    let words = [1 << 16 | 4, 0, 1 << 16 | 4, 7, 1 << 16 | 4];
    arena
        .section(|| {
            let mut guard = slot.lock()?;
            let slot: &mut Slot = &mut guard;
            if let Slot::Lock(lock) = &*slot {
                *lock.lock()? += 1;
            }
            // The lock is retained, and gone.
            *slot = Slot::Words(words);
            Ok(())
        })
        .unwrap();
    let guard = slot.lock().unwrap();
    assert!(matches!(*guard, Slot::Words(found) if found == words));
    drop(guard);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn a_retained_lock_that_is_overwritten_is_not_poisoned() {
    let arena = Arena::in_memory().unwrap();
    let slot = arena.root::<Mutex<Slot>>("slot").unwrap();
    let stamp = 1 << 50 | 2;
    let words = [1 << 16 | 4, u64::MAX, stamp, u64::MAX, stamp + 1];
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        arena.section(|| {
            let mut guard = slot.lock()?;
            let slot: &mut Slot = &mut guard;
            if let Slot::Lock(lock) = &*slot {
                *lock.lock()? += 1;
            }
            *slot = Slot::Words(words);
            drop(guard);
            panic!("in the section");
            #[allow(unreachable_code)]
            Ok(())
        })
    }));
    assert!(panicked.is_err());
    assert!(matches!(slot.lock(), Err(Error::Poisoned)));
    slot.clear_poison().unwrap();
    let guard = slot.lock().unwrap();
    assert!(matches!(*guard, Slot::Words(found) if found == words));
}

#[test]
fn locks_that_plain_code_moves_are_free_in_the_end() {
    let arena = Arena::in_memory().unwrap();
    let outer = arena.root::<Mutex<[Mutex<u64>; 3]>>("outer").unwrap();
    let top = arena.root::<Mutex<u64>>("top").unwrap();
    arena
        .section(|| {
            let mut guard = outer.lock()?;
            let locks: &mut [Mutex<u64>; 3] = &mut guard;
            *locks[0].lock()? += 1;
            locks.swap(0, 1);
            *locks[0].lock()? += 10;
            *locks[1].lock()? += 100;
            *top.lock()? += 1;
            locks.rotate_left(1);
            let mut other = Mutex::new(7);
            mem::swap(&mut locks[0], &mut other);
            Ok(())
        })
        .unwrap();
    let found = thread::scope(|scope| {
        let other = scope.spawn(|| {
            arena.section(|| {
                let guard = outer.lock()?;
                assert_eq!(*top.try_lock()?, 1);
                Ok([
                    *guard[0].try_lock()?,
                    *guard[1].try_lock()?,
                    *guard[2].try_lock()?,
                ])
            })
        });
        other.join().unwrap().unwrap()
    });
    assert_eq!(found, [7, 0, 10]);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn a_guard_that_leaves_its_section_keeps_its_lock() {
    let arena = Arena::in_memory().unwrap();
    let [one, two] = ["one", "two"].map(|name| arena.root::<Mutex<u64>>(name).unwrap());
    let is_held = |lock: &Mutex<u64>| {
        thread::scope(|scope| {
            let other = scope.spawn(|| matches!(lock.try_lock(), Err(Error::WouldBlock)));
            other.join().unwrap()
        })
    };
    let mut kept = None;
    arena
        .section(|| {
            *two.lock()? += 1;
            kept = Some(one.lock()?);
            Ok(())
        })
        .unwrap();
    let mut guard = kept.unwrap();
    *guard += 1;
    // The unit goes on, with all of its locks.
    assert!(is_held(&one) && is_held(&two));
    assert!(matches!(two.lock(), Err(Error::NeedsSection)));
    assert!(matches!(guard.commit(), Err(Error::NeedsSection)));
    drop(guard);
    assert!(!is_held(&one) && !is_held(&two));
    assert_eq!(*one.lock().unwrap(), 1);
    assert_eq!(*two.lock().unwrap(), 1);
}

#[test]
fn a_root_whose_value_cannot_be_made_leaves_nothing() {
    #[derive(Share, Debug)]
    #[repr(C)]
    struct Never(u64);
    impl Default for Never {
        fn default() -> Self {
            panic!("there is none")
        }
    }
    let arena = Arena::in_memory().unwrap();
    let made = catch_unwind(AssertUnwindSafe(|| arena.root::<Never>("never")));
    assert!(made.is_err());
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn acyclic_locking_does_not_deadlock() {
    // A then leaf, B then leaf, A then B: fine where locks are held as long as their guards. Held
    // to the end of a section it is a circle, which is found.
    let arena = Arena::anonymous().unwrap();
    let locks = arena.root::<[Mutex<u64>; 3]>("locks").unwrap();
    let rounds = |first: usize, then: [usize; 2]| {
        for _ in 0..200 {
            let done = arena.section(|| {
                let _first = locks[first].lock()?;
                for next in then {
                    *locks[next].lock()? += 1;
                }
                Ok(())
            });
            assert!(
                matches!(done, Ok(()) | Err(Error::Deadlock { .. })),
                "{done:?}"
            );
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| rounds(0, [2, 1]));
        scope.spawn(|| rounds(1, [2, 0]));
    });
}

#[test]
fn nothing_can_be_written_through_a_read_only_arena() {
    #[derive(Share, Default)]
    #[repr(C)]
    struct Counter {
        hits: AtomicU64,
    }
    let path = std::path::PathBuf::from(format!("/dev/shm/sharena-attack-{}", std::process::id()));
    // SAFETY: only this test uses the file.
    let arena = unsafe { Arena::create(&path) }.unwrap();
    arena
        .root::<Counter>("counter")
        .unwrap()
        .hits
        .store(3, Relaxed);
    let plain = arena.root::<Mutex<HashMap<u64, u64>>>("plain").unwrap();
    plain.lock().unwrap().insert(1, 2).unwrap();
    let nested = arena.root::<Mutex<Counter>>("nested").unwrap();
    nested.freeze().unwrap();
    // SAFETY: as above.
    let reader = unsafe { Arena::options().access(Access::ReadOnly).open(&path) }.unwrap();
    assert!(matches!(
        reader.find::<Counter>("counter"),
        Err(Error::NotFrozen)
    ));
    assert!(matches!(
        reader.find::<Mutex<HashMap<u64, u64>>>("plain"),
        Err(Error::NotFrozen)
    ));
    assert!(matches!(
        reader.find::<Mutex<Counter>>("nested"),
        Err(Error::NotFrozen)
    ));
    plain.freeze().unwrap();
    let frozen = reader.find::<Mutex<HashMap<u64, u64>>>("plain").unwrap();
    assert_eq!(frozen.frozen().unwrap()[&1], 2);
    assert!(matches!(frozen.lock(), Err(Error::ReadOnly)));
    assert!(matches!(plain.lock(), Err(Error::Frozen)));
    assert!(matches!(
        reader.root::<Mutex<u64>>("new"),
        Err(Error::UnknownRoot { .. })
    ));
    assert!(matches!(reader.remove("plain"), Err(Error::ReadOnly)));
    // A reader keeps what was removed.
    let kept = frozen.into_frozen().unwrap();
    arena.remove("plain").unwrap();
    drop(plain);
    arena.reap().unwrap();
    assert_eq!(kept[&1], 2);
    std::fs::remove_file(&path).unwrap();
}
