//~ cannot be sent between threads safely
//! A guard is its thread's section.

use sharena::{Arena, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<u64>>("n").unwrap();
    let guard = root.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(guard));
    });
}
