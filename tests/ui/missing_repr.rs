//~ has no fixed layout
//! Without `repr`, each compiler may lay the struct out as it likes.

use sharena::Share;

#[derive(Share)]
struct Fill {
    price: f64,
    quantity: u64,
}

fn main() {}
