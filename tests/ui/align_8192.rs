//~ may be aligned to 4096 bytes (a page) at most
//! Alignment ends at a page.

use sharena::Share;

#[derive(Share)]
#[repr(C, align(8192))]
struct Wide {
    bytes: [u8; 8192],
}

fn main() {}
