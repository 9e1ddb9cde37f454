//~ the trait bound `bool: AnyBytes` is not satisfied
//! Not any byte is a `bool`.

use sharena::{Share, share::Unlogged};

#[derive(Share)]
#[repr(C)]
struct Flags {
    flags: Unlogged<bool>,
}

fn main() {}
