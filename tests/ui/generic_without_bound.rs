//~ cannot lie in an arena
//! A generic type is `Share` only with arguments that are.

use sharena::Share;

#[derive(Share)]
#[repr(C)]
struct Holder<T> {
    value: T,
}

struct Local;

fn stored<T: Share>() {}

fn unbounded<T: 'static>() {
    stored::<Holder<T>>();
}

fn known() {
    stored::<Holder<u64>>();
    stored::<Holder<Local>>();
}

fn main() {}
