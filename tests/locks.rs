//! Mutexes and sections across threads and processes, some of which are killed.

mod common;

use common::{Forked, Random, await_stage, reach, until};
use parking_lot::lock_api::RawMutex as _;
use sharena::{
    Arena, Error, Root, Share, collections,
    sync::{Mutex, RawMutex},
};
use std::{
    sync::atomic::{AtomicU32, Ordering::*},
    thread,
    time::{Duration, Instant},
};

#[derive(Share, Default)]
#[repr(C)]
struct World {
    a: Mutex<u64>,
    b: Mutex<u64>,
    stage: AtomicU32,
    other: AtomicU32,
    raw: RawMutex,
}

fn world() -> (Arena, Root<World>) {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    (arena, world)
}

#[test]
fn processes_and_threads_exclude_each_other() {
    let (_arena, world) = world();
    let children: Vec<_> = (0..4)
        .map(|_| {
            Forked::run(|| {
                for _ in 0..2000 {
                    *world.a.lock().unwrap() += 1;
                }
                0
            })
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    *world.a.lock().unwrap() += 1;
                }
            });
        }
    });
    children.into_iter().for_each(Forked::succeed);
    assert_eq!(*world.a.lock().unwrap(), 14_000);
}

#[test]
fn who_waits_for_a_killed_holder_goes_on_and_finds_what_was_before() {
    let (_arena, world) = world();
    *world.a.lock().unwrap() = 7;
    let mut worst = Duration::ZERO;
    for round in 1..=100 {
        let mut holder = Forked::run(|| {
            let mut guard = world.a.lock().unwrap();
            *guard = 99;
            reach(&world.stage, round);
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        });
        await_stage(&world.stage, round);
        let woke = thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let value = *world.a.lock().unwrap();
                (value, Instant::now())
            });
            if round % 2 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            let killed = Instant::now();
            holder.kill();
            let (value, at) = waiter.join().unwrap();
            assert_eq!(value, 7);
            at.saturating_duration_since(killed)
        });
        worst = worst.max(woke);
    }
    println!("from the kill to the lock: {worst:?} at worst");
}

#[test]
fn a_holder_of_two_locks_dies_with_a_waiter_on_each() {
    let (arena, world) = world();
    for round in 1..=30 {
        let mut holder = Forked::run(|| {
            let _ = arena.section(|| {
                let (mut a, mut b) = (world.a.lock()?, world.b.lock()?);
                *a += 1;
                *b += 1;
                reach(&world.stage, round);
                loop {
                    thread::sleep(Duration::from_secs(1));
                }
                #[allow(unreachable_code)]
                Ok(())
            });
            0
        });
        await_stage(&world.stage, round);
        thread::scope(|scope| {
            let on_a = scope.spawn(|| *world.a.lock().unwrap());
            let on_b = scope.spawn(|| *world.b.lock().unwrap());
            thread::sleep(Duration::from_millis(3));
            holder.kill();
            assert_eq!((on_a.join().unwrap(), on_b.join().unwrap()), (0, 0));
        });
    }
}

#[test]
fn a_waiter_is_killed() {
    let (_arena, world) = world();
    let guard = world.a.lock().unwrap();
    for round in 1..=20 {
        let mut waiter = Forked::run(|| {
            reach(&world.stage, round);
            drop(world.a.lock());
            0
        });
        await_stage(&world.stage, round);
        thread::sleep(Duration::from_millis(1));
        waiter.kill();
    }
    drop(guard);
    *world.a.lock().unwrap() += 1;
    let patient = Forked::run(|| i32::from(*world.a.lock().unwrap() != 1));
    patient.succeed();
}

#[test]
fn sections_are_one_unit_wherever_they_are_killed() {
    let (arena, world) = world();
    let mut random = Random(1);
    for _ in 0..200 {
        let mut worker = Forked::run(|| {
            loop {
                arena
                    .section(|| {
                        *world.a.lock()? += 1;
                        *world.b.lock()? += 1;
                        Ok(())
                    })
                    .unwrap();
                world.other.fetch_add(1, Relaxed);
            }
        });
        thread::sleep(Duration::from_micros(random.below(2500)));
        worker.kill();
        let (a, b) = arena
            .section(|| Ok((*world.a.lock()?, *world.b.lock()?)))
            .unwrap();
        assert_eq!(a, b);
    }
    assert!(world.other.load(Relaxed) > 0);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn commit_keeps_the_first_part() {
    let (_arena, world) = world();
    let mut child = Forked::run(|| {
        let mut guard = world.a.lock().unwrap();
        *guard = 1;
        guard.commit().unwrap();
        *guard = 2;
        reach(&world.stage, 1);
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    });
    await_stage(&world.stage, 1);
    child.kill();
    assert_eq!(*world.a.lock().unwrap(), 1);
}

/// Writes under a lock when it is dropped.
struct WritesLate<'r>(&'r Root<Mutex<u64>>);

