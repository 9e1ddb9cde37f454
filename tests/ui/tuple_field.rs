//~ the layout of a tuple is not fixed
//! The layout of a tuple is the compiler's choice.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Point {
    at: (f64, f64),
    name: [u8; 8],
}

fn main() {}
