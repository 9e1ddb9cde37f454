//! Locks in unusual surroundings: a kernel without `futex_waitv`, processes that cannot see each
//! other, zombies, equal process ids; and what a deadlock or a leaked guard says.

mod common;

use common::{Forked, PATIENCE, Random, await_stage, reach, until};
use sharena::{
    Arena, Error, Root, Share,
    sync::{Mutex, RwLock, Semaphore},
};
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
    thread,
    time::{Duration, Instant},
};

#[derive(Share, Default)]
#[repr(C)]
struct World {
    a: Mutex<u64>,
    b: Mutex<u64>,
    shared: RwLock<u64>,
    permits: Semaphore,
    stage: AtomicU32,
    other: AtomicU32,
    /// Nanoseconds since boot.
    at: AtomicU64,
}

fn world() -> (Arena, Root<World>) {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    (arena, world)
}

fn is_root() -> bool {
    // SAFETY: only asks.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("not root: skipped");
    }
    root
}

/// A clock that all processes share.
fn now() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes to the local only.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// Holders are killed at random instants while two processes wait in `lock`: both get it, and find
/// a value that some unit left.
#[test]
fn holders_are_killed_at_random_instants_while_others_wait() {
    let (arena, world) = world();
    let mut random = Random(11);
    let stop = Forked::run(|| 0);
    stop.succeed();
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            Forked::run(|| {
                while world.other.load(Acquire) == 0 {
                    let guard = world.a.lock().unwrap();
                    if *guard % 2 != 0 {
                        return 1;
                    }
                    world.at.store(now(), Release);
                    drop(guard);
                    thread::yield_now();
                }
                0
            })
        })
        .collect();
    let mut worst = 0;
    for _ in 0..300 {
        let mut holder = Forked::run(|| {
            loop {
                let mut guard = world.a.lock().unwrap();
                *guard += 1;
                (0..200).for_each(|_| std::hint::spin_loop());
                *guard += 1;
            }
        });
        thread::sleep(Duration::from_micros(random.below(2000)));
        holder.signal(libc::SIGKILL);
        let killed = now();
        until("a waiter has the lock", || world.at.load(Acquire) > killed);
        worst = worst.max(world.at.load(Acquire).saturating_sub(killed));
        holder.wait();
    }
    world.other.store(1, Release);
    waiters.into_iter().for_each(Forked::succeed);
    assert_eq!(*world.a.lock().unwrap() % 2, 0);
    println!(
        "from the kill to the lock: {:?} at worst",
        Duration::from_nanos(worst)
    );
    arena.reap().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
}

/// Makes `futex_waitv` fail with `ENOSYS` in this process for ever. False if that is impossible.
fn without_futex_waitv() -> bool {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let (load, jump, answer) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut filter = [
        // The number of the system call is the first word.
        statement(load, 0, 0, 0),
        statement(jump, 0, 1, libc::SYS_futex_waitv as u32),
        statement(answer, 0, 0, refuse),
        statement(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a valid filter, for this process only.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    // SAFETY: refused before it looks at its arguments.
    let called = unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) };
    let error = std::io::Error::last_os_error().raw_os_error();
    set && called == -1 && error == Some(libc::ENOSYS)
}

#[test]
fn without_waiting_on_two_words() {
    let (_arena, world) = world();
    for round in 1..=10 {
        let mut holder = Forked::run(|| {
            let mut guard = world.a.lock().unwrap();
            *guard = 99;
            reach(&world.stage, 2 * round);
            sleep_for_ever()
        });
        await_stage(&world.stage, 2 * round);
        let mut waiter = Forked::run(|| {
            if !without_futex_waitv() {
                return 77;
            }
            reach(&world.stage, 2 * round + 1);
            let found = *world.a.lock().unwrap();
            world.at.store(now(), Release);
            i32::from(found != 0)
        });
        until("the waiter waits, or cannot", || {
            world.stage.load(Acquire) > 2 * round || waiter.ended()
        });
        thread::sleep(Duration::from_millis(3));
        let killed = now();
        holder.kill();
        match waiter.wait() >> 8 {
            0 => {}
            77 => {
                eprintln!("no seccomp here: skipped");
                return;
            }
            other => panic!("the waiter failed: {other}"),
        }
        let took = world.at.load(Acquire).saturating_sub(killed);
        println!(
            "from the kill to the lock: {:?}",
            Duration::from_nanos(took)
        );
    }
}

