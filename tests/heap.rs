//! The heap against a map of live ranges: alignment, overlap, conservation; frees by others; memory
//! of the dead.

mod common;

use common::{Forked, Random};
use proptest::prelude::*;
use sharena::{Arena, Error, Options, RelPtr, Share, collections::Vec as Shared, sync::Mutex};
use std::{alloc::Layout, collections::BTreeMap, thread};

fn arena(size: u64) -> Options {
    let mut options = Arena::options();
    options.max_size(size).slots(8);
    options
}

/// A live block: how long it is, and the byte that fills it.
type Live = BTreeMap<u64, (usize, u8)>;

fn fill(arena: &Arena, pointer: RelPtr<u8>, size: usize, byte: u8) {
    // SAFETY: the block is `size` bytes long, and used by the test only.
    unsafe { pointer.resolve(arena).unwrap().write_bytes(byte, size) };
}

fn assert_filled(arena: &Arena, offset: u64, size: usize, byte: u8) {
    let pointer = RelPtr::<u8>::from_offset(offset)
        .unwrap()
        .resolve(arena)
        .unwrap();
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts(pointer, size) };
    assert!(
        bytes.iter().all(|found| *found == byte),
        "somebody wrote into a block"
    );
}

fn take(arena: &Arena, live: &mut Live, layout: Layout, byte: u8) -> Result<(), Error> {
    let pointer = arena.alloc(layout)?.into_raw()?;
    let (offset, size) = (pointer.offset(), layout.size());
    let address = pointer.resolve(arena)?.addr();
    assert_eq!(address % layout.align(), 0, "{layout:?}");
    let before = live.range(..=offset).next_back();
    assert!(
        before.is_none_or(|(at, (len, _))| at + *len as u64 <= offset),
        "overlap"
    );
    let after = live.range(offset..).next();
    assert!(
        after.is_none_or(|(at, _)| offset + size as u64 <= *at),
        "overlap"
    );
    fill(arena, pointer, size, byte);
    live.insert(offset, (size, byte));
    Ok(())
}

fn give_back(arena: &Arena, live: &mut Live, which: usize) {
    let Some((&offset, &(size, byte))) = live.iter().nth(which % live.len().max(1)) else {
        return;
    };
    assert_filled(arena, offset, size, byte);
    live.remove(&offset);
    // SAFETY: live until now, and used by the test only.
    unsafe {
        arena
            .dealloc(RelPtr::<u8>::from_offset(offset).unwrap())
            .unwrap()
    };
}

