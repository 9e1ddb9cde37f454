//~ does not live long enough
//! A reference into the arena borrows from the handle that keeps it mapped.

use sharena::{Arena, sync::Mutex};

fn main() {
    let guard;
    {
        let arena = Arena::in_memory().unwrap();
        let root = arena.root::<Mutex<u64>>("n").unwrap();
        guard = root.lock().unwrap();
    }
    println!("{}", *guard);
}