impl Drop for WritesLate<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap() += 1;
    }
}

#[test]
fn a_lock_that_is_taken_in_a_panic_is_not_poisoned() {
    let arena = Arena::in_memory().unwrap();
    let number = arena.root::<Mutex<u64>>("number").unwrap();
    let panic_with = |also: &dyn Fn()| {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _late = WritesLate(&number);
            also();
            panic!("on purpose");
        }));
        assert!(caught.is_err());
    };
    panic_with(&|| {});
    assert_eq!(*number.lock().unwrap(), 1);
    // Also where the thread works with other arenas, and in a scope that the panic ends.
    let other = Arena::in_memory().unwrap();
    let elsewhere = other.root::<Mutex<u64>>("number").unwrap();
    panic_with(&|| *elsewhere.lock().unwrap() += 1);
    assert_eq!(*number.lock().unwrap(), 2);
    arena
        .section(|| {
            panic_with(&|| {});
            Ok(())
        })
        .unwrap();
    assert_eq!(*number.lock().unwrap(), 3);
    // One that the scope has still is no other when it is taken again.
    arena
        .section(|| {
            drop(number.lock()?);
            panic_with(&|| {});
            Ok(())
        })
        .unwrap();
    assert_eq!(*number.lock().unwrap(), 4);
    assert_eq!(*elsewhere.lock().unwrap(), 1);
    // The next one is poisoned again by a panic of its own.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        *number.lock().unwrap() = 9;
        let mut guard = number.lock().unwrap();
        *guard = 10;
        panic!("on purpose");
    }));
    assert!(caught.is_err());
    assert!(matches!(number.lock(), Err(Error::Poisoned)));
    assert!(arena.check().is_clean() && other.check().is_clean());
}

#[test]
fn a_thread_has_sections_in_several_arenas_by_turns() {
    let arenas = [(); 3].map(|()| Arena::in_memory().unwrap());
    let numbers = arenas
        .each_ref()
        .map(|arena| arena.root::<Mutex<u64>>("number").unwrap());
    for round in 0..100 {
        for (at, number) in numbers.iter().enumerate() {
            let mut guard = number.lock().unwrap();
            *guard += 1;
            let another = &numbers[(at + 1 + round % 2) % 3];
            assert!(matches!(another.lock(), Err(Error::OtherArena)));
            assert!(matches!(number.lock(), Err(Error::WouldDeadlock)));
        }
    }
    for (number, arena) in numbers.iter().zip(&arenas) {
        assert_eq!(*number.lock().unwrap(), 100);
        assert!(arena.check().is_clean());
    }
}

#[test]
fn a_panic_poisons_what_it_unwinds_through_and_what_was_written() {
    let (arena, world) = world();
    // As in `std`, it does not matter what was done under the guard.
    let panicked = std::panic::catch_unwind(|| {
        let _guard = world.a.lock();
        panic!("on purpose");
    });
    assert!(panicked.is_err() && world.a.is_poisoned());
    world.a.clear_poison().unwrap();
    let committed = std::panic::catch_unwind(|| {
        let mut guard = world.a.lock().unwrap();
        *guard += 1;
        guard.commit().unwrap();
        panic!("on purpose");
    });
    assert!(committed.is_err() && world.a.is_poisoned());
    world.a.clear_poison().unwrap();
    *world.a.lock().unwrap() = 0;
    let panicked = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            *world.a.lock().unwrap() += 1;
            let mut guard = world.a.lock().unwrap();
            *guard += 1;
            panic!("on purpose");
        });
        thread.join().is_err()
    });
    assert!(panicked && world.a.is_poisoned());
    assert!(matches!(world.a.lock(), Err(Error::Poisoned)));
    world.a.clear_poison().unwrap();
    assert_eq!(*world.a.lock().unwrap(), 2);
    // Of those whose guards had gone, one that was only read is not poisoned; one that was written is.
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            arena
                .section(|| {
                    *world.a.lock()? += 1;
                    let _read = *world.b.lock()?;
                    if true {
                        panic!("on purpose");
                    }
                    Ok(())
                })
                .unwrap();
        });
        assert!(thread.join().is_err());
    });
    assert!(world.a.is_poisoned());
    assert!(!world.b.is_poisoned());
}

