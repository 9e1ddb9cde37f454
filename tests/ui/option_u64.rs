//~ `Option<u64>` cannot lie in an arena
//! `Option` has a fixed layout only around what cannot be zero.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Limit {
    at: Option<u64>,
}

fn main() {}
