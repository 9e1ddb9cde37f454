//~ type cannot have lifetimes
//! What a shared type would borrow lies in one process.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct View<'a> {
    bytes: &'a [u8],
}

fn main() {}
