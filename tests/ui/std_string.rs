//~ `std::string::String` cannot lie in an arena
//! The prelude's `String` owns memory of one process's heap.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Person {
    age: u32,
    name: String,
}

fn main() {}
