//! `Arena::check`: what it counts, what it finds, and that no damage makes it panic or hang.

use sharena::{Arena, Options, RelPtr, Share, sync::Mutex};

#[derive(Share, Default)]
#[repr(C)]
struct Node {
    value: u64,
    next: Option<RelPtr<Node>>,
}

fn small() -> Options {
    let mut options = Arena::options();
    options.max_size(1 << 18);
    options
}

#[track_caller]
fn assert_clean(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn an_empty_arena_is_clean() {
    let arena = Arena::in_memory().unwrap();
    assert_clean(&arena);
    assert_eq!(arena.check().blocks(), 0);
}

#[test]
fn roots_own_their_blocks() {
    let arena = small().in_memory().unwrap();
    for name in ["a", "b", "c"] {
        arena.root::<Mutex<u64>>(name).unwrap();
    }
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.roots(), report.blocks()), (3, 9));
    assert_eq!(report.reachable(), 9);
    assert!(report.to_string().contains("3 roots"));
}

#[test]
fn a_raw_block_is_unowned_until_a_pointer_leads_to_it() {
    let arena = small().in_memory().unwrap();
    let list = arena.root::<Mutex<Node>>("list").unwrap();
    let second = arena.alloc_value(Node::default()).unwrap();
    let second = second.into_raw().unwrap();
    let first = Node {
        value: 1,
        next: Some(second),
    };
    let first = arena.alloc_value(first).unwrap().into_raw().unwrap();
    let report = arena.check();
    assert!(report.is_ok() && !report.is_clean());
    let mut unowned: Vec<u64> = report.unowned().iter().map(|block| block.offset).collect();
    unowned.sort_unstable();
    let mut expected = [first.offset(), second.offset()];
    expected.sort_unstable();
    assert_eq!(unowned, expected);
    list.lock().unwrap().next = Some(first);
    assert_clean(&arena);
    // A circle, and a stale pointer.
    // SAFETY: both are nodes in this arena, and nobody else uses them.
    unsafe {
        (*second.resolve(&arena).unwrap()).next = Some(first);
        assert_clean(&arena);
        (*second.resolve(&arena).unwrap()).next = RelPtr::from_offset(12345);
    }
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.stale_pointers(), 1);
}
