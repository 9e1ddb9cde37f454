//! Reader-writer locks across threads and processes, some of which are killed.

mod common;

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
fn a_killed_reader_keeps_nobody_waiting() {
    let (arena, world) = world();
    for round in 1..=50 {
        let mut reader = Forked::run(|| {
            let _read = world.pair.read().unwrap();
            let _more: Vec<_> = (0..10).map(|n| world.many[n].read().unwrap()).collect();
            reach(&world.stage, round);
            sleep_for_ever()
        });
        await_stage(&world.stage, round);
        assert!(matches!(world.pair.try_write(), Err(Error::WouldBlock)));
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut pair = world.pair.write().unwrap();
                pair[0] += 1;
                pair[1] += 1;
            });
            let further = scope.spawn(|| *world.many[9].write().unwrap() += 1);
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            reader.kill();
            writer.join().unwrap();
            further.join().unwrap();
        });
    }
    assert_eq!(*world.pair.read().unwrap(), [50, 50]);
    check(&arena);
}

#[test]
fn a_killed_writer_is_undone_by_who_reads_or_writes_next() {
    let (arena, world) = world();
    *world.pair.write().unwrap() = [7, 7];
    for round in 1..=50 {
        let mut writer = Forked::run(|| {
            let mut pair = world.pair.write().unwrap();
            pair[0] = 99;
            reach(&world.stage, round);
            sleep_for_ever()
        });
        await_stage(&world.stage, round);
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|n| {
                    let world = &world;
                    scope.spawn(move || match n {
                        0 => *world.pair.write().unwrap(),
                        _ => *world.pair.read().unwrap(),
                    })
                })
                .collect();
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            writer.kill();
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), [7, 7]);
            }
        });
    }
    check(&arena);
}

#[test]
fn a_writer_that_is_killed_while_it_waits_for_readers() {
    let (arena, world) = world();
    let read = world.pair.read().unwrap();
    for round in 1..=20 {
        let mut writer = Forked::run(|| {
            reach(&world.stage, round);
            drop(world.pair.write());
            0
        });
        await_stage(&world.stage, round);
        until("it keeps readers out", || !is_readable(&world.pair));
        writer.kill();
        until("it does so no more", || is_readable(&world.pair));
    }
    drop(read);
    assert!(is_writable(&world.pair));
    check(&arena);
}

/// A writer that waits keeps new readers out, but not those who read already.
#[test]
fn a_waiting_writer_goes_before_new_readers() {
    let (_arena, world) = world();
    let read = world.pair.read().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            *world.pair.write().unwrap() = [1, 1];
        });
        until("the writer waits", || !is_readable(&world.pair));
        let again = world.pair.read().unwrap();
        let and_again = world.pair.try_read().unwrap();
        drop(read);
        drop(again);
        let late = scope.spawn(|| *world.pair.read().unwrap());
        assert_eq!(*and_again, [0, 0]);
        drop(and_again);
        writer.join().unwrap();
        assert_eq!(late.join().unwrap(), [1, 1]);
    });
}

/// All readers that slept for one writer go on, not one alone.
#[test]
fn all_readers_that_wait_are_woken() {
    let (_arena, world) = world();
    for round in 0..20 {
        let write = world.pair.write().unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let read = world.pair.read().unwrap();
                    world.readers.fetch_add(1, AcqRel);
                    // None of them may go before all are in.
                    until("all read", || {
                        world.readers.load(Acquire) >= (round + 1) * 8
                    });
                    drop(read);
                });
            }
            thread::sleep(Duration::from_millis(5));
            drop(write);
        });
    }
}

#[test]
fn trying_and_waiting_for_a_time() {
    let (_arena, world) = world();
    let soon = || Instant::now() + SHORT;
    let write = world.pair.write().unwrap();
    elsewhere(|| {
        let lock = &world.pair;
        assert!(matches!(lock.try_read(), Err(Error::WouldBlock)));
        assert!(matches!(lock.try_read_for(SHORT), Err(Error::TimedOut)));
        assert!(matches!(lock.try_read_until(soon()), Err(Error::TimedOut)));
        assert!(matches!(lock.try_write_for(SHORT), Err(Error::TimedOut)));
    });
    drop(write);
    let read = world.pair.read().unwrap();
    elsewhere(|| {
        let lock = &world.pair;
        assert!(matches!(lock.try_write(), Err(Error::WouldBlock)));
        assert!(matches!(lock.try_write_for(SHORT), Err(Error::TimedOut)));
        assert!(matches!(lock.try_write_until(soon()), Err(Error::TimedOut)));
        // The word was given back.
        assert_eq!(*lock.try_read().unwrap(), [0, 0]);
        assert_eq!(*lock.try_read_for(LONG).unwrap(), [0, 0]);
        assert_eq!(*lock.try_read_until(soon()).unwrap(), [0, 0]);
    });
    drop(read);
    assert_eq!(*world.pair.try_write().unwrap(), [0, 0]);
    assert_eq!(*world.pair.try_write_for(LONG).unwrap(), [0, 0]);
    assert_eq!(*world.pair.try_write_until(soon()).unwrap(), [0, 0]);
}

