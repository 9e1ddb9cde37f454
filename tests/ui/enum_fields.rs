//~ a reference is an address in this process
//! What is refused in structs is refused in variants.

use sharena::Share;

#[derive(Share)]
#[repr(u8)]
enum Event {
    Named(&'static str),
    Logged { line: String },
}

#[derive(Share)]
#[repr(u8)]
enum Logged {
    Line { line: String },
}

fn main() {}
