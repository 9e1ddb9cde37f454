//~ MustNotImplDrop
//! A program that does not know the type must be able to take it apart.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Guarded {
    value: u64,
}

impl Drop for Guarded {
    fn drop(&mut self) {}
}

fn main() {}
