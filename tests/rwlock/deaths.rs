//! Readers and writers that are killed, that end, or that were inherited.

use super::*;

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
    assert_eq!(shown, "RwLock { value: <locked>, .. }");
    drop(write);
    let read = world.other.read().unwrap();
    assert_eq!(format!("{read} {read:?}"), "0 0");
}
