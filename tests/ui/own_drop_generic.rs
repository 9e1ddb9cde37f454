//~ MustNotImplDrop
//! A program that does not know the type must be able to take it apart.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Guarded<T: Share> {
    value: T,
}

impl<T: Share> Drop for Guarded<T> {
    fn drop(&mut self) {}
}

fn main() {}
