//~ a trait object points to functions of this process
//! A trait object points to functions of one process.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Handler {
    call: std::boxed::Box<dyn Fn()>,
    tail: dyn Send,
}

fn main() {}
