//! `Vec` and `String`, one behaviour at a time.

use sharena::{
    Arena,
    collections::{String, Vec},
    sync::Mutex,
};

#[test]
fn push_and_read() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    {
        let mut v = root.lock().unwrap();
        for i in 0..100_000 {
            v.push(i).unwrap();
        }
    }
    let mut v = root.lock().unwrap();
    assert_eq!(v.len(), 100_000);
    assert!(v.iter().enumerate().all(|(i, &x)| x == i as u64));
    v[7] = 1;
    v[8..10].fill(2);
    v[0] += 5;
    for x in &mut *v {
        *x += 1;
    }
    assert_eq!(v[..11], [6, 2, 3, 4, 5, 6, 7, 2, 3, 3, 11]);
    v.clear();
    assert!(v.is_empty());
}

#[test]
fn strings() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<String>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    v.push_from("one").unwrap();
    v.try_extend(["two", "three"]).unwrap();
    v[1].push_str(" and a half").unwrap();
    assert_eq!(*v, ["one", "two and a half", "three"]);
    v.insert(0, "zero").unwrap();
    assert_eq!(v.len(), 4);
    v.truncate(1);
    assert_eq!(*v, ["zero"]);
}
