//! The hash map against `std`'s, in full arenas, through panics, forgotten guards and kills.

use sharena::{Arena, collections::HashMap, sync::Mutex};

type Map = Mutex<HashMap<u64, u64>>;

#[test]
fn basics() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Map>("map").unwrap();
    let mut map = root.lock().unwrap();
    assert!(map.is_empty() && map.capacity() == 0 && map.get(&1).is_none());
    for n in 0..1000u64 {
        assert!(!map.insert(n, n * 2).unwrap());
    }
    assert_eq!(map.len(), 1000);
    for n in 0..1000u64 {
        assert_eq!(map.get(&n), Some(&(n * 2)));
        assert!(map.insert(n, n * 3).unwrap());
    }
    assert_eq!(map.get(&1000), None);
    assert_eq!(map.iter().map(|(_, v)| v).sum::<u64>(), 3 * 999 * 500);
    for n in (0..1000u64).step_by(2) {
        assert_eq!(*map.remove(&n).unwrap(), n * 3);
    }
    assert!(map.remove(&0).is_none());
    assert_eq!(map.len(), 500);
    *map.get_mut(&1).unwrap() = 7;
    assert_eq!(map[&1], 7);
    *map.entry(0).or_default().unwrap() += 5;
    *map.entry(0).or_default().unwrap() += 5;
    assert_eq!(map[&0], 10);
    drop(map);
    assert_eq!(root.lock().unwrap().len(), 501);
}
