//~ borrowed value does not live long enough
//! What is read lives as long as the guard.

use sharena::{Arena, collections::Vec, sync::RwLock};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<RwLock<Vec<u64>>>("list").unwrap();
    let first = {
        let guard = root.read().unwrap();
        guard.first()
    };
    println!("{first:?}");
}