fn assert_conserved(arena: &Arena, live: &Live) {
    let report = arena.check();
    assert!(report.is_ok(), "{report}");
    let mut unowned: Vec<u64> = report.unowned().iter().map(|block| block.offset).collect();
    unowned.sort_unstable();
    assert!(
        unowned.iter().eq(live.keys()),
        "published blocks are not those that live"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn blocks_are_aligned_apart_and_conserved(
        steps in proptest::collection::vec(
            (any::<bool>(), 0usize..12, 1usize..4096, 0u32..13, any::<usize>()), 1..300),
        large in any::<bool>(),
    ) {
        let arena = arena(if large { 16 << 20 } else { 1 << 20 }).in_memory().unwrap();
        let mut live = Live::new();
        for (taking, scale, size, align, which) in steps {
            if taking || live.is_empty() {
                let size = (size << scale) >> 6;
                let layout = Layout::from_size_align(size, 1 << align).unwrap();
                match take(&arena, &mut live, layout, which as u8) {
                    Ok(()) | Err(Error::Full { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            } else {
                give_back(&arena, &mut live, which);
            }
        }
        assert_conserved(&arena, &live);
        while !live.is_empty() {
            give_back(&arena, &mut live, 0);
        }
        assert!(arena.check().is_clean());
    }
}

#[derive(Share, Default)]
#[repr(C)]
struct Table {
    blocks: Shared<u64>,
}

/// Replaces random entries of a table of blocks, as one unit each.
fn churn(arena: &Arena, table: &Mutex<Table>, seed: u64, rounds: usize) {
    let mut random = Random(seed);
    for _ in 0..rounds {
        let mut guard = table.lock().unwrap();
        let size = 16 + random.below(600) as usize;
        if guard.blocks.len() < 200 {
            guard.blocks.push(0).unwrap();
        }
        let place = random.below(guard.blocks.len() as u64) as usize;
        let old = guard.blocks[place];
        if let Some(old) = RelPtr::<u64>::from_offset(old) {
            let value = old.resolve(arena).unwrap();
            // SAFETY: the table's block, and we have the lock.
            let found = unsafe { *value };
            assert_eq!(found, old.offset() ^ 0x5555, "somebody else has this block");
            // SAFETY: as above.
            unsafe { arena.dealloc(old).unwrap() };
        }
        let layout = Layout::from_size_align(size, 8).unwrap();
        let new = arena
            .alloc(layout)
            .unwrap()
            .into_raw()
            .unwrap()
            .cast::<u64>();
        // SAFETY: allocated just now.
        unsafe { *new.resolve(arena).unwrap() = new.offset() ^ 0x5555 };
        guard.blocks[place] = new.offset();
    }
}

fn assert_table_owns_everything(arena: &Arena, table: &Mutex<Table>) {
    let guard = table.lock().unwrap();
    let mut expected: Vec<u64> = guard.blocks.iter().copied().filter(|&b| b != 0).collect();
    drop(guard);
    expected.sort_unstable();
    let report = arena.check();
    assert!(report.is_ok(), "{report}");
    let mut found: Vec<u64> = report.unowned().iter().map(|block| block.offset).collect();
    found.sort_unstable();
    assert_eq!(found, expected, "lost, or given out twice");
}

#[test]
fn threads_and_processes_free_each_others_blocks() {
    let arena = Arena::options().max_size(64 << 20).anonymous().unwrap();
    let table = arena.root::<Mutex<Table>>("table").unwrap();
    let children: Vec<_> = (0..3)
        .map(|n| {
            Forked::run(|| {
                churn(&arena, &table, n, 3000);
                0
            })
        })
        .collect();
    thread::scope(|scope| {
        for n in 10..12 {
            let (arena, table) = (&arena, &table);
            scope.spawn(move || churn(arena, table, n, 3000));
        }
    });
    children.into_iter().for_each(Forked::succeed);
    assert_table_owns_everything(&arena, &table);
    assert!(
        arena.stats().committed < 16 << 20,
        "memory is not used again"
    );
}

#[test]
fn nothing_is_lost_when_processes_are_killed() {
    let arena = Arena::options().max_size(64 << 20).anonymous().unwrap();
    let table = arena.root::<Mutex<Table>>("table").unwrap();
    let mut random = Random(3);
    for round in 0..150 {
        let mut children: Vec<_> = (0..2)
            .map(|n| {
                Forked::run(|| {
                    churn(&arena, &table, round * 2 + n, usize::MAX);
                    0
                })
            })
            .collect();
        thread::sleep(std::time::Duration::from_micros(random.below(3000)));
        children.iter_mut().for_each(Forked::kill);
        if round % 10 == 9 {
            arena.reap().unwrap();
            assert_table_owns_everything(&arena, &table);
        }
    }
    assert!(
        arena.stats().committed < 16 << 20,
        "memory of the dead is not used again"
    );
}

#[test]
fn memory_that_the_dead_never_linked_is_free_again() {
    let arena = Arena::options()
        .max_size(4 << 20)
        .slots(8)
        .anonymous()
        .unwrap();
    for _ in 0..200 {
        Forked::run(|| {
            let layout = Layout::from_size_align(10_000, 8).unwrap();
            let mut kept = Vec::new();
            for n in 0..30usize {
                let small = Layout::from_size_align(16 + n * 40, 8).unwrap();
                kept.push(arena.alloc(layout).unwrap());
                kept.push(arena.alloc(small).unwrap());
            }
            // SAFETY: ends the process at once.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            0
        })
        .wait();
    }
    arena.reap().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn slabs_serve_other_classes_and_other_processes() {
    let arena = Arena::options()
        .max_size(2 << 20)
        .slots(8)
        .anonymous()
        .unwrap();
    for shift in [4, 6, 9, 11, 13, 5, 10] {
        Forked::run(|| {
            let layout = Layout::from_size_align(1 << shift, 8).unwrap();
            let mut total = 0;
            let mut kept = Vec::new();
            while let Ok(block) = arena.alloc(layout) {
                total += 1usize << shift;
                kept.push(block);
            }
            // Most of the arena can be had in each size, one after the other.
            i32::from(total < 1 << 20)
        })
        .succeed();
    }
}

#[test]
fn a_long_vector_grows_where_it_lies() {
    let arena = Arena::options().max_size(256 << 20).anonymous().unwrap();
    let root = arena.root::<Mutex<Shared<u64>>>("long").unwrap();
    let mut guard = root.lock().unwrap();
    for n in 0..200_000u64 {
        guard.push(n).unwrap();
    }
    let before = guard.as_ptr();
    for n in 0..2_000_000u64 {
        guard.push(n).unwrap();
    }
    assert_eq!(
        guard.as_ptr(),
        before,
        "a vector at the end of the used space was copied"
    );
}

/// Slabs of a thread that has gone, emptied by others, are of use to everybody: a span of whole slabs
/// was refused in an arena that was empty but for them.
#[test]
fn emptied_slabs_of_a_thread_that_has_gone_serve_spans() {
    type Lists = Mutex<Shared<Shared<u8>>>;
    let arena = arena(1 << 18).in_memory().unwrap();
    let lists = arena.root::<Lists>("lists").unwrap();
    lists.lock().unwrap().reserve_exact(200).unwrap();
    let fill = || {
        let mut lists = lists.lock().unwrap();
        loop {
            lists.push(Shared::new()).unwrap();
            match lists.last_mut().unwrap().reserve_exact(2000) {
                Ok(()) => {}
                Err(Error::Full { .. }) => return,
                Err(error) => panic!("{error}"),
            }
        }
    };
    thread::scope(|scope| scope.spawn(fill).join()).unwrap();
    while lists.lock().unwrap().pop().is_some() {}
    let span = Layout::from_size_align(20_000, 8).unwrap();
    drop(arena.alloc(span).unwrap());
    assert!(arena.check().is_clean(), "{}", arena.check());
}

/// One thread allocates, another frees, again and again: that takes no more memory each time.
#[test]
fn what_others_free_is_used_again() {
    let arena = arena(64 << 20).in_memory().unwrap();
    let mut random = Random(5);
    let mut committed = Vec::new();
    for _ in 0..60 {
        let sizes = (0..10_000).map(|_| 16 + random.below(497) as usize);
        let blocks: Vec<RelPtr<u8>> = sizes
            .map(|size| Layout::from_size_align(size, 8).unwrap())
            .map(|layout| arena.alloc(layout).unwrap().into_raw().unwrap())
            .collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                for block in blocks {
                    // SAFETY: given out just now, and used by nobody.
                    unsafe { arena.dealloc(block) }.unwrap();
                }
            });
        });
        committed.push(arena.stats().committed);
    }
    assert!(committed[59] < committed[9] * 3 / 2, "{committed:?}");
    assert_eq!(arena.stats().used, 0);
}
