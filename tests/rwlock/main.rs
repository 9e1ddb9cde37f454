//! Reader-writer locks across threads and processes, some of which are killed.

#[path = "../common/mod.rs"]
mod common;
mod deaths;
mod sections;
mod waiting;

use common::{Forked, Random, await_stage, reach, until};
use sharena::{
    Access, Arena, Error, Root, Share,
    collections::{self, String as Text},
    sync::{Mutex, RwLock, Semaphore},
};
use std::{
    mem,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
    thread,
    time::{Duration, Instant},
};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(20);

#[derive(Share, Default)]
#[repr(C)]
struct World {
    /// Two halves that are equal whenever nobody writes.
    pair: RwLock<[u64; 2]>,
    other: RwLock<u64>,
    mutex: Mutex<u64>,
    many: [RwLock<u64>; 32],
    stage: AtomicU32,
    readers: AtomicU32,
    done: AtomicU32,
}

fn world() -> (Arena, Root<World>) {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    (arena, world)
}

fn check(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

/// What another thread gets.
fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(f).join().unwrap())
}

fn is_readable<T: Share + Sync>(lock: &RwLock<T>) -> bool {
    elsewhere(|| match lock.try_read() {
        Ok(_) => true,
        Err(Error::WouldBlock) => false,
        Err(error) => panic!("{error}"),
    })
}

