//! Memory that is made before `fork`, and used by parent and child: without a name, without a file.
//!
//! ```sh
//! cargo run --example fork
//! ```
//!
//! After a fork, ordinary memory is a copy: what the child writes, the parent never sees. An arena
//! is the same memory for both, at the same address, and each of them has what it needs to use it.

mod processes;

use processes::Result;
use sharena::{Arena, Root, collections::Vec, sync::Mutex};
use std::{io, process, process::ExitCode};

const ROUNDS: u64 = 1000;

fn main() -> ExitCode {
    processes::run(|_| parent())
}

fn parent() -> Result {
    let arena = Arena::anonymous()?;
    let numbers = arena.root::<Mutex<Vec<u64>>>("numbers")?;
    let counter = arena.root::<Mutex<u64>>("counter")?;
    numbers.lock()?.push(1)?;
    let mut ordinary = 1;

    // SAFETY: `fork` copies one thread only, and this process has no other. What the child must not
    // use is what belongs to the parent's thread: guards, permits, references into the arena, values
    // taken out of it. There are none at the moment. Handles, such as `arena` and `numbers`, are
    // fine.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(format!("could not fork: {}", io::Error::last_os_error()).into());
    }
    if child == 0 {
        ordinary += 1;
        let done = in_the_child(&numbers, &counter);
        if let Err(error) = &done {
            eprintln!("error in the child, whose number is {ordinary}: {error}");
        }
        // The child must not go on with what the parent does after this.
        process::exit(i32::from(done.is_err()));
    }
    add(&counter)?;
    wait_for(child)?;

    let numbers = numbers.lock()?.to_vec();
    let counter = *counter.lock()?;
    println!("in ordinary memory: {ordinary}; in the arena: {numbers:?}");
    println!("parent and child counted to {counter}");
    if ordinary != 1 || numbers != [1, 2, 3] || counter != 2 * ROUNDS {
        return Err(format!("expected 1, [1, 2, 3] and {}", 2 * ROUNDS).into());
    }
    println!("ok: what the child wrote is there");
    Ok(())
}

fn in_the_child(numbers: &Root<Mutex<Vec<u64>>>, counter: &Mutex<u64>) -> Result {
    numbers.lock()?.extend_from_slice(&[2, 3])?;
    add(counter)
}

/// Counts, at the same time as the other process.
fn add(counter: &Mutex<u64>) -> Result {
    for _ in 0..ROUNDS {
        *counter.lock()? += 1;
    }
    Ok(())
}

fn wait_for(child: libc::pid_t) -> Result {
    let mut status = 0;
    // SAFETY: a child of this process, and a place for the answer.
    if unsafe { libc::waitpid(child, &mut status, 0) } != child {
        return Err(io::Error::last_os_error().into());
    }
    if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0 {
        return Err("the child failed".into());
    }
    Ok(())
}
