//~ borrowed data escapes outside of closure
//! Nor does anything that they lend leave it, however long the lock itself lives.

use sharena::{Arena, Root, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let number: &'static Root<Mutex<u64>> = Box::leak(Box::new(arena.root("number").unwrap()));
    let mut kept: Option<&'static u64> = None;
    let _ = arena.transaction(|tx| {
        let guard = Box::leak(Box::new(tx.lock(number)?));
        kept = Some(&**guard);
        Ok(())
    });
}
