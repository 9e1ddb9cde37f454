//! Memory goes back to the system, and comes again when it is needed: holes harm nobody, whoever is
//! killed, and a full file system is an error.
#![cfg(target_os = "linux")]

mod common;

use common::{Forked, Random};
use proptest::prelude::*;
use sharena::{Access, Arena, Error, Options, RelPtr, collections::Vec as Shared, sync::Mutex};
use std::{
    alloc::Layout,
    collections::BTreeMap,
    ffi::CStr,
    fs,
    path::{Path, PathBuf},
};

fn arena(size: u64) -> Options {
    let mut options = Arena::options();
    options.max_size(size).slots(8);
    options
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

/// A block that is filled with a pattern of its own.
fn take(arena: &Arena, size: usize) -> Result<RelPtr<u8>, Error> {
    let pointer = arena.alloc(layout(size))?.into_raw()?;
    // SAFETY: the block is `size` bytes long, and the test's.
    unsafe { pointer.resolve(arena)?.write_bytes(pattern(pointer), size) };
    Ok(pointer)
}

fn pattern(pointer: RelPtr<u8>) -> u8 {
    (pointer.offset() >> 4) as u8 ^ 0x5a
}

fn assert_unharmed(arena: &Arena, pointer: RelPtr<u8>, size: usize) {
    let place = pointer.resolve(arena).unwrap();
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts(place, size) };
    let expected = pattern(pointer);
    assert!(
        bytes.iter().all(|&byte| byte == expected),
        "a block of {size} bytes was changed"
    );
}

fn give_back(arena: &Arena, pointer: RelPtr<u8>) {
    // SAFETY: the test's block, which it does not use any more.
    unsafe { arena.dealloc(pointer).unwrap() };
}

/// Fills an arena with small blocks until nothing fits any more.
fn fill(arena: &Arena, size: usize) -> (Vec<RelPtr<u8>>, Error) {
    let mut blocks = Vec::new();
    loop {
        match take(arena, size) {
            Ok(block) => blocks.push(block),
            Err(error) => return (blocks, error),
        }
    }
}

