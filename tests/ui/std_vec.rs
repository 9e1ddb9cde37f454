//~ `Vec` cannot lie in an arena
//! A `Vec` of std owns memory of one process's heap, with or without its path.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct WithPath {
    fills: std::vec::Vec<u64>,
}

#[derive(Share)]
#[repr(C)]
struct WithoutPath {
    fills: Vec<u64>,
}

fn main() {}
