//~ a reference is an address in this process
//! A reference is an address of one process.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Order {
    id: u64,
    symbol: &'static str,
}

fn main() {}