/// A path that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir();
        let path = directory.join(format!("sharena-trim-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn create(options: &Options, path: &Path) -> Arena {
    // SAFETY: a fresh path of this test's own.
    unsafe { options.create(path).unwrap() }
}

#[test]
fn a_file_shrinks_and_can_be_filled_again() {
    let arena = arena(256 << 20).anonymous().unwrap();
    let root = arena.root::<Mutex<Shared<Shared<u64>>>>("lists").unwrap();
    let fill = || {
        let mut guard = root.lock().unwrap();
        for n in 0..64 {
            guard.push(Shared::new()).unwrap();
            let list = guard.last_mut().unwrap();
            list.resize(1 << 17, n).unwrap();
        }
    };
    let empty = arena.stats();
    for _ in 0..2 {
        fill();
        let full = arena.stats();
        assert!(full.file_bytes >= empty.file_bytes + (64 << 20), "{full:?}");
        root.lock().unwrap().clear();
        let given_back = arena.trim().unwrap();
        let after = arena.stats();
        assert!(given_back >= 64 << 20);
        assert_eq!(after.holes, full.holes + given_back);
        assert_eq!(after.file_bytes, full.file_bytes - given_back);
        assert_eq!(after.committed, full.committed);
        let parts = after.metadata + after.used + after.cached + after.free;
        assert_eq!(parts, after.committed);
        assert!(arena.check().is_clean(), "{}", arena.check());
        // What is there already is not given back again.
        assert_eq!(arena.trim().unwrap(), 0);
    }
    fill();
    let holes = arena.stats().holes;
    assert!(arena.stats().file_bytes >= arena.stats().committed - holes);
    let guard = root.lock().unwrap();
    for (n, list) in guard.iter().enumerate() {
        assert!(list.len() == 1 << 17 && list.iter().all(|&value| value == n as u64));
    }
    drop(guard);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn an_arena_in_ordinary_memory_is_trimmed_too() {
    let arena = arena(64 << 20).in_memory().unwrap();
    let kept = take(&arena, 5000).unwrap();
    for _ in 0..3 {
        let large = take(&arena, 20 << 20).unwrap();
        let small: Vec<_> = (0..1000).map(|n| take(&arena, 16 + n).unwrap()).collect();
        assert_unharmed(&arena, large, 20 << 20);
        small.into_iter().for_each(|block| give_back(&arena, block));
        give_back(&arena, large);
        assert!(arena.trim().unwrap() >= 20 << 20);
        assert_unharmed(&arena, kept, 5000);
        // Given back pages are zeroes: nothing of the old contents is left.
        let again = arena.alloc(layout(20 << 20)).unwrap();
        // SAFETY: a block of that size, which anonymous memory has initialised.
        let bytes = unsafe { std::slice::from_raw_parts(again.as_ptr(), 20 << 20) };
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
    give_back(&arena, kept);
    arena.trim().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
    assert_eq!(arena.stats().holes, arena.stats().free);
    assert_eq!(arena.stats().cached, 0);
}

#[test]
fn data_beside_holes_is_unharmed() {
    let path = Scratch::new("beside");
    let arena = create(&arena(64 << 20), &path.0);
    let mut random = Random(7);
    let mut kept = Vec::new();
    for _ in 0..4000 {
        let size = 1 + random.below(40) as usize * random.below(1000) as usize;
        let block = take(&arena, size).unwrap();
        if random.below(4) == 0 {
            kept.push((block, size));
        } else {
            give_back(&arena, block);
        }
        if random.below(200) == 0 {
            arena.trim().unwrap();
        }
    }
    assert!(arena.trim().unwrap() > 0);
    for &(block, size) in &kept {
        assert_unharmed(&arena, block, size);
    }
    let report = arena.check();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.unowned().len(), kept.len());
    drop(arena);
    // SAFETY: made by this test.
    let arena = unsafe { Arena::options().populate(true).open(&path.0).unwrap() };
    let stats = arena.stats();
    assert!(stats.holes > 0 && stats.file_bytes <= stats.committed - stats.holes + (1 << 20));
    for (block, size) in kept {
        assert_unharmed(&arena, block, size);
        give_back(&arena, block);
    }
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn blocks_in_hand_are_kept() {
    let arena = arena(16 << 20).anonymous().unwrap();
    let reserved: Vec<_> = [16, 500, 8000, 100_000]
        .map(|size| arena.alloc(layout(size)).unwrap())
        .into();
    for block in &reserved {
        // SAFETY: a block of that size, reserved for us.
        unsafe { block.as_ptr().write_bytes(9, block.layout().size()) };
    }
    arena.trim().unwrap();
    let others: Vec<_> = [16, 500, 8000, 100_000]
        .map(|size| take(&arena, size).unwrap())
        .into();
    for block in &reserved {
        // SAFETY: as above, and written above.
        let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), block.layout().size()) };
        assert!(bytes.iter().all(|&byte| byte == 9));
    }
    drop(reserved);
    others
        .into_iter()
        .for_each(|block| give_back(&arena, block));
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn a_trim_is_refused_where_it_may_not_be() {
    let path = Scratch::new("refused");
    let arena = create(&arena(1 << 20), &path.0);
    let root = arena.root::<Mutex<u64>>("one").unwrap();
    let guard = root.lock().unwrap();
    assert!(matches!(arena.trim(), Err(Error::InSection)));
    drop(guard);
    arena
        .section(|| {
            assert!(matches!(arena.trim(), Err(Error::InSection)));
            Ok(())
        })
        .unwrap();
    arena
        .transaction(|_| {
            assert!(matches!(arena.trim(), Err(Error::InSection)));
            Ok(())
        })
        .unwrap();
    arena.trim().unwrap();
    drop((root, arena));
    for access in [Access::ReadOnly, Access::CopyOnWrite] {
        // SAFETY: made by this test.
        let reader = unsafe { Arena::options().access(access).open(&path.0).unwrap() };
        assert!(matches!(reader.trim(), Err(Error::ReadOnly)));
    }
}

#[test]
fn what_the_dead_had_is_given_back() {
    let arena = arena(64 << 20).anonymous().unwrap();
    arena.trim().unwrap();
    Forked::run(|| {
        let blocks: Vec<_> = (0..300).map(|n| arena.alloc(layout(n * 200))).collect();
        assert!(blocks.iter().all(Result::is_ok));
        // SAFETY: ends the process at once.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        0
    })
    .wait();
    arena.trim().unwrap();
    let stats = arena.stats();
    assert_eq!((stats.holes, stats.used, stats.cached), (stats.free, 0, 0));
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn one_fills_and_frees_while_another_trims() {
    let arena = arena(32 << 20).anonymous().unwrap();
    let table = arena.root::<Mutex<Shared<u64>>>("table").unwrap();
    let mut worker = Forked::run(|| {
        let mut random = Random(11);
        for _ in 0..6000 {
            let mut guard = table.lock().unwrap();
            let size = 100 + random.below(50) as usize * random.below(3000) as usize;
            // The size is in the block's first word, and its pattern behind that.
            if guard.len() > 60 {
                let place = random.below(guard.len() as u64) as usize;
                let old = *guard.swap_remove(place);
                let old = RelPtr::<u8>::from_offset(old).unwrap();
                verify_sized(&arena, old);
                give_back(&arena, old);
            }
            let block = take_sized(&arena, size);
            guard.push(block.offset()).unwrap();
        }
        0
    });
    let mut random = Random(5);
    let mut trims = 0;
    while !worker.ended() {
        let mut trimmer = Forked::run(|| {
            loop {
                arena.trim().unwrap();
            }
        });
        std::thread::sleep(std::time::Duration::from_micros(200 + random.below(4000)));
        trimmer.kill();
        trims += 1;
    }
    worker.succeed();
    assert!(trims > 0);
    arena.trim().unwrap();
    let guard = table.lock().unwrap();
    for &offset in guard.iter() {
        verify_sized(&arena, RelPtr::from_offset(offset).unwrap());
    }
    let count = guard.len();
    drop(guard);
    let report = arena.check();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.unowned().len(), count, "lost, or given out twice");
    let stats = arena.stats();
    assert!(
        stats.committed < 32 << 20 && stats.holes + (1 << 20) > stats.free,
        "{stats:?}"
    );
}

#[test]
fn no_arena_is_full_because_it_is_trimmed() {
    let arena = arena(1 << 20).anonymous().unwrap();
    let mut trimmer = Forked::run(|| {
        loop {
            arena.trim().unwrap();
        }
    });
    let most = arena.stats().reserved as usize / 2;
    for round in 0..300 {
        let size = most - round * 500;
        let block = arena.alloc(layout(size)).unwrap();
        // SAFETY: a block of that size, reserved for us.
        unsafe { block.as_ptr().write_bytes(round as u8, size) };
        drop(block);
    }
    trimmer.kill();
    arena.trim().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
}

fn take_sized(arena: &Arena, size: usize) -> RelPtr<u8> {
    let block = take(arena, size).unwrap();
    let place = block.resolve(arena).unwrap().cast::<u64>();
    // SAFETY: the block is at least eight bytes long, aligned, and the test's.
    unsafe { place.write(size as u64) };
    block
}

fn verify_sized(arena: &Arena, block: RelPtr<u8>) {
    let place = block.resolve(arena).unwrap();
    // SAFETY: as above.
    let size = unsafe { place.cast::<u64>().read() } as usize;
    assert!((100..=200_000).contains(&size), "a block was overwritten");
    // SAFETY: the block is `size` bytes long.
    let bytes = unsafe { std::slice::from_raw_parts(place, size) };
    assert!(bytes[8..].iter().all(|&byte| byte == pattern(block)));
}

/// Mounts a tmpfs that only this process sees.
fn mount(directory: &Path, options: &CStr) -> Result<(), std::io::Error> {
    let path = std::ffi::CString::new(directory.as_os_str().as_encoded_bytes()).unwrap();
    let ok = |result: i32| match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: plain system calls with strings that live as long.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            ok(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS))?;
        }
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let (none, tmpfs) = (std::ptr::null(), c"tmpfs".as_ptr());
        ok(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
        ok(libc::mount(
            tmpfs,
            path.as_ptr(),
            tmpfs,
            0,
            options.as_ptr().cast(),
        ))
    }
}

