//~ in dereference of
//! `&mut` comes only from a lock.

use sharena::Arena;

fn main() {
    let arena = Arena::in_memory().unwrap();
    let mut root = arena.root::<u64>("n").unwrap();
    *root += 1;
}