/// A writer that gives up also lets those go on who wait for it.
#[test]
fn who_waits_for_a_writer_that_gives_up_goes_on() {
    let (_arena, world) = world();
    let read = world.pair.read().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| world.pair.try_write_for(Duration::from_millis(300)).is_ok());
        until("the writer waits", || !is_readable(&world.pair));
        let late: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| *world.pair.read().unwrap()))
            .collect();
        for reader in late {
            assert_eq!(reader.join().unwrap(), [0, 0]);
        }
        assert!(!writer.join().unwrap());
    });
    drop(read);
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

/// S2: what a section read stays as it was read, until the section ends.
#[test]
fn a_section_keeps_what_it_read() {
    let (arena, world) = world();
    arena
        .section(|| {
            assert_eq!(*world.pair.read()?, [0, 0]);
            assert!(is_readable(&world.pair) && !is_writable(&world.pair));
            arena.section(|| {
                drop(world.other.read()?);
                Ok(())
            })?;
            assert!(!is_writable(&world.other));
            // Ours again at once.
            drop(world.pair.read()?);
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&world.pair) && is_writable(&world.other));
    check(&arena);
}

#[test]
fn a_section_writes_what_it_read_and_reads_what_it_wrote() {
    let (arena, world) = world();
    arena
        .section(|| {
            let before = *world.pair.read()?;
            *world.pair.write()? = [before[0] + 1, before[1] + 1];
            let read = world.pair.read()?;
            assert_eq!(*read, [1, 1]);
            assert!(matches!(world.pair.write(), Err(Error::WouldDeadlock)));
            drop(read);
            assert!(!is_readable(&world.pair));
            world.pair.write()?[1] += 0;
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&world.pair));
    assert_eq!(*world.pair.read().unwrap(), [1, 1]);
    check(&arena);
}

/// A guard from before, or one that leaves: its lock is held as long as it lives.
#[test]
fn read_guards_across_the_ends_of_sections() {
    let (arena, world) = world();
    let from_before = world.pair.read().unwrap();
    let leaves = arena.section(|| world.other.read()).unwrap();
    assert!(!is_writable(&world.pair) && !is_writable(&world.other));
    drop(leaves);
    assert!(is_writable(&world.other));
    arena
        .section(|| {
            drop(from_before);
            assert!(!is_writable(&world.pair), "retained");
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&world.pair));
    // One that was written: the lock is left to be read.
    let leaves = arena
        .section(|| {
            *world.other.write()? += 1;
            world.other.read()
        })
        .unwrap();
    assert_eq!(*leaves, 1);
    assert!(is_readable(&world.other) && !is_writable(&world.other));
    drop(leaves);
    assert!(is_writable(&world.other));
}

