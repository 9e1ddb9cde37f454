//~ cannot be sent between threads safely
//! Guards end with their transaction.

use sharena::{Arena, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let number = arena.root::<Mutex<u64>>("number").unwrap();
    let _ = arena.transaction(|tx| tx.lock(&number));
}
