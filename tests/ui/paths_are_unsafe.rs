//~ is unsafe and requires unsafe
//! A file that the user names may be changed by others: its caller promises that it is not.

use sharena::Arena;

fn main() {
    let _ = Arena::open_or_create("arena");
}
