//! Alignment ends at a page.

use sharena::Share;

#[derive(Share)]
#[repr(C, align(8192))]
struct Wide {
    bytes: [u8; 8192],
}

fn main() {}
