//~ cannot be sent between threads safely
//! Nor returned.

use sharena::{Arena, collections::Vec, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let list = arena.root::<Mutex<Vec<u64>>>("list").unwrap();
    let _ = arena.transaction(|tx| Ok(std::mem::take(&mut *tx.lock(&list)?)));
}
