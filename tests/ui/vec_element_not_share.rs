//~ it is not `Share`
//! Only what is `Share` can be an element.

use sharena::collections::Vec;

fn main() {
    let mut v = Vec::new();
    let _ = v.push(std::string::String::from("in this process only"));
}
