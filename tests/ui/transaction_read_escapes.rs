//~ cannot be sent between threads safely
//! Read guards end with their transaction: what they show may be undone.

use sharena::{Arena, sync::RwLock};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let number = arena.root::<RwLock<u64>>("number").unwrap();
    let _ = arena.transaction(|tx| tx.read(&number));
}