/// Read locks follow neither what is moved nor what is freed (J4).
#[test]
fn locks_that_are_moved_or_freed_are_read_no_more() {
    let arena = Arena::in_memory().unwrap();
    let lists = arena
        .root::<Mutex<collections::Vec<RwLock<u64>>>>("lists")
        .unwrap();
    arena
        .section(|| {
            let mut list = lists.lock()?;
            list.push(RwLock::new(1))?;
            list.push(RwLock::new(2))?;
            drop(list[0].read()?);
            mem::forget(list[1].read()?);
            list.swap(0, 1);
            // Neither is the lock that was read any more.
            assert_eq!((*list[0].read()?, *list[1].read()?), (2, 1));
            list.clear();
            list.shrink_to_fit()?;
            list.push(RwLock::new(3))?;
            *list[0].write()? += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(*lists.lock().unwrap()[0].read().unwrap(), 4);
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

#[test]
fn an_inherited_read_guard_does_nothing() {
    let (_arena, world) = world();
    let read = world.pair.read().unwrap();
    let more = world.other.read().unwrap();
    // SAFETY: the child only drops the guards and tries the lock.
    match unsafe { libc::fork() } {
        0 => {
            drop((read, more));
            let held = matches!(world.pair.try_write(), Err(Error::WouldBlock))
                && matches!(world.other.try_write(), Err(Error::WouldBlock))
                && world.pair.try_read().is_ok();
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!held)) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(status, 0);
        }
    }
    assert!(!is_writable(&world.pair));
    drop((read, more));
    assert!(is_writable(&world.pair) && is_writable(&world.other));
}

/// References from a leaked guard may be in other threads' hands.
#[test]
fn a_thread_that_leaks_a_read_guard_aborts_its_process() {
    let (_arena, world) = world();
    let mut child = Forked::run(|| {
        let world = world.clone();
        let ended = thread::spawn(move || mem::forget(world.pair.read().unwrap()));
        let _ = ended.join();
        0
    });
    let status = child.wait();
    assert_eq!(status & 0x7f, libc::SIGABRT, "{status:#x}");
    assert!(is_writable(&world.pair));
}

/// At `exit` nothing is given back while a guard lives, but the death does.
#[test]
fn a_process_that_exits_with_a_read_guard() {
    let (arena, world) = world();
    let child = Forked::run(|| {
        let _read = world.pair.read().unwrap();
        // SAFETY: ends the child, which has one thread.
        unsafe { libc::exit(0) }
    });
    child.succeed();
    *world.pair.write().unwrap() = [2, 2];
    check(&arena);
}

#[test]
fn two_who_read_and_then_write_do_not_wait_for_ever() {
    let (arena, world) = world();
    let upgrade = || {
        arena.section(|| {
            let before = *world.pair.read()?;
            world.readers.fetch_add(1, AcqRel);
            until("both have read", || world.readers.load(Acquire) >= 2);
            let mut pair = world.pair.write()?;
            *pair = [before[0] + 1, before[1] + 1];
            Ok(())
        })
    };
    let outcomes = thread::scope(|scope| {
        let both = [scope.spawn(upgrade), scope.spawn(upgrade)];
        both.map(|thread| thread.join().unwrap())
    });
    let failed = |outcome: &&Result<(), Error>| matches!(outcome, Err(Error::Deadlock { .. }));
    // Both may see the circle before one of them is gone.
    let failures = outcomes.iter().filter(failed).count() as u64;
    assert!((1..=2).contains(&failures), "{outcomes:?}");
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
    assert_eq!(done, 2 - failures, "{outcomes:?}");
    assert_eq!(*world.pair.read().unwrap(), [done, done]);
}

/// One waits for a mutex whose owner waits for the lock that the first one reads.
#[test]
fn a_deadlock_through_a_reader_is_found() {
    let (_arena, world) = world();
    let outcome = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let _read = world.pair.read().unwrap();
            reach(&world.stage, 1);
            await_stage(&world.stage, 2);
            world.mutex.lock().map(drop)
        });
        let writer = scope.spawn(|| {
            await_stage(&world.stage, 1);
            let arena = world.arena();
            arena.section(|| {
                let _mutex = world.mutex.lock()?;
                reach(&world.stage, 2);
                world.pair.write().map(drop)
            })
        });
        [reader.join().unwrap(), writer.join().unwrap()]
    });
    let is_circle = |outcome: &&Result<(), Error>| matches!(outcome, Err(Error::Deadlock { locks }) if locks.len() == 2);
    let circles = outcome.iter().filter(is_circle).count();
    let done = outcome.iter().filter(|one| one.is_ok()).count();
    assert!(circles >= 1 && circles + done == 2, "{outcome:?}");
}

/// Readers and writers that wait for each other in no circle are never told that they do.
#[test]
fn no_deadlock_is_found_where_there_is_none() {
    let (_arena, world) = world();
    thread::scope(|scope| {
        for seed in 0..4 {
            let world = &world;
            scope.spawn(move || {
                let mut random = Random(seed);
                for _ in 0..300 {
                    let hold = Duration::from_micros(random.below(300));
                    if random.below(3) == 0 {
                        let mut pair = world.pair.write().unwrap();
                        pair[0] += 1;
                        thread::sleep(hold);
                        pair[1] += 1;
                    } else {
                        let pair = world.pair.read().unwrap();
                        thread::sleep(hold);
                        assert_eq!(pair[0], pair[1]);
                    }
                }
            });
        }
    });
}

