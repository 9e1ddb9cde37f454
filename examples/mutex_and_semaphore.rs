//! Two processes that write the same memory: what one does the other sees, in turn, and whatever
//! happens to it.
//!
//! ```sh
//! cargo run --example mutex_and_semaphore
//! ```
//!
//! Four acts: B sees what A writes, at once; four processes count together; at most two of four are
//! in a room at a time; and a process is killed while it holds a lock and a permit.

mod processes;

use processes::{Name, Process, Result, argument};
use sharena::{
    Arena, Error, Root, Share,
    collections::String,
    sync::{Mutex, Semaphore},
};
use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

const COUNTERS: u64 = 4;
const ROUNDS: u64 = 2_000;
const VISITS: u64 = 25;
const PLACES: u32 = 2;

/// What is said to B, and B's answer. A struct of containers is a container itself.
#[derive(Share, Default)]
#[repr(C)]
struct Talk {
    question: String,
    answer: String,
}

/// Who is in the room.
#[derive(Share, Clone, Copy, Default)]
#[repr(C)]
struct Room {
    inside: u32,
    most: u32,
    visits: u64,
}

fn main() -> ExitCode {
    processes::run(|part| match part {
        None => direct(),
        Some("listener") => listen(),
        Some("counter") => count(),
        Some("visitor") => visit(),
        Some("victim") => be_killed(),
        Some(other) => processes::unknown_part(other),
    })
}

fn direct() -> Result {
    let name = Name::new("mutex_and_semaphore");
    let arena = Arena::named(name.as_str())?;
    talk(&name, &arena)?;
    count_together(&name, &arena)?;
    share_a_room(&name, &arena)?;
    kill_a_holder(&name, &arena)?;
    println!("ok: mutex and semaphore work across processes");
    Ok(())
}

/// A semaphore in the arena, with so many permits when it is created.
fn semaphore(arena: &Arena, name: &str, permits: u32) -> Result<Root<Semaphore>> {
    Ok(arena.root_with(name, |semaphore| {
        *semaphore = Semaphore::new(permits);
        Ok(())
    })?)
}

/// Waits for a signal that another process sends by `post`. The permit is used up.
fn wait_for(signal: &Semaphore) -> Result {
    match signal.try_acquire_for(Duration::from_secs(30)) {
        Ok(permit) => permit.forget(),
        Err(Error::TimedOut) => return Err("waited half a minute for the other process".into()),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

// Act 1.

fn talk(name: &Name, arena: &Arena) -> Result {
    let talk = arena.root::<Mutex<Talk>>("talk")?;
    let asked = semaphore(arena, "asked", 0)?;
    let answered = semaphore(arena, "answered", 0)?;
    let listener = Process::start("listener", &[name.as_str()])?;

    talk.lock()?.question.assign("is that memory?")?;
    // First the guard ends, then the other one is told: a signal takes effect at once, also when
    // the section in which it is sent is undone later.
    asked.post()?;
    wait_for(&answered)?;
    println!("A reads: {}", talk.lock()?.answer);
    listener.finish()
}

fn listen() -> Result {
    let arena = Arena::named(&argument(1)?)?;
    wait_for(&*semaphore(&arena, "asked", 0)?)?;
    let talk = arena.root::<Mutex<Talk>>("talk")?;
    let mut guard = talk.lock()?;
    println!("B reads: {}", guard.question);
    guard
        .answer
        .assign("it is, and nothing was sent or copied")?;
    drop(guard);
    semaphore(&arena, "answered", 0)?.post()?;
    Ok(())
}

// Act 2.

fn count_together(name: &Name, arena: &Arena) -> Result {
    run_all("counter", COUNTERS, name)?;
    let count = *arena.root::<Mutex<u64>>("count")?.lock()?;
    println!("{COUNTERS} processes counted to {count}");
    expect(count == COUNTERS * ROUNDS, "some steps are missing")
}

fn count() -> Result {
    let arena = Arena::named(&argument(1)?)?;
    let count = arena.root::<Mutex<u64>>("count")?;
    for _ in 0..ROUNDS {
        // Reading, adding and writing are three steps. Without the lock, some would get lost.
        *count.lock()? += 1;
    }
    Ok(())
}

// Act 3.

fn share_a_room(name: &Name, arena: &Arena) -> Result {
    semaphore(arena, "places", PLACES)?;
    run_all("visitor", COUNTERS, name)?;
    let room = *arena.root::<Mutex<Room>>("room")?.lock()?;
    println!("{} visits, at most {} at a time", room.visits, room.most);
    let all = room.visits == COUNTERS * VISITS && room.inside == 0;
    expect(
        all && (1..=PLACES).contains(&room.most),
        "the room was too full",
    )
}

fn visit() -> Result {
    let arena = Arena::named(&argument(1)?)?;
    let places = semaphore(&arena, "places", PLACES)?;
    let room = arena.root::<Mutex<Room>>("room")?;
    for _ in 0..VISITS {
        // Not used up, as a signal is, but held: the place is free again when this is dropped.
        let _place = places.acquire()?;
        let mut guard = room.lock()?;
        guard.visits += 1;
        guard.inside += 1;
        guard.most = guard.most.max(guard.inside);
        drop(guard);
        thread::sleep(Duration::from_micros(200));
        room.lock()?.inside -= 1;
    }
    Ok(())
}

// Act 4.

fn kill_a_holder(name: &Name, arena: &Arena) -> Result {
    let treasure = arena.root::<Mutex<u64>>("treasure")?;
    *treasure.lock()? = 1000;
    let key = semaphore(arena, "key", 1)?;
    let ready = semaphore(arena, "ready", 0)?;

    let victim = Process::start("victim", &[name.as_str()])?;
    wait_for(&ready)?;
    let locked = matches!(treasure.try_lock(), Err(Error::WouldBlock));
    let taken = matches!(key.try_acquire(), Err(Error::WouldBlock));
    expect(locked && taken, "the victim does not hold what it should")?;

    victim.kill()?;
    let killed = Instant::now();
    let left = *treasure.lock()?;
    drop(key.acquire()?);
    let waited = killed.elapsed();
    println!("the holder was killed in the middle, and {left} is left of 1000");
    println!("lock and permit could be had again after {waited:?}");
    expect(left == 1000, "the section of the dead was not undone")
}

fn be_killed() -> Result {
    let arena = Arena::named(&argument(1)?)?;
    let key = semaphore(&arena, "key", 1)?;
    let _key = key.acquire()?;
    let treasure = arena.root::<Mutex<u64>>("treasure")?;
    let mut guard = treasure.lock()?;
    // In the memory that all share. But the section has not ended, so it counts for nothing yet.
    *guard = 1;
    semaphore(&arena, "ready", 0)?.post()?;
    thread::sleep(Duration::from_secs(60));
    Err("nobody killed the victim".into())
}

/// Starts several processes with the same part, and waits for all of them.
fn run_all(part: &str, count: u64, name: &Name) -> Result {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(Process::start(part, &[name.as_str()])?);
    }
    all.into_iter().try_for_each(Process::finish)
}

fn expect(holds: bool, otherwise: &str) -> Result {
    match holds {
        true => Ok(()),
        false => Err(otherwise.into()),
    }
}
