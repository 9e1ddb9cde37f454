//~ cannot be shared between threads safely
//! A transaction belongs to its thread.

use sharena::{Arena, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let number = arena.root::<Mutex<u64>>("number").unwrap();
    let _ = arena.transaction(|tx| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = tx.lock(&number);
            });
        });
        Ok(())
    });
}
