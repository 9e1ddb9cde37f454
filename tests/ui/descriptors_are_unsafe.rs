//~ is unsafe and requires unsafe
//! With the descriptor, safe code could write under living references.

use sharena::Arena;

fn main() {
    let arena = Arena::anonymous().unwrap();
    let _ = arena.as_fd();
}
