//! Who waits for whom, for how long, and who is told that it would be for ever.

use super::*;

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