/// A writer that sleeps on a reader's cell alone finds out that the reader is dead; and readers that
/// sleep for it go on behind it.
#[test]
fn readers_and_writers_without_waiting_on_two_words() {
    let (arena, world) = world();
    let mut reader = Forked::run(|| {
        let _read = world.shared.read().unwrap();
        reach(&world.stage, 1);
        sleep_for_ever()
    });
    await_stage(&world.stage, 1);
    let waiting = |write: bool| {
        Forked::run(|| {
            if !without_futex_waitv() {
                return 77;
            }
            world.other.fetch_add(1, AcqRel);
            match write {
                true => *world.shared.write().unwrap() += 1,
                false => drop(world.shared.read().unwrap()),
            }
            0
        })
    };
    let mut waiters = vec![waiting(true)];
    until("the writer keeps readers out, or cannot", || {
        matches!(world.shared.try_read(), Err(Error::WouldBlock)) || waiters[0].ended()
    });
    waiters.extend([waiting(false), waiting(false)]);
    until("all wait, or cannot", || {
        world.other.load(Acquire) == 3 || waiters.iter_mut().all(Forked::ended)
    });
    thread::sleep(Duration::from_millis(3));
    reader.kill();
    for mut waiter in waiters {
        match waiter.wait() >> 8 {
            0 => {}
            77 => return eprintln!("no seccomp here: skipped"),
            other => panic!("a waiter failed: {other}"),
        }
    }
    assert_eq!(*world.shared.read().unwrap(), 1);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn a_stopped_reader_is_not_taken_for_dead() {
    let (_arena, world) = world();
    let reader = Forked::run(|| {
        let read = world.shared.read().unwrap();
        reach(&world.stage, 1);
        await_stage(&world.stage, 2);
        i32::from(*read != 0)
    });
    await_stage(&world.stage, 1);
    reader.signal(libc::SIGSTOP);
    let waited = world.shared.try_write_for(Duration::from_millis(1200));
    assert!(matches!(waited, Err(Error::TimedOut)));
    reader.signal(libc::SIGCONT);
    reach(&world.stage, 2);
    *world.shared.write().unwrap() += 1;
    reader.succeed();
}

/// With `hidepid` a process sees no other user's: one that it cannot see is not dead.
#[test]
fn a_holder_that_cannot_be_seen_is_not_taken_for_dead() {
    if !is_root() {
        return;
    }
    let (_arena, world) = world();
    let holder = Forked::run(|| {
        let mut guard = world.a.lock().unwrap();
        *guard = 3;
        reach(&world.stage, 1);
        until("the other has waited", || world.stage.load(Acquire) >= 2);
        *guard = 4;
        0
    });
    await_stage(&world.stage, 1);
    let mut blind = Forked::run(|| {
        // SAFETY: valid strings; changes this process only, which has one thread.
        let hidden = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                && libc::mount(
                    c"proc".as_ptr(),
                    c"/proc".as_ptr(),
                    c"proc".as_ptr(),
                    0,
                    c"hidepid=2".as_ptr().cast(),
                ) == 0
                && libc::setgid(12345) == 0
                && libc::setuid(12345) == 0
        };
        let parent = format!("/proc/{}", std::os::unix::process::parent_id());
        if !hidden || std::path::Path::new(&parent).exists() {
            return 77;
        }
        // Long enough for the second opinion about who holds it.
        let waited = world.a.try_lock_for(Duration::from_millis(2500));
        i32::from(!matches!(waited, Err(Error::TimedOut)))
    });
    let status = blind.wait() >> 8;
    reach(&world.stage, 2);
    holder.succeed();
    match status {
        0 => assert_eq!(*world.a.lock().unwrap(), 4),
        77 => eprintln!("processes cannot be hidden here: skipped"),
        _ => panic!("a lock was taken from a living holder"),
    }
}

/// In a new namespace `/proc` is that of the old one until somebody mounts another: what it says of a
/// number is not about the process that has it.
#[test]
fn the_processes_of_outside_are_not_taken_for_those_of_inside() {
    if !is_root() {
        return;
    }
    let (_arena, world) = world();
    let mut inside = in_namespace(|| {
        // Two holders, one with a number that somebody has outside as well, one with another.
        let number = |wanted: bool| {
            for _ in 0..3000 {
                let mut child = Forked::run(|| {
                    let id = std::process::id();
                    if std::path::Path::new(&format!("/proc/{id}")).exists() != wanted {
                        return 1;
                    }
                    let mut guard = world.a.lock().unwrap();
                    *guard += 1;
                    world.stage.fetch_add(1, AcqRel);
                    until("told to go", || world.other.load(Acquire) > 0);
                    0
                });
                until("it ends or holds the lock", || {
                    world.stage.load(Acquire) > 0 || child.ended()
                });
                if !child.ended() {
                    return Some(child);
                }
            }
            None
        };
        for wanted in [false, true] {
            let Some(holder) = number(wanted) else {
                return 77;
            };
            let waited = world.a.try_lock_for(Duration::from_millis(1500));
            if !matches!(waited, Err(Error::TimedOut)) {
                return 1;
            }
            world.other.store(1, Release);
            holder.succeed();
            world.other.store(0, Release);
            world.stage.store(0, Release);
        }
        0
    });
    match inside.wait() >> 8 {
        0 => assert_eq!(*world.a.lock().unwrap(), 2),
        77 => eprintln!("no PID namespaces, or no such numbers here: skipped"),
        other => panic!("a lock was taken from a living holder: {other}"),
    }
}

