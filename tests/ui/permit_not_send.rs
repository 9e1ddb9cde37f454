//~ cannot be sent between threads safely
//! A permit comes back when its own thread dies.

use sharena::{Arena, sync::Semaphore};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Semaphore>("s").unwrap();
    let permit = root.acquire().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(permit));
    });
}
