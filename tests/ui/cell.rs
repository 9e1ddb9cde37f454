//~ cannot lie in an arena
//! A `Cell` changes behind references that other processes have too.

use sharena::Share;
use std::cell::Cell;

#[derive(Share)]
#[repr(C)]
struct WithPath {
    count: std::cell::Cell<u64>,
}

#[derive(Share)]
#[repr(C)]
struct WithoutPath {
    count: Cell<u64>,
}

fn main() {}
