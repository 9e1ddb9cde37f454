//~ it has no fixed layout
//! Without an integer `repr`, the tag of an enum is the compiler's choice.

use sharena::Share;

#[derive(Share)]
enum Side {
    Buy,
    Sell,
}

fn main() {}