/// Runs in a forked child, on a tmpfs of 1 MiB.
fn run_on_a_full_disk(directory: &Path) {
    let arena = create(arena(1 << 20).slots(4), &directory.join("arena"));
    let kept = take(&arena, 10_000).unwrap();
    let (blocks, error) = fill(&arena, 3000);
    assert!(
        matches!(error, Error::NoSpace { .. } | Error::Full { .. }),
        "{error}"
    );
    blocks
        .into_iter()
        .for_each(|block| give_back(&arena, block));
    assert!(arena.trim().unwrap() > 200 << 10);
    let thief = directory.join("thief");
    let mut taken = fs::File::create(&thief).unwrap();
    while std::io::Write::write_all(&mut taken, &[1; 4096]).is_ok() {}
    for size in [100, 3000, 20_000, 200_000] {
        let error = take(&arena, size).unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{size}: {error}");
    }
    assert_unharmed(&arena, kept, 10_000);
    let report = arena.check();
    assert!(report.is_ok(), "{report}");
    fs::remove_file(&thief).unwrap();
    drop(taken);
    let large = take(&arena, 200_000).unwrap();
    let (blocks, _) = fill(&arena, 3000);
    assert!(blocks.len() * 3000 > 100_000);
    for &block in &blocks {
        assert_unharmed(&arena, block, 3000);
    }
    assert_unharmed(&arena, large, 200_000);
    blocks
        .into_iter()
        .for_each(|block| give_back(&arena, block));
    give_back(&arena, large);
    give_back(&arena, kept);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn a_hole_on_a_full_disk_is_an_error() {
    on_a_file_system("full-disk", c"size=1m", run_on_a_full_disk);
}

/// Runs in a forked child, on a tmpfs with huge pages, if the kernel has any.
fn run_with_huge_pages(directory: &Path) {
    let arena = create(arena(64 << 20).huge_pages(true), &directory.join("arena"));
    let root = arena.root::<Mutex<Shared<u64>>>("numbers").unwrap();
    root.lock().unwrap().try_extend(0..2_000_000).unwrap();
    println!("{} KiB in huge pages", huge_kib());
    let sum: u64 = root.lock().unwrap().iter().sum();
    assert_eq!(sum, 1_999_999_000_000);
    root.lock().unwrap().truncate(1000);
    root.lock().unwrap().shrink_to_fit().unwrap();
    assert!(arena.trim().unwrap() > 14 << 20);
    root.lock().unwrap().try_extend(0..2_000_000).unwrap();
    let sum: u64 = root.lock().unwrap().iter().sum();
    assert_eq!(sum, 1_999_999_000_000 + 499_500);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

fn huge_kib() -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let lines = maps
        .lines()
        .filter_map(|line| line.strip_prefix("ShmemPmdMapped:"));
    lines
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

#[test]
fn huge_pages_come_and_go() {
    on_a_file_system("huge", c"size=128m,huge=advise", run_with_huge_pages);
}

/// Calls `run` in a forked child with a directory in which a tmpfs is mounted, if that is permitted.
fn on_a_file_system(name: &str, options: &CStr, run: fn(&Path)) {
    const NOT_PERMITTED: i32 = 77 << 8;
    let directory = Scratch::new(name).0.clone();
    fs::create_dir(&directory).unwrap();
    let status = Forked::run(|| match mount(&directory, options) {
        Ok(()) => {
            run(&directory);
            0
        }
        Err(error) => {
            eprintln!("skipped: no private mount of a tmpfs: {error}");
            77
        }
    })
    .wait();
    fs::remove_dir_all(&directory).unwrap();
    if status == NOT_PERMITTED {
        println!("skipped: mounting a tmpfs is not permitted");
        return;
    }
    assert_eq!(status, 0, "the child failed: {status:#x}");
}

#[test]
fn what_is_free_in_pieces_and_what_is_free_at_all() {
    let arena = arena(64 << 20).anonymous().unwrap();
    let mut random = Random(3);
    let mut live = Vec::new();
    loop {
        let size = 16 + random.below(64) as usize * random.below(64) as usize;
        match take(&arena, size) {
            Ok(block) => live.push((block, size)),
            Err(_) => break,
        }
    }
    let full = arena.stats();
    let mut freed = 0;
    live.retain(|&(block, size)| {
        let keep = random.below(10) == 0;
        if !keep {
            freed += size as u64;
            give_back(&arena, block);
        }
        keep
    });
    arena.trim().unwrap();
    let pieces = arena.stats();
    println!(
        "of {} KiB freed at random, {} KiB are whole slabs, the largest run {} KiB",
        freed >> 10,
        pieces.holes >> 10,
        pieces.largest_free_run >> 10
    );
    assert!(pieces.used < full.used / 5);
    // What is reported can be had, and what is larger cannot.
    let run = pieces.largest_free_run as usize;
    assert!(run >= 64 << 10, "no slab is free");
    drop(arena.alloc(layout(run)).unwrap());
    let more = arena.alloc(layout(run + 1)).map(drop);
    assert!(matches!(more, Err(Error::Full { .. })), "{more:?}");
    // All of what is whole is of use for large blocks; the largest do not find much of it in one piece.
    let mut large = Vec::new();
    for size in [128 << 10, 64 << 10, 32 << 10] {
        loop {
            match take(&arena, size) {
                Ok(block) => large.push((block, size)),
                Err(Error::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let in_large: usize = large.iter().map(|&(_, size)| size).sum();
    assert_eq!(in_large as u64, pieces.free);
    assert!(large.len() > 200, "{} large blocks", large.len());
    assert!(arena.check().problems().is_empty());
    for (block, size) in large {
        assert_unharmed(&arena, block, size);
        give_back(&arena, block);
    }
    for (block, size) in live {
        assert_unharmed(&arena, block, size);
        give_back(&arena, block);
    }
    let given_back = arena.trim().unwrap();
    let after = arena.stats();
    assert!(given_back > 0);
    assert_eq!(after.holes, after.free);
    assert_eq!(after.largest_free_run, after.free);
    let everything = arena
        .alloc(layout(after.largest_free_run as usize))
        .unwrap();
    assert!(everything.layout().size() as u64 + after.metadata > 62 << 20);
    drop(everything);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(usize),
    Free(usize),
    Trim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0u32..18).prop_flat_map(|scale| 1usize << scale..2 << scale).prop_map(Step::Alloc),
        4 => any::<usize>().prop_map(Step::Free),
        1 => Just(Step::Trim),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn trims_change_nothing(steps in steps(), file in any::<bool>(), large in any::<bool>()) {
        let options = arena(if large { 16 << 20 } else { 1 << 20 });
        let arena = if file { options.anonymous() } else { options.in_memory() }.unwrap();
        let mut live = BTreeMap::new();
        for step in steps {
            match step {
                Step::Alloc(size) => match take(&arena, size) {
                    Ok(block) => prop_assert!(live.insert(block.offset(), size).is_none()),
                    Err(error) => prop_assert!(matches!(error, Error::Full { .. }), "{error}"),
                },
                Step::Free(which) => {
                    let found = live.iter().nth(which % live.len().max(1));
                    if let Some((offset, size)) = found.map(|(&offset, &size)| (offset, size)) {
                        let block = RelPtr::from_offset(offset).unwrap();
                        assert_unharmed(&arena, block, size);
                        give_back(&arena, block);
                        live.remove(&offset);
                    }
                }
                Step::Trim => {
                    let before = arena.stats();
                    let given_back = arena.trim().unwrap();
                    let after = arena.stats();
                    prop_assert_eq!(after.holes, before.holes + given_back);
                    prop_assert_eq!(after.used, before.used);
                }
            }
        }
        let report = arena.check();
        prop_assert!(report.is_ok(), "{report}");
        let mut unowned: Vec<u64> = report.unowned().iter().map(|block| block.offset).collect();
        unowned.sort_unstable();
        prop_assert!(unowned.iter().eq(live.keys()));
        for (&offset, &size) in &live {
            let block = RelPtr::from_offset(offset).unwrap();
            assert_unharmed(&arena, block, size);
            give_back(&arena, block);
        }
        arena.trim().unwrap();
        let stats = arena.stats();
        prop_assert_eq!((stats.holes, stats.cached), (stats.free, 0));
        prop_assert!(arena.check().is_clean());
    }
}
