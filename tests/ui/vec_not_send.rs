//~ cannot be sent between threads safely
//! A container that owns memory belongs to the thread whose section it is.

use sharena::{Arena, collections::Vec, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let taken = std::mem::take(&mut *root.lock().unwrap());
    std::thread::spawn(move || drop(taken));
}
