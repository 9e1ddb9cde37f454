//! Raw blocks and relative pointers: what belongs to nobody is free again, what is linked is linked
//! wholly, and what leads nowhere is refused.

mod common;

use common::{Forked, Random, await_stage, reach};
use sharena::{Arena, AtomicRelPtr, Error, RelPtr, Root, Share, sync::Mutex};
use std::{
    alloc::Layout,
    collections::HashSet,
    panic::catch_unwind,
    sync::atomic::{AtomicU32, Ordering::*},
    thread,
    time::Duration,
};

#[derive(Share, Default)]
#[repr(C)]
struct Links {
    places: Mutex<[Option<RelPtr<u64>>; 8]>,
    head: AtomicRelPtr<Node>,
    stage: AtomicU32,
}

/// A node of a list that is only ever pushed to.
#[derive(Share, Default)]
#[repr(C)]
struct Node {
    value: u64,
    next: AtomicRelPtr<Node>,
}

fn links() -> (Arena, Root<Links>) {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let links = arena.root::<Links>("links").unwrap();
    (arena, links)
}

#[track_caller]
fn assert_clean(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

#[test]
fn reserved_blocks_are_free_when_dropped() {
    let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
    let before = arena.stats().used;
    for (size, align) in [(0, 1), (1, 1), (100, 64), (5000, 8), (40_000, 4096)] {
        let block = arena.alloc(layout(size, align)).unwrap();
        assert_eq!(block.layout(), layout(size, align));
        assert!(block.as_ptr().addr().is_multiple_of(align));
        // Not given out yet: nothing owns it, and `check` does not miss an owner.
        assert_eq!(arena.stats().used, before);
        assert_clean(&arena);
        let first = block.as_ptr();
        drop(block);
        let again = arena.alloc(layout(size, align)).unwrap();
        if size <= 5000 {
            assert_eq!(again.as_ptr(), first, "{size}: not the block of before");
        }
    }
    assert_clean(&arena);
}

#[test]
fn a_reserved_value_is_dropped_with_its_block() {
    use sharena::collections::Vec;
    let arena = Arena::options().max_size(1 << 20).in_memory().unwrap();
    let list = arena.root::<Mutex<Vec<u64>>>("list").unwrap();
    list.lock().unwrap().try_extend(0..50).unwrap();
    let taken = std::mem::take(&mut *list.lock().unwrap());
    let reserved = arena.alloc_value(taken).unwrap();
    // SAFETY: made from a value just now.
    assert_eq!(unsafe { &*reserved.as_ptr() }.len(), 50);
    drop(reserved);
    drop(list);
    assert_clean(&arena);
}

#[test]
fn into_raw_lasts_until_it_is_freed() {
    let (arena, _links) = links();
    let pointers: std::vec::Vec<RelPtr<u64>> = (0..100)
        .map(|n| arena.alloc_value(n).unwrap().into_raw().unwrap())
        .collect();
    assert_eq!(arena.check().unowned().len(), 100);
    let child = Forked::run(|| {
        for (n, pointer) in pointers.iter().enumerate() {
            let place = arena.resolve(*pointer).unwrap();
            // SAFETY: allocated above, used by one process at a time.
            unsafe {
                assert_eq!(*place, n as u64);
                arena.dealloc(*pointer).unwrap();
            }
        }
        0
    });
    child.succeed();
    assert_clean(&arena);
}

#[test]
fn a_block_belongs_to_the_section_in_which_it_is_published() {
    let (arena, links) = links();
    let mut child = Forked::run(|| {
        let _ = arena.section(|| {
            for size in [8, 3000, 100_000] {
                arena.alloc(layout(size, 8))?.into_raw()?;
            }
            let mut places = links.places.lock()?;
            for (n, place) in places.iter_mut().enumerate() {
                arena.alloc_value(n as u64)?.link(place)?;
            }
            // SAFETY: kills this process.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            Ok(())
        });
        0
    });
    child.wait();
    assert!(links.places.lock().unwrap().iter().all(Option::is_none));
    arena.reap().unwrap();
    assert_clean(&arena);
}

#[test]
fn link_is_all_or_nothing_whenever_it_is_killed() {
    let (arena, links) = links();
    let mut random = Random(4);
    for _ in 0..300 {
        let mut child = Forked::run(|| {
            let mut random = Random(u64::from(std::process::id()));
            loop {
                let mut places = links.places.lock().unwrap();
                let place = &mut places[random.below(8) as usize];
                if let Some(old) = place.take() {
                    // SAFETY: linked here only, and taken out just now.
                    unsafe { arena.dealloc(old).unwrap() };
                } else {
                    let block = arena.alloc_value(7u64).unwrap();
                    let pointer = block.link(place).unwrap();
                    assert_eq!(Some(pointer), *place);
                }
            }
        });
        thread::sleep(Duration::from_micros(random.below(2500)));
        child.kill();
        let places = links.places.lock().unwrap();
        let linked: std::vec::Vec<_> = places.iter().flatten().copied().collect();
        let different: HashSet<_> = linked.iter().collect();
        assert_eq!(different.len(), linked.len(), "a block is linked twice");
        for pointer in linked {
            // SAFETY: linked, so it is a block of ours.
            assert_eq!(unsafe { *pointer.resolve(&arena).unwrap() }, 7);
        }
    }
    arena.reap().unwrap();
    assert_clean(&arena);
}

#[test]
fn places_that_cannot_be_linked_to() {
    let (arena, links) = links();
    let (_other, elsewhere) = self::links();
    let mut on_the_stack = None;
    let block = arena.alloc_value(1u64).unwrap();
    let linked = block.link(&mut on_the_stack);
    assert!(matches!(linked, Err(Error::NotInArena)), "{linked:?}");
    assert_eq!(on_the_stack, None);
    let block = arena.alloc_value(1u64).unwrap();
    let linked = block.link(&mut elsewhere.places.lock().unwrap()[0]);
    assert!(matches!(linked, Err(Error::OtherArena)), "{linked:?}");
    assert!(elsewhere.places.lock().unwrap()[0].is_none());
    drop(links);
    assert_clean(&arena);
}

#[test]
fn pointers_that_lead_nowhere() {
    let (arena, links) = links();
    let end = arena.stats().reserved;
    let bad = |offset: u64| {
        let pointer = RelPtr::<u64>::from_offset(offset).unwrap();
        matches!(pointer.resolve(&arena), Err(Error::BadPointer { offset: found, .. }) if found == offset)
    };
    for offset in [1, 8, 4096, end - 8, end, 1 << 46, u64::MAX, u64::MAX - 7] {
        assert!(bad(offset), "{offset:#x}");
    }
    assert_eq!(RelPtr::<u64>::from_offset(0), None);
    let pointer = links.rel_ptr();
    assert_eq!(
        arena.resolve(pointer).unwrap().cast_const(),
        &raw const *links
    );
    assert_eq!(arena.rel_ptr_of(&*links).unwrap(), pointer);
    assert!(bad(pointer.offset() + 4), "not aligned");
    let outside = 5u64;
    assert!(matches!(arena.rel_ptr_of(&outside), Err(Error::NotInArena)));
    assert_eq!(size_of::<Option<RelPtr<[u64; 9]>>>(), 8);
    assert_eq!(pointer.cast::<u64>().offset(), pointer.offset());
}

#[test]
fn double_and_foreign_frees_are_refused() {
    let (arena, _links) = links();
    let free = |pointer: RelPtr<u8>| {
        // SAFETY: allocated by the test and used by nobody, or refused.
        unsafe { arena.dealloc(pointer) }
    };
    for size in [8, 600, 100_000] {
        let take = || arena.alloc(layout(size, 8)).unwrap().into_raw().unwrap();
        let pointer = take();
        let inside = RelPtr::from_offset(pointer.offset() + 8).unwrap();
        assert!(
            matches!(free(inside), Err(Error::ForeignPointer { .. })),
            "{size}"
        );
        free(pointer).unwrap();
        assert!(
            matches!(free(pointer), Err(Error::DoubleFree { .. })),
            "{size}"
        );
        // Also within one unit, where frees wait for its end.
        let twice = take();
        let second = arena.section(|| {
            free(twice)?;
            Ok(free(twice))
        });
        assert!(matches!(second, Ok(Ok(()) | Err(Error::DoubleFree { .. }))));
        let (one, two) = (take(), take());
        assert_ne!(one, two, "{size}: one block was given out twice");
        free(one).unwrap();
        free(two).unwrap();
    }
    // What is reserved was never given out.
    let reserved = arena.alloc_value(1u64).unwrap();
    let offset = reserved.as_ptr().addr() - arena.base().addr();
    let pointer = RelPtr::<u8>::from_offset(offset as u64).unwrap();
    assert!(matches!(free(pointer), Err(Error::DoubleFree { .. })));
    drop(reserved);
    assert_clean(&arena);
}

/// A stack that several processes push to without a lock.
#[test]
fn atomic_pointers() {
    let (arena, links) = links();
    let push = |value: u64| {
        let node = Node {
            value,
            next: AtomicRelPtr::new(None),
        };
        let node = arena.alloc_value(node).unwrap().into_raw().unwrap();
        // SAFETY: made from a value just now, and never freed.
        let place = unsafe { &*node.resolve(&arena).unwrap() };
        let mut head = links.head.load(Acquire);
        loop {
            place.next.store(head, Relaxed);
            match links
                .head
                .compare_exchange_weak(head, Some(node), AcqRel, Acquire)
            {
                Ok(_) => return,
                Err(found) => head = found,
            }
        }
    };
    let children: std::vec::Vec<_> = (0..3u64)
        .map(|n| {
            Forked::run(|| {
                (0..500).for_each(|m| push(n * 500 + m));
                0
            })
        })
        .collect();
    (1500..2000).for_each(push);
    children.into_iter().for_each(Forked::succeed);
    let mut found = HashSet::new();
    let mut next = links.head.load(Acquire);
    while let Some(node) = next {
        // SAFETY: pushed above, and never freed.
        let node = unsafe { &*node.resolve(&arena).unwrap() };
        found.insert(node.value);
        next = node.next.load(Acquire);
    }
    assert_eq!(found.len(), 2000);
    // The whole list is owned through its pointers.
    assert_clean(&arena);
    let head = links.head.swap(None, AcqRel);
    assert!(head.is_some());
    assert_eq!(
        links.head.compare_exchange(head, None, AcqRel, Acquire),
        Err(None)
    );
    assert_eq!(arena.check().unowned().len(), 2000);
}

/// What is in its thread's keeping stays there, whoever recovers others meanwhile.
#[test]
fn reserved_blocks_survive_the_recovery_of_others() {
    let (arena, links) = links();
    let mine: std::vec::Vec<_> = (0..50u64).map(|n| arena.alloc_value(n).unwrap()).collect();
    for round in 1..=20 {
        let mut child = Forked::run(|| {
            let kept: std::vec::Vec<_> = (0..50u64).map(|n| arena.alloc_value(n)).collect();
            reach(&links.stage, round);
            thread::sleep(Duration::from_secs(100));
            drop(kept);
            0
        });
        await_stage(&links.stage, round);
        child.kill();
        arena.reap().unwrap();
        let others: std::vec::Vec<_> = (0..50u64)
            .map(|_| arena.alloc_value(u64::MAX).unwrap())
            .collect();
        for (n, block) in mine.iter().enumerate() {
            // SAFETY: made from a value above.
            assert_eq!(unsafe { *block.as_ptr() }, n as u64);
        }
        drop(others);
    }
}

#[test]
fn what_panics_while_it_holds_a_block_gives_it_back() {
    let (arena, _links) = links();
    let panicked = catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _small = arena.alloc_value(1u64).unwrap();
        let _large = arena.alloc(layout(200_000, 8)).unwrap();
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_clean(&arena);
    assert_eq!(arena.stats().spans, 0);
}