fn is_writable<T: Share + Sync>(lock: &RwLock<T>) -> bool {
    elsewhere(|| match lock.try_write() {
        Ok(_) => true,
        Err(Error::WouldBlock) => false,
        Err(error) => panic!("{error}"),
    })
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn many_read_or_one_writes() {
    let (arena, world) = world();
    let read = world.pair.read().unwrap();
    assert!(is_readable(&world.pair) && !is_writable(&world.pair));
    drop(read);
    let mut write = world.pair.write().unwrap();
    *write = [1, 1];
    assert!(!is_readable(&world.pair) && !is_writable(&world.pair));
    drop(write);
    assert!(is_readable(&world.pair) && is_writable(&world.pair));
    assert_eq!(*world.pair.read().unwrap(), [1, 1]);
    check(&arena);
}

#[test]
fn writers_and_readers_of_threads_and_processes() {
    let (arena, world) = world();
    let work = |seed: u64| {
        let mut random = Random(seed);
        for _ in 0..3000 {
            if random.below(4) == 0 {
                let mut pair = world.pair.write().unwrap();
                pair[0] += 1;
                pair[1] += 1;
                world.done.fetch_add(1, Relaxed);
            } else {
                let pair = world.pair.read().unwrap();
                assert_eq!(pair[0], pair[1]);
            }
        }
    };
    let children: Vec<_> = (0..3)
        .map(|seed| {
            Forked::run(|| {
                work(seed);
                0
            })
        })
        .collect();
    thread::scope(|scope| {
        for seed in 3..6 {
            scope.spawn(move || work(seed));
        }
    });
    children.into_iter().for_each(Forked::succeed);
    let done = u64::from(world.done.load(Relaxed));
    assert_eq!(*world.pair.read().unwrap(), [done, done]);
    check(&arena);
}

#[test]
fn refusals() {
    let (arena, world) = world();
    let (other_arena, theirs) = self::world();
    {
        let _read = world.pair.read().unwrap();
        assert!(matches!(world.pair.write(), Err(Error::WouldDeadlock)));
        assert!(matches!(world.pair.try_write(), Err(Error::WouldDeadlock)));
        // A read lock begins no section.
        *world.mutex.lock().unwrap() += 1;
        *world.other.write().unwrap() += 1;
        *theirs.mutex.lock().unwrap() += 1;
        let unit = || -> Result<(), Error> {
            *world.mutex.lock()? += 1;
            Ok(())
        };
        arena.section(unit).unwrap();
        let refused = arena.transaction(|_| Ok(()));
        assert!(matches!(refused, Err(Error::InSection)));
    }
    {
        let mut write = world.pair.write().unwrap();
        assert!(matches!(world.pair.read(), Err(Error::WouldDeadlock)));
        assert!(matches!(world.pair.write(), Err(Error::WouldDeadlock)));
        assert!(matches!(world.other.write(), Err(Error::NeedsSection)));
        assert!(matches!(world.mutex.lock(), Err(Error::NeedsSection)));
        assert!(matches!(theirs.pair.write(), Err(Error::OtherArena)));
        write.commit().unwrap();
        let read = world.other.read().unwrap();
        assert_eq!((*read, *theirs.other.read().unwrap()), (1, 0));
        assert!(matches!(write.commit(), Err(Error::NeedsSection)));
        drop(read);
        write.commit().unwrap();
    }
    arena
        .section(|| {
            let _write = world.pair.write()?;
            assert!(matches!(world.pair.read(), Err(Error::WouldDeadlock)));
            assert!(matches!(world.pair.write(), Err(Error::WouldDeadlock)));
            assert!(matches!(theirs.pair.read(), Err(Error::OtherArena)));
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&theirs.pair));
    static STATIC: RwLock<u64> = RwLock::new(0);
    assert!(matches!(STATIC.read(), Err(Error::NotInArena)));
    assert!(matches!(STATIC.write(), Err(Error::NotInArena)));
    assert!(matches!(RwLock::new(0u64).read(), Err(Error::NotInArena)));
    assert_eq!(RwLock::new(5u64).into_inner(), 5);
    assert_eq!(*RwLock::new(5u64).get_mut().unwrap(), 5);
    check(&arena);
    check(&other_arena);
}

#[test]
fn a_thread_has_so_many_read_locks_and_no_more() {
    let (arena, world) = world();
    let mut guards = Vec::new();
    let refused = loop {
        match world.many[guards.len()].read() {
            Ok(guard) => guards.push(guard),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::TooManyReadLocks { limit: 22 }));
    assert_eq!(guards.len(), 22);
    // One more guard of the same needs no other cell.
    let again = world.many[21].read().unwrap();
    for (n, lock) in world.many.iter().enumerate() {
        assert_eq!(is_writable(lock), n >= 22, "{n}");
    }
    drop(again);
    // In any order: those in the slot and those beside it.
    let mut random = Random(7);
    let mut held: Vec<usize> = (0..22).collect();
    while !guards.is_empty() {
        let which = random.below(guards.len() as u64) as usize;
        drop(guards.swap_remove(which));
        let lock = held.swap_remove(which);
        assert!(is_writable(&world.many[lock]));
        assert!(held.iter().all(|&lock| !is_writable(&world.many[lock])));
    }
    assert!(world.many[31].read().is_ok());
    check(&arena);
}

#[test]
fn a_panic_of_a_writer_poisons_and_one_of_a_reader_does_not() {
    let (arena, world) = world();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let _read = world.pair.read().unwrap();
            panic!("on purpose");
        });
        assert!(reader.join().is_err());
    });
    assert!(!world.pair.is_poisoned() && is_writable(&world.pair));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut write = world.pair.write().unwrap();
            write[0] = 5;
            panic!("on purpose");
        });
        assert!(writer.join().is_err());
    });
    assert!(world.pair.is_poisoned());
    assert!(matches!(world.pair.read(), Err(Error::Poisoned)));
    assert!(matches!(world.pair.write(), Err(Error::Poisoned)));
    assert!(matches!(world.pair.freeze(), Err(Error::Poisoned)));
    world.pair.clear_poison().unwrap();
    assert_eq!(world.pair.read().unwrap()[0], 5);
    world.pair.write().unwrap()[0] = 0;
    check(&arena);
}

