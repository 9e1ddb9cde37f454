//! What records as it goes cannot go to another thread.

use sharena::{Arena, collections::Vec, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    let elements = v.iter_mut();
    std::thread::scope(|scope| {
        scope.spawn(move || elements.for_each(|x| *x += 1));
    });
}
