//~ cannot be sent between threads safely
//! A read lock is its thread's: it goes when that dies.

use sharena::{Arena, sync::RwLock};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<RwLock<u64>>("n").unwrap();
    let guard = root.read().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(guard));
    });
}