/// Nobody waits for the dead to be waited for: zombies are as dead as others, also those that died
/// while they recovered.
#[test]
fn zombies_are_dead() {
    let arena = Arena::options()
        .max_size(4 << 20)
        .slots(6)
        .anonymous()
        .unwrap();
    let world = arena.root::<World>("world").unwrap();
    let mut random = Random(21);
    for _ in 0..40 {
        // More than there are slots; none is waited for before all are dead.
        let mut zombies: Vec<_> = (0..12)
            .map(|_| {
                let zombie = Forked::run(|| {
                    let mut guard = world.a.lock().unwrap();
                    *guard += 1;
                    sleep_for_ever()
                });
                thread::sleep(Duration::from_micros(random.below(700)));
                zombie.signal(libc::SIGKILL);
                zombie
            })
            .collect();
        let began = Instant::now();
        Forked::run(|| {
            let value = world.a.lock().map(|guard| *guard);
            i32::from(!matches!(value, Ok(0)))
        })
        .succeed();
        assert!(began.elapsed() < PATIENCE);
        zombies.iter_mut().for_each(|zombie| {
            zombie.wait();
        });
    }
    arena.reap().unwrap();
    assert_eq!(arena.stats().slots_attached, 1);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

/// Runs `f` as process 1 of a PID namespace of its own; 77 if there can be none.
fn in_namespace(f: impl FnOnce() -> i32) -> Forked {
    Forked::run(|| {
        // SAFETY: the process has one thread.
        if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
            return 77;
        }
        Forked::run(|| {
            // SAFETY: a plain request: killed with the process outside.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            f()
        })
        .wait()
            >> 8
    })
}

/// Two holders with the same process id, each in a namespace of its own: one is killed, and its unit
/// undone; the other lives on.
#[test]
fn of_two_with_the_same_id_one_is_killed() {
    if !is_root() {
        return;
    }
    let (arena, world) = world();
    for round in 1..=20 {
        let hold = |lock: &Mutex<u64>, stage: &AtomicU32| {
            assert_eq!(std::process::id(), 1);
            let mut guard = lock.lock().unwrap();
            *guard += 1;
            reach(stage, round);
            until("told to go", || world.at.load(Acquire) >= u64::from(round));
            0
        };
        let mut one = in_namespace(|| hold(&world.a, &world.stage));
        let mut two = in_namespace(|| hold(&world.b, &world.other));
        until("both hold their locks, or cannot", || {
            (world.stage.load(Acquire) == round && world.other.load(Acquire) == round)
                || one.ended()
                || two.ended()
        });
        if one.ended() {
            assert_eq!(one.wait() >> 8, 77);
            eprintln!("no PID namespaces here: skipped");
            return;
        }
        one.kill();
        assert_eq!(*world.a.lock().unwrap(), 0);
        arena.reap().unwrap();
        let held = world.b.try_lock_for(Duration::from_millis(60));
        assert!(matches!(held, Err(Error::TimedOut)), "{held:?}");
        world.at.store(round.into(), Release);
        two.succeed();
        assert_eq!(*world.b.lock().unwrap(), u64::from(round));
    }
}

