//~ a raw pointer is an address in this process
//! A raw pointer is an address of one process.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Node {
    next: *mut Node,
    value: u64,
}

fn main() {}
