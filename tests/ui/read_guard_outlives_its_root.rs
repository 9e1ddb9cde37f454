//~ cannot move out of `root` because it is borrowed
//! A read guard borrows its handle.

use sharena::{Arena, sync::RwLock};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<RwLock<u64>>("n").unwrap();
    let guard = root.read().unwrap();
    drop(root);
    println!("{}", *guard);
}
