//~ a function pointer is an address in this process
//! A function pointer is an address of one process.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Task {
    run: fn(u64) -> u64,
}

fn main() {}
