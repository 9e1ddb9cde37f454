//! Containers on the stack, in other arenas, after their arena.

use sharena::{
    Arena, Error,
    collections::{Box, String, Vec},
    sync::Mutex,
};
use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

type Names = Mutex<Vec<String>>;

/// Long enough for blocks of their own.
const NAMES: [&str; 3] = [
    "a name of some length",
    "another one of some length",
    "one more of some length",
];

fn filled(arena: &Arena) -> sharena::Root<Names> {
    let root = arena.root::<Names>("names").unwrap();
    root.lock().unwrap().try_extend(NAMES).unwrap();
    root
}

fn message(f: impl FnOnce()) -> std::string::String {
    let panic = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match panic.downcast::<std::string::String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().unwrap().to_string(),
    }
}

#[test]
fn empty_ones_work_anywhere() {
    static EMPTY: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    assert!(matches!(EMPTY.lock(), Err(Error::NotInArena)));
    let mut v = Vec::<String>::new();
    assert_eq!((v.len(), v.capacity(), v.is_empty()), (0, 0, true));
    assert_eq!(v.as_slice(), [""; 0]);
    assert!(v.pop().is_none());
    assert_eq!(v.iter_mut().count() + v.drain(..).count(), 0);
    v.clear();
    v.truncate(3);
    v.retain(|_| true);
    v.sort();
    v.shrink_to_fit().unwrap();
    assert!(matches!(v.push_from("x"), Err(Error::NotInArena)));
    assert!(matches!(v.reserve(1), Err(Error::NotInArena)));
    assert_eq!(format!("{v:?}"), "[]");
    let mut text = String::new();
    assert!(matches!(text.push_str("x"), Err(Error::NotInArena)));
    assert_eq!(text.as_str(), "");
    assert_eq!(text.pop(), None);
    let mut b = Box::<u64>::new();
    assert!(b.get().is_none() && b.get_mut().is_none() && b.take().is_none());
    assert!(matches!(b.set(1), Err(Error::NotInArena)));
}

#[test]
fn outside_it_says_so() {
    let arena = Arena::in_memory().unwrap();
    let root = filled(&arena);
    let mut names = root.lock().unwrap();
    let mut out = mem::take(&mut *names);
    assert_eq!((out.len(), out.is_empty()), (3, false));
    assert_eq!(format!("{out:?}"), "[3 elsewhere]");
    assert!(message(|| drop(out[0].len())).contains("moved out of its arena"));
    assert!(message(|| out.clear()).contains("moved out of its arena"));
    assert!(message(|| drop(out.pop())).contains("moved out of its arena"));
    assert!(message(|| drop(out.iter_mut())).contains("moved out of its arena"));
    assert!(message(|| out.sort()).contains("moved out of its arena"));
    assert!(matches!(out.push_from("x"), Err(Error::NotInArena)));
    *names = out;
    assert_eq!(*names, NAMES);
    let text = names.pop().unwrap().take();
    assert_eq!(format!("{text:?}"), "\"23 bytes elsewhere\"");
    assert!(message(|| drop(text.as_str().len())).contains("moved out of its arena"));
    names.push(text).unwrap();
    assert_eq!(*names, NAMES);
}

#[test]
fn short_texts_are_at_home_everywhere() {
    let (one, two) = (Arena::in_memory().unwrap(), Arena::in_memory().unwrap());
    let (a, b) = (filled(&one), filled(&two));
    a.lock().unwrap().push_from("short").unwrap();
    let text = a.lock().unwrap().pop().unwrap().take();
    assert_eq!(format!("{text:?} {text}"), "\"short\" short");
    let mut names = b.lock().unwrap();
    names.push(text).unwrap();
    names[3].push_str(" text").unwrap();
    names[3].push_str(" that becomes long").unwrap();
    assert_eq!(names[3], "short text that becomes long");
    drop(names);
    assert!(one.check().is_clean() && two.check().is_clean());
    let mut text = b.lock().unwrap().pop().unwrap().take();
    assert!(message(|| drop(text.as_str().len())).contains("moved out of its arena"));
    assert!(matches!(text.push('x'), Err(Error::NotInArena)));
    assert!(matches!(text.shrink_to_fit(), Err(Error::NotInArena)));
    // A short one, in a block.
    a.lock().unwrap()[0].truncate(5);
    let mut text = a.lock().unwrap().remove(0).take();
    assert!(matches!(text.shrink_to_fit(), Err(Error::NotInArena)));
    assert!(message(|| drop(text.as_str().len())).contains("moved out of its arena"));
    a.lock().unwrap().push(text).unwrap();
    assert_eq!(a.lock().unwrap()[2], NAMES[0][..5]);
    let mut empty = String::new();
    assert_eq!(empty.as_mut_str(), "");
    assert_eq!(empty.split_off(0).unwrap(), "");
}

#[test]
fn dropped_outside() {
    let arena = Arena::in_memory().unwrap();
    let root = filled(&arena);
    // In the same section, after it, in the next one, after the arena.
    drop(mem::take(&mut *root.lock().unwrap()));
    assert!(arena.check().problems().is_empty());
    root.lock().unwrap().try_extend([NAMES[0]; 100]).unwrap();
    let out = mem::take(&mut *root.lock().unwrap());
    drop(out);
    assert!(arena.check().problems().is_empty());
    root.lock().unwrap().try_extend([NAMES[0]; 100]).unwrap();
    let out = mem::take(&mut *root.lock().unwrap());
    let again = root.lock().unwrap();
    drop(out);
    drop(again);
    assert!(arena.check().problems().is_empty());
    root.lock().unwrap().try_extend([NAMES[0]; 100]).unwrap();
    let out = mem::take(&mut *root.lock().unwrap());
    drop((root, arena));
    assert_eq!(out.len(), 100);
    drop(out);
}

