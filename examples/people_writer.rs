//! Two programs share records in a file. This one writes ten people and stays for a while.
//!
//! ```sh
//! cargo run --example people_writer [SECONDS [PATH]]    # in one terminal; 20 seconds by default
//! cargo run --example people_reader [PATH]              # in another, at once and again later
//! ```
//!
//! Without a path the file lies in the folder for temporary files, and the reader takes the newest
//! one there. The file stays when the writer has gone, as files do; the reader prints how to remove
//! it.
//!
//! The programs have nothing in common but the path, the names of the roots, and the definition of
//! `Person`, which each of them has for itself: were they to differ, `root` and `find` would say how.

mod processes;

use processes::Result;
use sharena::{
    Arena, Share,
    collections::{String, Vec},
    sync::{Mutex, Semaphore},
};
use std::{env, path::PathBuf, process::ExitCode, thread, time::Duration};

/// `repr(C)` fixes how a person is laid out. The `String` is sharena's: its bytes lie in the arena,
/// while those of a `std::string::String` would lie in the private memory of one process.
#[derive(Share, Default)]
#[repr(C)]
struct Person {
    name: String,
    age: u32,
}

const PEOPLE: [(&str, u32); 10] = [
    ("Ada", 36),
    ("Alan", 41),
    ("Barbara", 55),
    ("Dennis", 70),
    ("Donald", 87),
    ("Edsger", 72),
    ("Frances", 88),
    ("Grace", 85),
    ("Katherine", 101),
    ("Tony", 91),
];

fn main() -> ExitCode {
    processes::run(|_| write())
}

fn write() -> Result {
    let seconds = seconds()?;
    let path = match env::args_os().nth(2) {
        Some(path) => PathBuf::from(path),
        None => env::temp_dir().join(format!("people-{}.arena", std::process::id())),
    };
    // `max_size` is the size of the mapping: how far the arena can grow. The file is as long as what
    // is used of it.
    // SAFETY: while it is mapped, only the two programs change the file, and only through sharena.
    // (This is a promise about other programs, so the compiler cannot check it.)
    let arena = unsafe { Arena::options().max_size(1 << 20).create(&path)? };

    // The writer holds this permit as long as it lives, whatever ends it: so the reader can tell.
    let alive = arena.root_with::<Semaphore>("alive", |alive| {
        *alive = Semaphore::new(1);
        Ok(())
    })?;
    let permit = alive.acquire()?;

    // Filled before anybody else sees it: there are ten people, or no root of that name yet.
    let people = arena.root_with::<Mutex<Vec<Person>>>("people", |people| {
        let people = people.get_mut()?;
        for (name, age) in PEOPLE {
            // A string that owns memory is made where it is to lie: first the person, then the name.
            people.push(Person {
                age,
                ..Person::default()
            })?;
            let person = people.last_mut().ok_or("the person is not there")?;
            person.name.push_str(name)?;
        }
        Ok(())
    })?;

    println!("wrote {} people to {}", PEOPLE.len(), path.display());
    thread::sleep(Duration::from_secs_f64(seconds));

    drop(permit);
    // The last handles: the memory is unmapped here.
    drop((people, alive, arena));
    println!("unmapped");
    Ok(())
}

fn seconds() -> Result<f64> {
    let Some(text) = env::args().nth(1) else {
        return Ok(20.0);
    };
    match text.parse() {
        Ok(seconds) if (0.0..1e6).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?} is no time: expected the seconds to stay").into()),
    }
}
