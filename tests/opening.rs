//! Opening again and again, by many at once, while others grow the arena.

mod common;

use common::{Forked, PATIENCE, Random, Scratch};
use sharena::{Arena, Error, RelPtr, sync::Mutex};
use std::{
    alloc::Layout,
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::*},
    },
    thread,
    time::Instant,
};

fn create(path: &Path) -> Arena {
    // SAFETY: only the tests use the file, through sharena.
    unsafe { Arena::options().max_size(16 << 20).slots(16).create(path) }.unwrap()
}

fn open(path: &Path) -> Result<Arena, Error> {
    // SAFETY: as above.
    unsafe { Arena::open(path) }
}

#[test]
fn one_process_opens_and_closes_it_many_times() {
    let scratch = Scratch::new("opening-again");
    let path = scratch.path("arena");
    drop(create(&path));
    for round in 0..100 {
        let arena = open(&path).unwrap();
        let count = arena.root::<Mutex<u64>>("count").unwrap();
        let mut count = count.lock().unwrap();
        assert_eq!(*count, round);
        *count += 1;
    }
    let arena = open(&path).unwrap();
    arena.root::<Mutex<u64>>("other").unwrap();
    for name in ["count", "other"] {
        arena.remove(name).unwrap();
    }
    assert!(arena.check().is_clean(), "{}", arena.check());
    assert_eq!(arena.check().blocks(), 0, "handles of closed arenas count");
}

/// A copy is another arena's life: its slots are all of the dead, and only one of those who open it
/// may say so.
#[test]
fn many_threads_open_a_copy_at_once() {
    let scratch = Scratch::new("opening-copy");
    let path = scratch.path("arena");
    let arena = create(&path);
    *arena.root::<Mutex<u64>>("count").unwrap().lock().unwrap() = 1;
    drop(arena);
    let mut random = Random(2);
    for round in 0..800 {
        let copy = scratch.path(&format!("copy-{round}"));
        fs::copy(&path, &copy).unwrap();
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            let opener = |pause: u64| {
                barrier.wait();
                (0..pause).for_each(|_| std::hint::spin_loop());
                let arena = open(&copy).unwrap();
                let count = arena.find::<Mutex<u64>>("count").unwrap();
                for _ in 0..100 {
                    *count.lock().unwrap() += 1;
                }
            };
            let pauses = [(); 4].map(|()| random.below(4000));
            let openers = pauses.map(|pause| scope.spawn(move || opener(pause)));
            // The copy is unmapped when the threads have really ended.
            for opener in openers {
                opener.join().unwrap();
            }
        });
        let arena = open(&copy).unwrap();
        let count = *arena.find::<Mutex<u64>>("count").unwrap().lock().unwrap();
        assert_eq!(count, 401, "who had opened it was taken for dead");
        assert!(arena.check().is_ok(), "{}", arena.check());
        drop(arena);
        fs::remove_file(&copy).unwrap();
    }
}

#[test]
fn many_processes_open_a_copy_at_once() {
    let scratch = Scratch::new("opening-copies");
    let path = scratch.path("arena");
    let arena = create(&path);
    *arena.root::<Mutex<u64>>("count").unwrap().lock().unwrap() = 1;
    drop(arena);
    for round in 0..30 {
        let copy = scratch.path(&format!("copy-{round}"));
        fs::copy(&path, &copy).unwrap();
        let children: Vec<_> = (0..6)
            .map(|_| {
                Forked::run(|| {
                    let arena = open(&copy).unwrap();
                    let count = arena.find::<Mutex<u64>>("count").unwrap();
                    for _ in 0..100 {
                        *count.lock().unwrap() += 1;
                    }
                    0
                })
            })
            .collect();
        children.into_iter().for_each(Forked::succeed);
        let arena = open(&copy).unwrap();
        let count = *arena.find::<Mutex<u64>>("count").unwrap().lock().unwrap();
        assert_eq!(count, 601, "who had opened it was taken for dead");
        drop(arena);
        fs::remove_file(&copy).unwrap();
    }
}

