//~ cannot be sent between threads safely
//! What a transaction takes out of the arena cannot be put into a variable outside.

use sharena::{Arena, Error, collections::Vec, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let list = arena.root::<Mutex<Vec<u64>>>("list").unwrap();
    let mut stash = None;
    let _ = arena.transaction(|tx| {
        stash = Some(std::mem::take(&mut *tx.lock(&list)?));
        Err::<(), _>(Error::other("no"))
    });
}