/// Freeing takes no lock that others know of: a section elsewhere does not matter, before it changes anything.
#[test]
fn dropped_in_a_section_of_another_arena() {
    let (one, two) = (Arena::in_memory().unwrap(), Arena::in_memory().unwrap());
    let (a, b) = (filled(&one), filled(&two));
    for under_a_guard in [true, false] {
        let out = mem::take(&mut *a.lock().unwrap());
        let more = mem::take(&mut *b.lock().unwrap());
        if under_a_guard {
            let mut names = b.lock().unwrap();
            drop((out, more));
            names.push_from("after").unwrap();
        } else {
            let done = two.section(|| {
                let mut names = b.lock()?;
                drop((out, more));
                names.push_from("after")
            });
            done.unwrap();
        }
        assert_eq!(*b.lock().unwrap(), ["after"]);
        for arena in [&one, &two] {
            assert!(arena.check().is_clean(), "{}", arena.check());
        }
        a.lock().unwrap().try_extend(NAMES).unwrap();
    }
}

/// What a section may put back must not name what was freed meanwhile, in whichever arena.
#[test]
fn what_is_put_back_is_not_freed_elsewhere() {
    let (one, two) = (Arena::in_memory().unwrap(), Arena::in_memory().unwrap());
    let (a, b) = (filled(&one), filled(&two));
    let out = mem::take(&mut *a.lock().unwrap());
    let theirs = mem::replace(&mut *b.lock().unwrap(), out);
    let undone = two.transaction(|tx| {
        let mut names = tx.lock(&b)?;
        *names = Vec::new();
        drop(mem::take(&mut *names));
        Err::<(), _>(Error::from("undone"))
    });
    assert!(undone.is_err());
    // Blocks that others would have got by now.
    let others: std::vec::Vec<_> = (0..100)
        .map(|_| one.alloc_value([7u64; 16]).unwrap())
        .collect();
    let out = mem::replace(&mut *b.lock().unwrap(), theirs);
    *a.lock().unwrap() = out;
    assert_eq!(*a.lock().unwrap(), NAMES);
    drop(others);
    assert_eq!(*b.lock().unwrap(), NAMES);
    for arena in [&one, &two] {
        assert!(arena.check().is_clean(), "{}", arena.check());
    }
}

#[test]
fn put_back_in_another_section() {
    let arena = Arena::in_memory().unwrap();
    let root = filled(&arena);
    let out = mem::take(&mut *root.lock().unwrap());
    for _ in 0..10 {
        root.lock().unwrap().push_from("meanwhile").unwrap();
    }
    *root.lock().unwrap() = out;
    root.lock().unwrap().push_from("d").unwrap();
    assert_eq!(root.lock().unwrap()[..3], NAMES);
    assert_eq!(root.lock().unwrap()[3], "d");
    assert!(arena.check().problems().is_empty());
}

#[test]
fn other_arenas_are_refused() {
    let (one, two) = (Arena::in_memory().unwrap(), Arena::in_memory().unwrap());
    let (a, b) = (filled(&one), filled(&two));
    let out = mem::take(&mut *a.lock().unwrap());
    let mut names = b.lock().unwrap();
    let theirs = mem::replace(&mut *names, out);
    assert_eq!(names.len(), 3);
    assert!(message(|| drop(names[0].len())).contains("another arena"));
    assert!(matches!(names.push_from("x"), Err(Error::OtherArena)));
    assert_eq!(format!("{:?}", *names), "[3 elsewhere]");
    let out = mem::replace(&mut *names, theirs);
    assert_eq!(*names, NAMES);
    drop(names);
    *a.lock().unwrap() = out;
    assert_eq!(*a.lock().unwrap(), NAMES);
    let text = a.lock().unwrap().pop().unwrap().take();
    let mut names = b.lock().unwrap();
    names.push(text).unwrap();
    assert!(message(|| drop(names[3].as_str().len())).contains("another arena"));
    assert!(matches!(names[3].push('x'), Err(Error::OtherArena)));
    let text = names.pop().unwrap().take();
    drop(names);
    a.lock().unwrap().push(text).unwrap();
    assert_eq!(*a.lock().unwrap(), NAMES);
}

#[test]
fn forgotten_guards_are_harmless() {
    let arena = Arena::in_memory().unwrap();
    let root = filled(&arena);
    let mut names = root.lock().unwrap();
    mem::forget(names.pop());
    mem::forget(names.remove(0));
    mem::forget(names.swap_remove(0));
    mem::forget(names.drain(..));
    mem::forget(names.iter_mut());
    assert_eq!(*names, NAMES);
    let mut drain = names.drain(..2);
    assert_eq!(*drain.next().unwrap(), NAMES[0]);
    mem::forget(drain);
    assert_eq!(*names, [NAMES[2], NAMES[1]]);
    mem::forget(names.drain(..).next());
    assert_eq!(*names, [""; 0]);
}

#[test]
fn moves_within_an_arena_only() {
    let (one, two) = (Arena::in_memory().unwrap(), Arena::in_memory().unwrap());
    let (a, b) = (filled(&one), filled(&two));
    let a_names = a.lock().unwrap();
    // Two sections at a time are refused, so nothing can be moved from guard to guard.
    assert!(matches!(b.lock(), Err(Error::OtherArena)));
    drop(a_names);
}