/// Whoever opens reads the file's length and the committed size, which both change meanwhile.
#[test]
fn opened_while_it_grows() {
    let scratch = Scratch::new("opening-grows");
    for round in 0..20 {
        let path = scratch.path(&format!("arena-{round}"));
        // SAFETY: only this test uses the file.
        let arena = unsafe { Arena::options().max_size(64 << 20).create(&path) }.unwrap();
        let openers: Vec<_> = (0..2)
            .map(|_| {
                Forked::run(|| {
                    let began = Instant::now();
                    // The mapping of before the fork must not be found again.
                    loop {
                        // SAFETY: as above.
                        let found = unsafe {
                            Arena::options()
                                .access(sharena::Access::ReadOnly)
                                .open(&path)
                        };
                        match found {
                            Ok(arena) if arena.stats().committed > 40 << 20 => return 0,
                            Ok(_) if began.elapsed() < PATIENCE => {}
                            Ok(_) => return 2,
                            Err(error) => {
                                eprintln!("{error}");
                                return 1;
                            }
                        }
                    }
                })
            })
            .collect();
        let layout = Layout::from_size_align(64 << 10, 8).unwrap();
        let mut blocks = Vec::new();
        while let Ok(block) = arena.alloc(layout) {
            blocks.push(block);
        }
        drop(blocks);
        openers.into_iter().for_each(Forked::succeed);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn options_that_ask_for_more_than_there_are_addresses() {
    Forked::run(|| {
        // What a process needs for its first arena is there.
        drop(Arena::in_memory().unwrap());
        let limit = libc::rlimit {
            rlim_cur: 1 << 20,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: a valid limit.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
        let many = Arena::options().slots(512).anonymous();
        let large = Arena::options().initial_size(16 << 20).anonymous();
        let refused = |result| matches!(result, Err(Error::NoAddressSpace { .. }));
        i32::from(!refused(many)) | i32::from(!refused(large)) << 1
    })
    .succeed();
}

/// What a program prints whose standard streams are closed does not go into an arena.
#[test]
fn without_standard_streams() {
    let scratch = Scratch::new("opening-streams");
    let path = scratch.path("arena");
    Forked::run(|| {
        let print = || {
            for stream in 0..3 {
                // SAFETY: reads three bytes of a constant; on failure nothing is written.
                unsafe { libc::write(stream, c"xyz".as_ptr().cast(), 3) };
            }
        };
        let (named, unnamed, second);
        // SAFETY: closes this process's own streams; only it uses the file.
        unsafe {
            (0..3).for_each(|stream| assert_eq!(libc::close(stream), 0));
            named = Arena::create(&path).unwrap();
            unnamed = Arena::anonymous().unwrap();
            let handed_over = libc::dup2(unnamed.as_fd().unwrap().as_raw_fd(), 0);
            second = Arena::from_fd(OwnedFd::from_raw_fd(handed_over)).unwrap();
        }
        for arena in [&named, &unnamed, &second] {
            arena.root::<Mutex<u64>>("number").unwrap();
        }
        print();
        let child = Forked::run(|| {
            *named.root::<Mutex<u64>>("number").unwrap().lock().unwrap() += 1;
            print();
            0
        });
        child.succeed();
        print();
        for arena in [&named, &unnamed, &second] {
            assert!(arena.check().is_clean(), "{}", arena.check());
        }
        0
    })
    .succeed();
    // SAFETY: nobody else uses the file.
    let arena = unsafe { Arena::open(&path) }.unwrap();
    assert_eq!(
        *arena.find::<Mutex<u64>>("number").unwrap().lock().unwrap(),
        1
    );
}

#[test]
fn the_umask_does_not_matter() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("opening-umask");
    Forked::run(|| {
        // SAFETY: a child of one thread.
        unsafe { libc::umask(0o777) };
        let path = scratch.path("arena");
        // SAFETY: only this test uses the file.
        let arena = unsafe { Arena::options().max_size(1 << 20).mode(0o640).create(&path) };
        let mode = fs::metadata(&path).map(|found| found.permissions().mode() & 0o777);
        i32::from(arena.is_err() || !matches!(mode, Ok(0o640)))
    })
    .succeed();
}

/// What cannot be opened is not left behind by who wanted to create it.
#[test]
fn a_creation_that_fails_leaves_no_file() {
    let scratch = Scratch::new("opening-left-behind");
    let path = scratch.path("arena");
    let mut options = Arena::options();
    options.max_size(1 << 20).mode(0o660);
    // SAFETY: only this test uses the file.
    let refused = unsafe { options.create(&path) };
    let option = match refused {
        Err(Error::BadOption { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(option, "mode");
    assert!(!path.exists());
    // SAFETY: as above; all who may write it are this test.
    let arena = unsafe { options.allow_foreign_writers(true).create(&path) }.unwrap();
    drop(arena);
    fs::remove_file(&path).unwrap();

    options.mode(0o600);
    Forked::run(|| {
        // As many as the process can have mapped.
        let mut others = std::vec::Vec::new();
        while let Ok(arena) = options.in_memory() {
            others.push(arena);
        }
        // SAFETY: as above.
        let refused = unsafe { options.create(&path) };
        i32::from(refused.is_ok() || path.exists())
    })
    .succeed();
}

#[test]
fn slots_that_cannot_be_had_are_named() {
    for slots in [0, 1, 16_001] {
        match Arena::options().slots(slots).in_memory() {
            Err(Error::BadOption { option, reason }) => {
                assert_eq!(option, "slots");
                assert!(reason.contains("2 to 16000"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Blocks of a mapping that goes and comes again lie at the same offsets, if not addresses.
#[test]
fn offsets_outlive_a_mapping() {
    let scratch = Scratch::new("opening-offsets");
    let path = scratch.path("arena");
    let arena = create(&path);
    let pointer: RelPtr<u64> = arena.alloc_value(77).unwrap().into_raw().unwrap();
    drop(arena);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let arena = open(&path).unwrap();
            // SAFETY: made from a value above, and used by nobody else.
            assert_eq!(unsafe { *pointer.resolve(&arena).unwrap() }, 77);
            // SAFETY: as above.
            unsafe { arena.dealloc(pointer).unwrap() };
            done.store(true, Release);
        });
    });
    assert!(done.load(Acquire));
    assert!(open(&path).unwrap().check().is_clean());
}

/// Who looks for one arena holds no other, not even for a moment: else a copy that is opened behind
/// the end of another copy was refused as its twin.
#[test]
fn copies_one_behind_the_other() {
    let open_and_close = || {
        let arena = Arena::options().max_size(1 << 18).in_memory().unwrap();
        *arena.root::<Mutex<u64>>("n").unwrap().lock().unwrap() = 1;
        let image = arena.image();
        drop(arena);
        for _ in 0..1000 {
            let copy = Arena::options().from_image(&image).unwrap();
            assert_eq!(*copy.find::<Mutex<u64>>("n").unwrap().lock().unwrap(), 1);
        }
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(open_and_close);
        }
    });
}
