//~ in dereference of
//! What is frozen is not written.

use sharena::{Arena, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<u64>>("n").unwrap();
    let mut frozen = root.freeze().unwrap();
    *frozen += 1;
}