#[test]
fn frozen_for_ever() {
    let folder = std::env::temp_dir().join(format!("sharena-rwlock-{}", std::process::id()));
    let options = Arena::options().max_size(1 << 20).clone();
    // SAFETY: a file of this test's own.
    let arena = unsafe { options.open_or_create(&folder) }.unwrap();
    let root = arena.root::<RwLock<Text>>("text").unwrap();
    root.write().unwrap().push_str("written").unwrap();
    assert!(matches!(root.frozen(), Err(Error::NotFrozen)));
    let reader = root.read().unwrap();
    // Readers may go on.
    let frozen = root.freeze().unwrap();
    let other = frozen.clone();
    assert_eq!((other.as_str(), reader.as_str()), ("written", "written"));
    drop((reader, other));
    assert!(root.is_frozen());
    assert!(matches!(root.write(), Err(Error::Frozen)));
    assert!(matches!(root.try_write(), Err(Error::Frozen)));
    assert_eq!(root.read().unwrap().as_str(), "written");
    root.freeze().unwrap();
    check(&arena);
    drop((frozen, root, arena));
    let mut options = options;
    // SAFETY: as above.
    let arena = unsafe { options.access(Access::ReadOnly).open(&folder) }.unwrap();
    let root = arena.find::<RwLock<Text>>("text").unwrap();
    assert_eq!(root.frozen().unwrap().as_str(), "written");
    assert_eq!(root.into_frozen().unwrap().as_str(), "written");
    assert!(matches!(root.read(), Err(Error::ReadOnly)));
    assert!(matches!(root.write(), Err(Error::ReadOnly)));
    drop((root, arena));
    std::fs::remove_file(folder).unwrap();
}

/// Parallel readers under one guard.
#[test]
fn a_read_guard_is_shared_by_threads() {
    let arena = Arena::in_memory().unwrap();
    let list = arena.root::<RwLock<collections::Vec<u64>>>("list").unwrap();
    list.write().unwrap().try_extend(0..1000).unwrap();
    let read = list.read().unwrap();
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        for part in read.chunks(250) {
            scope.spawn(|| sum.fetch_add(part.iter().sum(), Relaxed));
        }
    });
    assert_eq!(sum.into_inner(), 999 * 500);
}

/// A signal handler that reads and writes what the thread reads gets its turn or an error, and leaves
/// nothing behind.
#[test]
fn signal_handlers_read_and_write() {
    static ROOT: std::sync::OnceLock<Root<World>> = std::sync::OnceLock::new();
    static DONE: AtomicU64 = AtomicU64::new(0);
    extern "C" fn handler(_: i32) {
        let world = ROOT.get().expect("set before the first signal");
        if let Ok(read) = world.pair.try_read() {
            assert_eq!(read[0], read[1]);
            DONE.fetch_add(1, Relaxed);
        }
        if let Ok(mut pair) = world.pair.try_write() {
            *pair = [pair[0] + 1, pair[1] + 1];
        }
        let _ = world.arena().section(|| {
            drop(world.other.try_read()?);
            *world.pair.try_write()? = [0, 0];
            Ok(())
        });
    }
    let (arena, world) = world();
    assert!(ROOT.set(world.clone()).is_ok());
    let ended = AtomicU32::new(0);
    thread::scope(|scope| {
        // SAFETY: the handler uses handles that live for ever, and allocates nothing outside sharena
        // where that was interrupted inside the allocator: its thread only takes locks.
        unsafe { libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t) };
        let (told, pthread) = std::sync::mpsc::channel();
        let (world, ended) = (&world, &ended);
        scope.spawn(move || {
            // SAFETY: asks who this is.
            told.send(unsafe { libc::pthread_self() }).unwrap();
            for _ in 0..200_000 {
                let read = world.pair.read();
                let other = world.other.read();
                // A handler may have the lock to write at that instant: it ends before this goes on.
                if let Ok(read) = &read {
                    assert_eq!(read[0], read[1]);
                }
                drop((read, other));
            }
            ended.store(1, Release);
            until("no signal is on its way", || ended.load(Acquire) == 2);
        });
        let thread = pthread.recv().unwrap();
        while ended.load(Acquire) == 0 {
            // SAFETY: the thread is there until it was told to end.
            unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
            thread::sleep(Duration::from_micros(20));
        }
        ended.store(2, Release);
    });
    assert_ne!(DONE.load(Relaxed), 0, "no signal came between");
    assert!(is_writable(&world.pair) && is_writable(&world.other));
    check(&arena);
}
