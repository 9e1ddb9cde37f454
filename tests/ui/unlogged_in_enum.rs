//~ an enum cannot hold an `Unlogged`
//! A death would put the tag back, and not the fields.

use sharena::{Share, share::Unlogged};

#[derive(Share)]
#[repr(u8)]
enum Either {
    Number(u64),
    Bytes([Unlogged<u8>; 8]),
}

fn main() {}
