//~ trait `DerefMut` is required to modify through a dereference
//! Who reads does not write.

use sharena::{Arena, sync::RwLock};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<RwLock<u64>>("n").unwrap();
    let mut guard = root.read().unwrap();
    *guard += 1;
}
