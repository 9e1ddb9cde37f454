//~ as its memory belongs to the heap of this process
//! Counted pointers of std belong to one process.

use sharena::Share;
use std::rc::Rc;

#[derive(Share)]
#[repr(C)]
struct Leaf {
    name: Rc<u64>,
    other: std::sync::Arc<u64>,
}

fn main() {}
