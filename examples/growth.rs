//! More data than the arena was created for: it grows, while others use it.
//!
//! ```sh
//! cargo run --example growth
//! ```
//!
//! A mapping covers all the *addresses* that the arena may ever use, from the beginning; *memory* is
//! behind the first few. To grow is to allocate more of the file: every process then finds it behind
//! addresses that it had all along. Nobody maps anything anew, no reference moves, nobody restarts.
//!
//! Here process A writes much more than fits at first, and B, which mapped the arena when it was
//! empty, checks every step through that mapping. In the end the arena is full: an error like any
//! other.

mod processes;

use processes::{Name, Process, Result, argument};
use sharena::{
    Arena, Error, Root, Share,
    collections::Vec,
    sync::{Mutex, Semaphore},
};
use std::{process::ExitCode, time::Duration};

/// Where growth ends. It costs addresses only, so it can be generous: 64 GiB if nothing is said.
const MAX_SIZE: u64 = 32 << 20;
const STEPS: u64 = 8;
/// Numbers that A adds in each step: 1 MiB of them.
const NUMBERS: u64 = (1 << 20) / 8;

/// The numbers in parts of moderate size: one large `Vec` would be copied each time it grows.
#[derive(Share, Default)]
#[repr(C)]
struct Data {
    parts: Vec<Vec<u64>>,
}

impl Data {
    fn sum(&self) -> u64 {
        self.parts.iter().flat_map(|part| part.iter()).sum()
    }
}

fn main() -> ExitCode {
    processes::run(|part| match part {
        None => a(),
        Some("process B") => b(),
        Some(other) => processes::unknown_part(other),
    })
}

fn a() -> Result {
    let name = Name::new("growth");
    let arena = Arena::options()
        .max_size(MAX_SIZE)
        .initial_size(64 << 10)
        .named(name.as_str())?;
    let data = arena.root::<Mutex<Data>>("data")?;
    let (ready, seen) = signals(&arena)?;
    let committed = arena.stats().committed;
    println!(
        "A has the arena at {:p}, with {committed} bytes",
        arena.base()
    );

    let process_b = Process::start("process B", &[name.as_str()])?;
    wait_for(&seen)?;
    for step in 0..STEPS {
        append(&data, |number| step * NUMBERS + number)?;
        ready.post()?;
        wait_for(&seen)?;
    }
    process_b.finish()?;

    let grown = arena.stats().committed;
    println!("A still has it at {:p}, with {grown} bytes", arena.base());
    if grown < committed + STEPS * NUMBERS * 8 {
        return Err("the arena has not grown as much as was written".into());
    }
    fill(&data)?;
    println!("ok: grew from {committed} to {grown} bytes under the eyes of both");
    Ok(())
}

/// Adds a part, with a number for each of its places.
fn append(data: &Mutex<Data>, number: impl Fn(u64) -> u64) -> sharena::Result {
    let mut guard = data.lock()?;
    guard.parts.push(Vec::new())?;
    // The part that was just added: there is one.
    guard
        .parts
        .last_mut()
        .map_or(Ok(()), |part| part.try_extend((0..NUMBERS).map(number)))
}

/// Writes on until nothing fits any more.
fn fill(data: &Mutex<Data>) -> Result {
    let sum = data.lock()?.sum();
    for _ in 0..MAX_SIZE / NUMBERS {
        match append(data, |_| 0) {
            Ok(()) => {}
            Err(error @ (Error::Full { .. } | Error::NoSpace { .. })) => {
                println!("in the end: {error}");
                // Nothing is broken: what was there is there.
                let kept = data.lock()?.sum() == sum;
                return if kept {
                    Ok(())
                } else {
                    Err("the data changed".into())
                };
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err("the arena took more than its maximum".into())
}

fn b() -> Result {
    let arena = Arena::named(&argument(1)?)?;
    let base = arena.base();
    let data = arena.root::<Mutex<Data>>("data")?;
    let (ready, seen) = signals(&arena)?;
    println!("B has the arena at {base:p}");
    seen.post()?;
    for step in 1..=STEPS {
        wait_for(&ready)?;
        let sum = data.lock()?.sum();
        let last = step * NUMBERS;
        if sum != last * (last - 1) / 2 || arena.base() != base {
            return Err(format!("B sees the sum {sum} in step {step}").into());
        }
        let committed = arena.stats().committed;
        println!("B sees {last} numbers, all of them right, in {committed} bytes");
        seen.post()?;
    }
    Ok(())
}

/// Two signals: a new step is ready, and B has seen it.
fn signals(arena: &Arena) -> Result<(Root<Semaphore>, Root<Semaphore>)> {
    Ok((arena.root("ready")?, arena.root("seen")?))
}

fn wait_for(signal: &Semaphore) -> Result {
    match signal.try_acquire_for(Duration::from_secs(30)) {
        Ok(permit) => permit.forget(),
        Err(Error::TimedOut) => return Err("waited half a minute for the other process".into()),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
