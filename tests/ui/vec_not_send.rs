//! A container belongs to the thread whose section it is used in.

use sharena::collections::Vec;

fn send<T: Send>(_: T) {}

fn main() {
    send(Vec::<u64>::new());
}
