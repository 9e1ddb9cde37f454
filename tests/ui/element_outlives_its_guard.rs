//~ cannot move out of `guard` because it is borrowed
//! An element borrows from the guard.

use sharena::{Arena, collections::Vec, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let guard = root.lock().unwrap();
    let first = &guard[0];
    drop(guard);
    println!("{first}");
}
