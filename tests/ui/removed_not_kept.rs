//~ cannot borrow `guard` as mutable more than once at a time
//! What was removed lies where it was until its guard goes: nothing else happens to the map before.

use sharena::{Arena, collections::HashMap, sync::Mutex};

fn main() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<HashMap<u64, u64>>>("m").unwrap();
    let mut guard = root.lock().unwrap();
    let removed = guard.remove(&1);
    guard.insert(1, 2).unwrap();
    drop(removed);
}
