//! How a process may use the pages: read-write, read-only, or as a private copy.
//!
//! ```sh
//! cargo run --example access
//! ```
//!
//! Without a lock nobody may read what others write. And a lock is a word that must be written: so
//! where the pages cannot be written, only *frozen* roots can be used. `freeze` takes the lock for
//! ever; from then on the value is read without it, by everybody.

mod processes;

use processes::{Name, Process, Result, argument};
use sharena::{Access, Arena, Error, Share, sync::Mutex};
use std::{fs, process::ExitCode};

/// What all read and nobody changes any more.
#[derive(Share, Clone, Copy, Default, PartialEq, Debug)]
#[repr(C)]
struct Limits {
    requests: u64,
    seconds: u64,
}

const LIMITS: Limits = Limits {
    requests: 100,
    seconds: 60,
};

fn main() -> ExitCode {
    processes::run(|part| match part {
        None => read_write(),
        Some("reader") => read_only(),
        Some("copier") => copy_on_write(),
        Some(other) => processes::unknown_part(other),
    })
}

fn read_write() -> Result {
    let name = Name::new("access");
    let arena = Arena::named(name.as_str())?;
    expect_pages(&arena, "rw-s")?;

    let limits = arena.root::<Mutex<Limits>>("limits")?;
    *limits.lock()? = LIMITS;
    let frozen = limits.freeze()?;
    // From now on there is no lock, and no guard: a shared reference is all that can be had.
    println!("frozen: {:?}", *frozen);
    expect_error(limits.lock(), |error| matches!(error, Error::Frozen))?;

    // Another root, which is not frozen.
    *arena.root::<Mutex<u64>>("hits")?.lock()? = 7;

    Process::start("reader", &[name.as_str()])?.finish()?;
    Process::start("copier", &[name.as_str()])?.finish()?;

    if *frozen != LIMITS {
        return Err(format!("the limits changed: {:?}", *frozen).into());
    }
    println!("ok: here the limits are {:?} as ever", *frozen);
    Ok(())
}

fn read_only() -> Result {
    let arena = Arena::options()
        .access(Access::ReadOnly)
        .named(&argument(1)?)?;
    // Really read-only: even code that goes wrong could not write here; the kernel would stop it.
    expect_pages(&arena, "r--s")?;

    let limits = arena.find::<Mutex<Limits>>("limits")?;
    let frozen = limits.into_frozen()?;
    println!("the reader sees {:?}", *frozen);
    // frozen.requests = 1;
    // does not compile: "trait `DerefMut` is required to modify through a dereference".

    // Locks cannot be had: neither this one, nor that of a root which others still write.
    expect_error(limits.lock(), |error| {
        matches!(error, Error::Frozen | Error::ReadOnly)
    })?;
    expect_error(arena.find::<Mutex<u64>>("hits"), |error| {
        matches!(error, Error::NotFrozen)
    })?;
    // Nor can anything be created or allocated.
    expect_error(arena.root::<Mutex<u64>>("new"), |error| {
        matches!(error, Error::ReadOnly | Error::UnknownRoot { .. })
    })?;
    expect_error(arena.alloc_value(1u64), |error| {
        matches!(error, Error::ReadOnly)
    })?;

    // In one process, the same arena can be mapped for writing too, elsewhere.
    let writable = Arena::named(&argument(1)?)?;
    let hits = writable.root::<Mutex<u64>>("hits")?;
    *hits.lock()? += 1;
    println!(
        "mapped both ways at {:p} and {:p}",
        arena.base(),
        writable.base()
    );
    Ok(())
}

fn copy_on_write() -> Result {
    let name = argument(1)?;
    let arena = Arena::options().access(Access::CopyOnWrite).named(&name)?;
    // `p` for private: a page that is written is copied first, for this process alone.
    expect_pages(&arena, "rw-p")?;

    let mut limits = arena.find::<Mutex<Limits>>("limits")?.into_frozen()?;
    // SAFETY: there is no other reference to the value in this process while `changed` is used.
    let changed = unsafe { limits.make_mut()? };
    changed.requests = 5;
    println!("the copier changed its copy to {:?}", *limits);

    // A copy and its original in one process could not be told apart by what is in them: refused.
    expect_error(Arena::named(&name), |error| {
        matches!(error, Error::Twin { .. })
    })
}

/// Prints the kernel's word on the arena's pages, and checks what they may be used for.
fn expect_pages(arena: &Arena, expected: &str) -> Result {
    let base = format!("{:x}-", arena.base().addr());
    let maps = fs::read_to_string("/proc/self/maps")?;
    let line = maps.lines().find(|line| line.starts_with(&base));
    let line = line.ok_or("the arena is not in /proc/self/maps")?;
    // The name of the file, at the end of the line, is of no interest here.
    let shown: Vec<&str> = line.split_whitespace().take(2).collect();
    println!("{}", shown.join(" "));
    match shown.last() {
        Some(&found) if found == expected => Ok(()),
        _ => Err(format!("expected pages {expected}, found {line}").into()),
    }
}

/// Prints an error that must come.
fn expect_error<T>(result: sharena::Result<T>, is_expected: fn(&Error) -> bool) -> Result {
    match result {
        Err(error) if is_expected(&error) => {
            println!("  refused: {error}");
            Ok(())
        }
        Err(error) => Err(format!("an unexpected error: {error}").into()),
        Ok(_) => Err("an error was expected, and none came".into()),
    }
}
