//~ cannot be sent between threads safely
//! Nor can it be changed by another thread through a reference.

use sharena::{Arena, collections::Vec, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let mut guard = root.lock().unwrap();
    let vec: &mut Vec<u64> = &mut guard;
    std::thread::scope(|scope| {
        scope.spawn(move || vec.push(1));
    });
}
