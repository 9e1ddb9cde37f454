//~ type cannot be packed
//! Fields of a packed struct cannot be borrowed.

use sharena::Share;

#[derive(Share)]
#[repr(C, packed)]
struct Tight {
    flag: u8,
    value: u64,
}

#[derive(Share)]
#[repr(C, packed(2))]
struct Tighter {
    flag: u8,
    value: u64,
}

fn main() {}