/// A child in a namespace inside its parent's, where it has the number that its parent has outside.
#[test]
fn a_child_with_the_number_of_its_parent() {
    if !is_root() {
        return;
    }
    let (arena, world) = world();
    let mut outer = in_namespace(|| {
        // This is process 1, and has been told so.
        *world.a.lock().unwrap() += 1;
        let parent = arena.root::<Mutex<u64>>("of the parent").unwrap();
        let mut inner = in_namespace(|| {
            assert_eq!(std::process::id(), 1);
            let child = arena.root::<Mutex<u64>>("of the child").unwrap();
            *child.lock().unwrap() = 5;
            let mut guard = world.a.lock().unwrap();
            *guard += 1;
            reach(&world.stage, 1);
            until("told to go", || world.stage.load(Acquire) >= 2);
            0
        });
        until("the inner one holds the lock, or cannot", || {
            world.stage.load(Acquire) == 1 || inner.ended()
        });
        *parent.lock().unwrap() = 6;
        arena.remove("of the child").unwrap();
        arena.reap().unwrap();
        // Long enough for a second opinion.
        let held = world.a.try_lock_for(Duration::from_millis(1500));
        let held = matches!(held, Err(Error::TimedOut));
        reach(&world.stage, 2);
        let status = inner.wait() >> 8;
        if status == 0 {
            i32::from(!held)
        } else {
            status
        }
    });
    match outer.wait() >> 8 {
        0 => assert_eq!(*world.a.lock().unwrap(), 2),
        77 => eprintln!("no PID namespaces here: skipped"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_deadlock_between_processes_is_found_and_named() {
    let (arena, world) = world();
    let expected = {
        let offset = |lock: &Mutex<u64>| arena.rel_ptr_of(lock).unwrap().offset();
        let mut both = [offset(&world.a), offset(&world.b)];
        both.sort_unstable();
        both
    };
    for round in 1..=20 {
        let in_order = |first: &Mutex<u64>, second: &Mutex<u64>, mine: &AtomicU32| {
            let result = arena.section(|| {
                let mut one = first.lock()?;
                reach(mine, round);
                until("both have one lock", || {
                    world.stage.load(Acquire) >= round && world.other.load(Acquire) >= round
                });
                let mut two = second.lock()?;
                *one += 1;
                *two += 1;
                Ok(())
            });
            match result {
                Ok(()) => 1,
                Err(Error::Deadlock { mut locks }) => {
                    locks.sort_unstable();
                    if locks == expected { 2 } else { 3 }
                }
                Err(_) => 4,
            }
        };
        let mut one = Forked::run(|| in_order(&world.a, &world.b, &world.stage));
        let mut two = Forked::run(|| in_order(&world.b, &world.a, &world.other));
        let ends = [one.wait() >> 8, two.wait() >> 8];
        assert!(ends.contains(&2), "nobody gave way: {ends:?}");
        assert!(ends.iter().all(|end| [1, 2].contains(end)), "{ends:?}");
    }
    let (a, b) = arena
        .section(|| Ok((*world.a.lock()?, *world.b.lock()?)))
        .unwrap();
    assert_eq!(a, b);
}

#[test]
fn many_wait_for_one_who_is_killed() {
    let (_arena, world) = world();
    for round in 1..=10 {
        let holder = Forked::run(|| {
            let mut guard = world.a.lock().unwrap();
            *guard = 1 << 40;
            reach(&world.stage, round);
            sleep_for_ever()
        });
        await_stage(&world.stage, round);
        let waiters: Vec<_> = (0..10)
            .map(|n| {
                let waiter = Forked::run(|| {
                    *world.a.lock().unwrap() += 1;
                    0
                });
                (n, waiter)
            })
            .collect();
        thread::sleep(Duration::from_millis(3));
        let began = Instant::now();
        holder.signal(libc::SIGKILL);
        for (n, mut waiter) in waiters {
            // Some of those who wait die as well; whoever was to wake the next may be among them.
            if n % 3 == 0 {
                waiter.kill();
            } else {
                waiter.succeed();
            }
        }
        println!("all had the lock after {:?}", began.elapsed());
        let value = *world.a.lock().unwrap();
        assert!(value <= u64::from(round) * 10 && value >= u64::from(round) * 6);
    }
}

/// Set in the process that leaks a guard.
const LEAKER: &str = "SHARENA_LEAKER";

#[test]
fn leaker() {
    if std::env::var_os(LEAKER).is_none() {
        return;
    }
    let (_arena, world) = world();
    let thread = thread::Builder::new().name("careless".into());
    let leak = move || std::mem::forget(world.a.lock().unwrap());
    let _ = thread.spawn(leak).unwrap().join();
    println!("still there");
}

#[test]
fn a_leaked_guard_ends_the_process_with_a_message_that_names_the_lock() {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["leaker", "--exact", "--nocapture", "--test-threads=1"])
        .env(LEAKER, "yes")
        .output()
        .unwrap();
    use std::os::unix::process::ExitStatusExt;
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{message}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("still there"));
    for expected in [
        "careless",
        "the lock at offset 0x",
        "tests/locks_unusual.rs:",
    ] {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_permit_comes_back_without_waiting_on_two_words() {
    let (_arena, world) = world();
    world.permits.post().unwrap();
    let mut holder = Forked::run(|| {
        let _permit = world.permits.acquire().unwrap();
        reach(&world.stage, 1);
        sleep_for_ever()
    });
    await_stage(&world.stage, 1);
    let mut waiter = Forked::run(|| {
        if !without_futex_waitv() {
            return 77;
        }
        i32::from(world.permits.acquire().is_err())
    });
    thread::sleep(Duration::from_millis(5));
    holder.kill();
    let status = waiter.wait() >> 8;
    assert!([0, 77].contains(&status));
}