#[test]
fn trying() {
    let (_arena, world) = world();
    let guard = world.a.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(matches!(world.a.try_lock(), Err(Error::WouldBlock)));
            let short = Duration::from_millis(20);
            assert!(matches!(world.a.try_lock_for(short), Err(Error::TimedOut)));
            let soon = Instant::now() + short;
            assert!(matches!(world.a.try_lock_until(soon), Err(Error::TimedOut)));
        });
    });
    drop(guard);
    assert_eq!(*world.a.try_lock().unwrap(), 0);
    let long = Duration::from_secs(20);
    assert_eq!(*world.a.try_lock_for(long).unwrap(), 0);
}

#[test]
fn refusals() {
    let (arena, world) = world();
    let (_other_arena, elsewhere) = self::world();
    {
        let _guard = world.a.lock().unwrap();
        assert!(matches!(world.a.lock(), Err(Error::WouldDeadlock)));
        assert!(matches!(world.b.lock(), Err(Error::NeedsSection)));
        assert!(matches!(elsewhere.a.lock(), Err(Error::OtherArena)));
        assert!(matches!(arena.section(|| Ok(())), Err(Error::NeedsSection)));
        assert!(matches!(
            arena.root::<Mutex<u64>>("new"),
            Err(Error::InSection)
        ));
        assert!(matches!(arena.remove("world"), Err(Error::InSection)));
    }
    arena
        .section(|| {
            let _guard = world.a.lock()?;
            assert!(matches!(world.a.lock(), Err(Error::WouldDeadlock)));
            assert!(matches!(elsewhere.a.lock(), Err(Error::OtherArena)));
            drop(world.b.lock()?);
            // Retained, and ours again.
            *world.b.lock()? += 1;
            arena.section(|| {
                assert!(world.b.try_lock().is_ok());
                Ok(())
            })
        })
        .unwrap();
    assert_eq!(*world.b.lock().unwrap(), 1);
    static STATIC: Mutex<u64> = Mutex::new(0);
    assert!(matches!(STATIC.lock(), Err(Error::NotInArena)));
    assert!(matches!(Mutex::new(0u64).lock(), Err(Error::NotInArena)));
}

#[test]
fn retained_locks_are_held_to_the_end_of_the_section() {
    let (arena, world) = world();
    arena
        .section(|| {
            *world.a.lock()? += 1;
            let blocked = thread::scope(|scope| {
                let other = scope.spawn(|| matches!(world.a.try_lock(), Err(Error::WouldBlock)));
                other.join().unwrap()
            });
            assert!(blocked);
            Ok(())
        })
        .unwrap();
    assert_eq!(*world.a.try_lock().unwrap(), 1);
}

