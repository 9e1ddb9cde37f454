//~ cannot be sent between threads safely
//! A reserved block is in its thread's keeping.

use sharena::Arena;

fn main() {
    let arena = Arena::in_memory().unwrap();
    let block = arena.alloc_value(1u64).unwrap();
    std::thread::spawn(move || drop(block));
}
