//~ the layout of a tuple is not fixed
//! Each field that is refused gets its own error.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Everything {
    reference: &'static u8,
    pointers: [*const u8; 2],
    tuple: (u8, u8),
    lock: std::sync::Mutex<u8>,
    since: std::time::Instant,
    nothing: (),
    fine: u8,
}

fn main() {}