/// A section that read is no obstacle when it is dead; and it never was.
#[test]
fn a_killed_section_with_a_read_and_a_write() {
    let (arena, world) = world();
    for round in 1..=20 {
        let mut child = Forked::run(|| {
            let _ = world.arena().section(|| {
                let read = *world.other.read()?;
                *world.pair.write()? = [read, 9];
                reach(&world.stage, round);
                sleep_for_ever();
                #[allow(unreachable_code)]
                Ok(())
            });
            0
        });
        await_stage(&world.stage, round);
        assert!(!is_writable(&world.other) && is_readable(&world.other));
        child.kill();
        *world.other.write().unwrap() += 1;
        assert_eq!(*world.pair.read().unwrap(), [0, 0]);
    }
    check(&arena);
}

/// Some are killed at any instant, and the others see both halves equal.
#[test]
fn kills_at_random_instants() {
    let (arena, world) = world();
    let mut random = Random(3);
    for _ in 0..60 {
        let mut victims: Vec<_> = (0..2)
            .map(|seed| {
                Forked::run(|| {
                    let mut random = Random(seed);
                    loop {
                        if random.below(2) == 0 {
                            let mut pair = world.pair.write().unwrap();
                            pair[0] += 1;
                            pair[1] += 1;
                        } else {
                            let pair = world.pair.read().unwrap();
                            let other = world.other.read().unwrap();
                            if pair[0] != pair[1] {
                                reach(&world.stage, 1);
                            }
                            drop((pair, other));
                        }
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_micros(500 + random.below(5000)));
        victims.iter_mut().for_each(Forked::kill);
        let mut pair = world.pair.try_write_for(LONG).unwrap();
        assert_eq!(pair[0], pair[1]);
        pair[0] += 1;
        pair[1] += 1;
        drop(pair);
        drop(world.other.try_write_for(LONG).unwrap());
    }
    assert_eq!(
        world.stage.load(Acquire),
        0,
        "a reader saw a half of a write"
    );
    check(&arena);
}

#[test]
fn shown() {
    let (_arena, world) = world();
    assert_eq!(format!("{:?}", world.other), "RwLock { value: 0, .. }");
    let write = world.other.write().unwrap();
    assert_eq!(format!("{write} {write:?}"), "0 0");
    let shown = elsewhere(|| format!("{:?}", world.other));
    assert!(shown.contains("held by somebody else"), "{shown}");
    drop(write);
    let read = world.other.read().unwrap();
    assert_eq!(format!("{read} {read:?}"), "0 0");
}

/// A transaction reads and writes through itself.
#[test]
fn transactions() {
    let (arena, world) = world();
    let world = &world;
    arena
        .transaction(|tx| {
            assert!(matches!(world.pair.read(), Err(Error::InTransaction)));
            assert!(matches!(world.pair.write(), Err(Error::InTransaction)));
            let read = *tx.read(&world.other)?;
            assert!(!is_writable(&world.other));
            tx.write(&world.pair)?[0] = read + 1;
            tx.try_write(&world.pair)?[1] = *tx.try_read(&world.other)? + 1;
            mem::forget(tx.read(&world.other)?);
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&world.other) && is_writable(&world.pair));
    assert_eq!(*world.pair.read().unwrap(), [1, 1]);
    let undone = arena.transaction(|tx| -> Result<(), Error> {
        *tx.write(&world.pair)? = [5, 6];
        assert_eq!(*tx.read(&world.pair)?, [5, 6]);
        drop(tx.try_read_for(&world.other, LONG)?);
        drop(tx.try_write_for(&world.other, LONG)?);
        Err("no".into())
    });
    assert!(undone.is_err());
    assert!(is_writable(&world.other) && is_writable(&world.pair));
    assert_eq!(*world.pair.read().unwrap(), [1, 1]);
    check(&arena);
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

/// S2: who waits for a permit might wait for somebody who waits for what the section has read.
#[test]
fn no_waiting_for_permits_while_a_section_keeps_what_it_read() {
    let arena = Arena::in_memory().unwrap();
    let lock = arena.root::<RwLock<u64>>("lock").unwrap();
    let permits = arena.root::<Semaphore>("permits").unwrap();
    arena
        .section(|| {
            drop(lock.read()?);
            assert!(matches!(permits.acquire(), Err(Error::InSection)));
            Ok(())
        })
        .unwrap();
    let _read = lock.read().unwrap();
    let short = permits.try_acquire_for(SHORT);
    assert!(matches!(short, Err(Error::TimedOut)));
}
