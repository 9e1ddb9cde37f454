//~ cannot be sent between threads safely
//! Nor can it be swapped with what lies outside.

use sharena::{Arena, Error, collections::String, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let text = arena.root::<Mutex<String>>("text").unwrap();
    let mut outside = String::new();
    let outside = &mut outside;
    let _ = arena.transaction(|tx| {
        std::mem::swap(&mut *tx.lock(&text)?, outside);
        Err::<(), _>(Error::other("no"))
    });
}
