//~ cannot move out of `v` because it is borrowed
//! A removed element is read under the lock that it was removed under.

use sharena::{Arena, collections::Vec, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    let last = v.pop().unwrap();
    drop(v);
    println!("{}", *last);
}
