//~ a union cannot be
//! Nothing tells which field of a union is valid.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
union Bits {
    number: u64,
    float: f64,
}

fn main() {}
