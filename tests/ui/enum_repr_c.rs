//~ leaves the size of its tag
//! `repr(C)` alone leaves the tag's size to the platform.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
enum Side {
    Buy,
    Sell,
}

fn main() {}
