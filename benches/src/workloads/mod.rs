//! What is measured: a file for each part of sharena.

pub(crate) mod alloc;
pub(crate) mod attach;
pub(crate) mod fill;
pub(crate) mod journal;
pub(crate) mod list;
pub(crate) mod map;
pub(crate) mod mutex;
pub(crate) mod pages;
pub(crate) mod rwlock;
pub(crate) mod slots;
pub(crate) mod vec;

use crate::{measure::pin, rivals::name};
use sharena::Arena;

/// An arena in a file on tmpfs, with a journal, as `Arena::named` makes it. Its name is gone again
/// when this returns; the memory goes with the arena.
pub(crate) fn arena() -> Arena {
    let name = name("arena");
    let arena = Arena::named(&name).expect("an arena can be created");
    Arena::unlink_named(&name).expect("the arena has a name");
    arena
}

/// What a worker process does: see `processes`.
pub(crate) fn play(arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [core, part, arguments @ ..] = &arguments[..] else {
        panic!("a worker needs a core and a part");
    };
    pin(core.parse().expect("cores are numbers"));
    match (*part, arguments) {
        ("attach", [system, file]) => attach::play(system, file),
        ("churn", [system, file]) => alloc::churn::play(system, file),
        ("mutex", [arena]) => mutex::play(arena),
        ("rwlock", [arena]) => rwlock::play(arena),
        ("remote", [system, file]) => alloc::play_remote(system, file),
        _ => panic!("no part {part}"),
    }
}
