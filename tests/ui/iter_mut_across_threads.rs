//~ cannot be sent between threads safely
//! An iterator that records as it goes does not leave its thread.

use sharena::{Arena, collections::Vec, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let mut guard = root.lock().unwrap();
    let elements = guard.iter_mut();
    std::thread::scope(|scope| {
        scope.spawn(move || elements.for_each(|n| *n += 1));
    });
}
