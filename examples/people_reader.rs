//! The other program: maps the file that `people_writer` made, and prints the people in it.
//!
//! ```sh
//! cargo run --example people_reader [PATH]
//! ```
//!
//! If the writer still runs, prints them at once and again when the writer has gone. See
//! `people_writer` for how to use both.

mod processes;

use processes::Result;
use sharena::{
    Arena, Error, Share,
    collections::{String, Vec},
    sync::{Mutex, Semaphore},
};
use std::{env, fs, path::PathBuf, process::ExitCode};

/// The same as in `people_writer`.
#[derive(Share, Default)]
#[repr(C)]
struct Person {
    name: String,
    age: u32,
}

type People = Mutex<Vec<Person>>;

fn main() -> ExitCode {
    processes::run(|_| read())
}

fn read() -> Result {
    let path = match env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => newest()?,
    };
    // SAFETY: as in the writer.
    let arena = unsafe { Arena::open(&path)? };
    let alive = arena.find::<Semaphore>("alive")?;
    let people = arena.find::<People>("people")?;

    match alive.try_acquire() {
        Ok(_) => {}
        Err(Error::WouldBlock) => {
            print(&people, "while the writer runs")?;
            // The writer holds the only permit. It comes back when the writer ends, also if that is
            // killed.
            println!("waiting for the writer to go");
            drop(alive.acquire()?);
        }
        Err(error) => return Err(error.into()),
    }
    print(&people, "after the writer has gone")?;
    println!("to remove the file: rm {}", path.display());
    Ok(())
}

fn print(people: &People, when: &str) -> Result {
    let people = people.lock()?;
    println!("{} people, {when}:", people.len());
    for person in &*people {
        println!("  {:10} {:3}", person.name, person.age);
    }
    Ok(())
}

/// The file that a writer without a path made last.
fn newest() -> Result<PathBuf> {
    let folder = env::temp_dir();
    let error = |error| format!("could not read the folder `{}`: {error}", folder.display());
    let mut newest = None;
    for entry in fs::read_dir(&folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b"people-") && name.ends_with(b".arena") {
            let changed = entry.metadata().and_then(|file| file.modified()).ok();
            newest = newest.max(Some((changed, entry.path())));
        }
    }
    match newest {
        Some((_, path)) => Ok(path),
        None => Err("there are no people: start the example people_writer first".into()),
    }
}
