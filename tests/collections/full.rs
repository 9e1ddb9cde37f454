//! Arenas that are full: what fails leaves everything as it was.

use sharena::{
    Arena, Error,
    collections::{Box, Boxed, String, Vec},
    sync::Mutex,
};

fn tiny() -> Arena {
    Arena::options().max_size(1 << 18).in_memory().unwrap()
}

#[test]
fn push_until_full() {
    let arena = tiny();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    let mut count = 0;
    let error = loop {
        match v.push(count) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(v.iter().copied().eq(0..count));
    assert!(v.insert(0, 7).is_err());
    assert!(v.reserve(1000).is_err());
    assert!(v.try_extend(0..1000).is_err());
    assert!(v.extend_from_within(..10).is_err());
    assert!(v.iter().copied().eq(0..count));
    drop(v);
    let mut v = root.lock().unwrap();
    v.clear();
    drop(v);
    let mut v = root.lock().unwrap();
    for i in 0..count / 2 {
        v.push(i).unwrap();
    }
    drop(v);
    assert!(arena.check().problems().is_empty());
}

#[test]
fn strings_until_full() {
    let arena = tiny();
    let root = arena.root::<Mutex<[Vec<String>; 2]>>("v").unwrap();
    let mut count = 0;
    let error = loop {
        // A section each, so that the log is not what is full.
        let mut both = root.lock().unwrap();
        match both[0].push_from(["some text that needs room"; 20].concat()) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(root.lock().unwrap()[0].len(), count);
    let mut both = root.lock().unwrap();
    let [a, b] = &mut *both;
    // Moving a text needs no room for it.
    let last = a.last().unwrap().as_str().to_owned();
    if b.push_from(a.pop().unwrap()).is_err() {
        // And what could not be moved stays.
        assert_eq!(a.last().unwrap(), last.as_str());
        assert_eq!(a.len(), count);
        assert!(b.is_empty());
    } else {
        assert_eq!(b[0], last.as_str());
    }
    a[0].assign("short").unwrap();
    let long = "x".repeat(1 << 18);
    assert!(a[0].assign(&long).is_err());
    assert!(a[0].push_str(&long).is_err());
    assert!(a[0].insert_str(2, &long).is_err());
    assert!(a.insert(0, long.as_str()).is_err());
    assert!(a.push_from(&long).is_err());
    assert_eq!(a[0], "short");
    drop(both);
    assert!(arena.check().problems().is_empty());
}

#[test]
fn a_failed_extension_leaves_nothing() {
    let arena = tiny();
    let root = arena.root::<Mutex<Vec<Vec<String>>>>("v").unwrap();
    let long = "x".repeat(60_000);
    let mut v = root.lock().unwrap();
    v.push_from(["one", "two"]).unwrap();
    for _ in 0..50 {
        assert!(v.push_from([long.as_str(); 10]).is_err());
        assert!(
            v.try_extend([&["three"; 3][..], &[long.as_str(); 10]])
                .is_err()
        );
        assert_eq!(v.len(), 1);
        drop(v);
        v = root.lock().unwrap();
    }
    assert_eq!(v[0], ["one", "two"]);
    drop(v);
    assert!(arena.check().problems().is_empty());
}

#[test]
fn boxes() {
    let arena = tiny();
    let root = arena.root::<Mutex<Box<Box<[u8; 1000]>>>>("b").unwrap();
    root.lock().unwrap().set(Boxed([7; 1000])).unwrap();
    let filler = arena.root::<Mutex<Vec<u8>>>("v").unwrap();
    while filler.lock().unwrap().push(1).is_ok() {}
    let mut failed = 0;
    for _ in 0..1000 {
        let mut b = root.lock().unwrap();
        let old = b.get().unwrap().get().unwrap()[0];
        failed += usize::from(b.set(Boxed([old + 1; 1000])).is_err());
        let now = b.get().unwrap().get().unwrap();
        assert!(now.iter().all(|&x| x == now[0]));
        if now[0] > 200 {
            break;
        }
    }
    println!("{failed} failures");
}

#[test]
fn overflow_is_an_error() {
    let arena = tiny();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    assert!(matches!(v.reserve(usize::MAX), Err(Error::Layout { .. })));
    assert!(matches!(
        v.reserve(usize::MAX / 8),
        Err(Error::Layout { .. })
    ));
    v.push(1).unwrap();
    assert!(matches!(v.reserve(usize::MAX), Err(Error::Layout { .. })));
    assert!(matches!(
        v.reserve_exact(isize::MAX as usize / 8),
        Err(Error::Layout { .. } | Error::Full { .. })
    ));
    assert_eq!(*v, [1]);
}