/// A guard that was leaked in a section borrows nothing any more: its lock may be moved and freed,
/// and the end of the section must not write where it was.
#[test]
fn a_leaked_guard_does_not_hold_memory_that_was_freed() {
    let arena = Arena::in_memory().unwrap();
    let locks = arena
        .root::<Mutex<collections::Vec<Mutex<u64>>>>("locks")
        .unwrap();
    let numbers = arena
        .root::<Mutex<collections::Vec<u64>>>("numbers")
        .unwrap();
    arena
        .section(|| {
            let (mut locks, mut numbers) = (locks.lock()?, numbers.lock()?);
            locks.push(Mutex::new(1))?;
            std::mem::forget(locks[0].lock()?);
            locks.clear();
            locks.shrink_to_fit()?;
            for _ in 0..8 {
                numbers.push(u64::MAX)?;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(*numbers.lock().unwrap(), [u64::MAX; 8]);
}

/// The closure may return a guard, or leave it in a variable outside: the lock stays held.
#[test]
fn a_guard_that_leaves_a_section_puts_its_end_off() {
    let (arena, world) = world();
    let taken = |lock: &Mutex<u64>| {
        thread::scope(|scope| {
            let other = scope.spawn(|| matches!(lock.try_lock(), Err(Error::WouldBlock)));
            other.join().unwrap()
        })
    };
    let mut kept = arena
        .section(|| {
            *world.b.lock()? += 1;
            world.a.lock()
        })
        .unwrap();
    *kept += 1;
    assert!(taken(&world.a) && taken(&world.b));
    assert!(matches!(world.b.lock(), Err(Error::NeedsSection)));
    assert!(matches!(arena.section(|| Ok(())), Err(Error::NeedsSection)));
    drop(kept);
    assert!(!taken(&world.a) && !taken(&world.b));
    arena
        .section(|| {
            let (mut a, mut b) = (world.a.lock()?, world.b.lock()?);
            std::mem::swap(&mut *a, &mut *b);
            Ok(())
        })
        .unwrap();
    assert_eq!(*world.a.lock().unwrap(), 1);
    assert_eq!(*world.b.lock().unwrap(), 1);
}

#[test]
fn a_deadlock_is_found_and_named() {
    let (arena, world) = world();
    let in_order = |first: &Mutex<u64>, second: &Mutex<u64>| {
        arena.section(|| {
            let mut first = first.lock()?;
            world.stage.fetch_add(1, AcqRel);
            until("both have one lock", || world.stage.load(Acquire) >= 2);
            *second.lock()? += 1;
            *first += 1;
            Ok(())
        })
    };
    let outcomes = thread::scope(|scope| {
        let one = scope.spawn(|| in_order(&world.a, &world.b));
        let two = scope.spawn(|| in_order(&world.b, &world.a));
        [one.join().unwrap(), two.join().unwrap()]
    });
    let told = |outcome: &&Result<(), Error>| matches!(outcome, Err(Error::Deadlock { locks }) if locks.len() == 2);
    // Both may see the circle before one of them is gone.
    let told = outcomes.iter().filter(told).count() as u64;
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
    assert!(told >= 1 && told + done == 2, "{outcomes:?}");
    for number in [&world.a, &world.b] {
        assert_eq!(*number.lock().unwrap(), done);
    }
}

/// Waiting for a time is a way out of a circle: nobody is told of one that ends so.
#[test]
fn a_wait_that_ends_by_itself_is_in_no_circle() {
    let (arena, world) = world();
    let outcomes = thread::scope(|scope| {
        let patient = scope.spawn(|| {
            arena.section(|| {
                let _b = world.b.lock()?;
                reach(&world.stage, 1);
                await_stage(&world.stage, 2);
                world.a.lock().map(drop)
            })
        });
        let timed = scope.spawn(|| {
            arena.section(|| {
                let _a = world.a.lock()?;
                await_stage(&world.stage, 1);
                reach(&world.stage, 2);
                world.b.try_lock_for(Duration::from_millis(150)).map(drop)
            })
        });
        [patient.join().unwrap(), timed.join().unwrap()]
    });
    assert!(
        matches!(outcomes, [Ok(()), Err(Error::TimedOut)]),
        "{outcomes:?}"
    );
}

#[test]
fn a_thread_that_leaks_a_guard_aborts_its_process() {
    let (_arena, world) = world();
    let mut child = Forked::run(|| {
        // The message goes where nobody looks; the status is what counts here.
        let thread = thread::Builder::new().name("leaker".into());
        let world = world.clone();
        let ended = thread.spawn(move || std::mem::forget(world.a.lock().unwrap()));
        let _ = ended.unwrap().join();
        0
    });
    let status = child.wait();
    assert_eq!(status & 0x7f, libc::SIGABRT, "{status:#x}");
    assert_eq!(*world.a.lock().unwrap(), 0);
}

#[test]
fn an_inherited_guard_does_nothing() {
    let (_arena, world) = world();
    let mut guard = world.a.lock().unwrap();
    *guard = 5;
    // The child has a copy of the guard and drops it; the contract of fork forbids any other use.
    // SAFETY: the child only drops the guard and tries the lock.
    match unsafe { libc::fork() } {
        0 => {
            drop(guard);
            let held = matches!(world.a.try_lock(), Err(Error::WouldBlock));
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
    *guard += 1;
    drop(guard);
    assert_eq!(*world.a.lock().unwrap(), 6);
}

/// Also of raw locks, whose guards are those of `lock_api`.
#[test]
fn an_inherited_raw_guard_does_nothing() {
    let (_arena, world) = world();
    world.raw.lock();
    assert!(world.raw.is_locked());
    // SAFETY: the child only unlocks and tries the lock.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: what a guard that it inherited does when it is dropped.
            unsafe { world.raw.unlock() };
            let held = world.raw.is_locked() && !world.raw.try_lock();
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
    // SAFETY: taken above.
    unsafe { world.raw.unlock() };
    assert!(!world.raw.is_locked());

    let mut child = Forked::run(|| {
        world.raw.lock();
        reach(&world.stage, 1);
        loop {
            thread::park();
        }
    });
    await_stage(&world.stage, 1);
    assert!(world.raw.is_locked());
    child.kill();
    assert!(!world.raw.is_locked(), "nobody lives who has it");
    assert!(world.raw.try_lock());
    // SAFETY: taken just now.
    unsafe { world.raw.unlock() };
}

#[test]
fn a_stopped_holder_is_not_taken_for_dead() {
    let (_arena, world) = world();
    let holder = Forked::run(|| {
        let mut guard = world.a.lock().unwrap();
        *guard = 3;
        reach(&world.stage, 1);
        until("the other has looked", || world.stage.load(Acquire) >= 2);
        0
    });
    await_stage(&world.stage, 1);
    holder.signal(libc::SIGSTOP);
    let waited = world.a.try_lock_for(Duration::from_millis(1200));
    assert!(matches!(waited, Err(Error::TimedOut)));
    holder.signal(libc::SIGCONT);
    reach(&world.stage, 2);
    assert_eq!(*world.a.lock().unwrap(), 3);
    holder.succeed();
}

/// Runs `f` as process 1 of a PID namespace of its own.
fn in_namespace(f: impl FnOnce() -> i32) -> Option<Forked> {
    let (arena, world) = world();
    drop((arena, world));
    let outer = Forked::run(|| {
        // SAFETY: the process has one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            return 77;
        }
        let mut inner = Forked::run(f);
        // Killed with the outer process.
        i32::from(inner.wait() != 0)
    });
    Some(outer)
}

#[test]
fn equal_process_ids_in_two_namespaces() {
    let (_arena, world) = world();
    // SAFETY: only asks.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("not root: no PID namespace can be made");
        return;
    }
    let hold = || {
        let mut guard = world.a.lock().unwrap();
        *guard += 1;
        guard.commit().unwrap();
        *guard += 100;
        world.stage.fetch_add(1, AcqRel);
        until("told to go", || world.other.load(Acquire) >= 1);
        0
    };
    let first = in_namespace(hold).unwrap();
    until("the first holds the lock", || {
        world.stage.load(Acquire) == 1
    });
    // The same inner process id, waiting for the lock, killed there.
    let killed_waiter = in_namespace(|| {
        world.stage.fetch_add(1, AcqRel);
        // SAFETY: a plain request: the child dies with its parent.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        drop(world.a.lock());
        0
    });
    until("the second waits", || world.stage.load(Acquire) == 2);
    thread::sleep(Duration::from_millis(20));
    drop(killed_waiter);
    thread::sleep(Duration::from_millis(100));
    assert!(
        matches!(world.a.try_lock(), Err(Error::WouldBlock)),
        "two owners"
    );
    world.other.store(1, Release);
    first.succeed();
    assert_eq!(*world.a.lock().unwrap(), 101);
}

#[test]
fn raw_locks_exclude_and_are_free_after_a_death() {
    let (_arena, world) = world();
    world.raw.lock();
    assert!(!thread::scope(|scope| scope
        .spawn(|| world.raw.try_lock())
        .join()
        .unwrap()));
    // SAFETY: locked by this thread just now.
    unsafe { world.raw.unlock() };
    let mut holder = Forked::run(|| {
        world.raw.lock();
        reach(&world.stage, 1);
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    });
    await_stage(&world.stage, 1);
    holder.kill();
    world.raw.lock();
    // SAFETY: locked by this thread just now.
    unsafe { world.raw.unlock() };
}
