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

#[test]
fn zero_sized_elements() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<()>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    for _ in 0..10 {
        v.push(()).unwrap();
    }
    v.insert(3, ()).unwrap();
    v.extend_from_slice(&[(); 5]).unwrap();
    assert_eq!((v.len(), v.capacity()), (16, usize::MAX));
    *v.pop().unwrap();
    *v.remove(0);
    assert_eq!(v.drain(2..4).count(), 2);
    assert_eq!(v.iter_mut().count(), 12);
    v[3] = ();
    v.retain(|()| true);
    v.sort();
    let half = v.split_off(6).unwrap();
    assert_eq!(half.iter().count() + v.len(), 12);
    v.resize(3, ()).unwrap();
    v.shrink_to_fit().unwrap();
    v.clear();
    assert!(v.is_empty());
}

#[test]
fn a_panic_leaves_a_whole_vector() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<String>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    v.try_extend(["a", "b", "c", "d", "e"]).unwrap();
    let mut seen = 0;
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        v.retain(|_| {
            seen += 1;
            assert!(seen < 4);
            seen % 2 == 0
        });
    }));
    assert!(panic.is_err());
    assert_eq!(*v, ["b", "d", "e"]);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = v.try_extend((0..).map(|i| if i < 3 { "x" } else { panic!() }));
    }));
    assert!(panic.is_err());
    assert_eq!(*v, ["b", "d", "e", "x", "x", "x"]);
    drop(v);
    assert!(arena.check().problems().is_empty());
}

#[test]
fn made_from_many_things() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<Vec<u64>>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    v.push_from([1, 2]).unwrap();
    v.push_from(&[3][..]).unwrap();
    let borrowed = (&[4, 5], &vec![7]);
    v.push_from(borrowed.0).unwrap();
    v.push_from(vec![6]).unwrap();
    v.push_from(borrowed.1).unwrap();
    v.push(Vec::new()).unwrap();
    assert_eq!(
        *v,
        [vec![1, 2], vec![3], vec![4, 5], vec![6], vec![7], vec![]]
    );
    drop(v);
    let texts = arena.root::<Mutex<Vec<Vec<String>>>>("t").unwrap();
    let mut texts = texts.lock().unwrap();
    texts.push_from(["a", "b"]).unwrap();
    texts[0].extend(["c"]);
    assert_eq!(texts[0], ["a", "b", "c"]);
}

#[test]
fn append_and_extend() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<[Vec<u64>; 2]>>("v").unwrap();
    let mut both = root.lock().unwrap();
    let [a, b] = &mut *both;
    a.extend([1, 2]);
    b.extend(&[3, 4]);
    a.append(b).unwrap();
    assert_eq!(*a, [1, 2, 3, 4]);
    assert!(b.is_empty());
    a.extend_from_within(1..3).unwrap();
    b.push_from(a.swap_remove(0)).unwrap();
    assert_eq!((&a[..], &b[..]), (&[3, 2, 3, 4, 2][..], &[1][..]));
    a.resize(2, 0).unwrap();
    a.resize(4, 9).unwrap();
    assert_eq!(*a, [3, 2, 9, 9]);
    a.dedup();
    assert_eq!(*a, [3, 2, 9]);
    assert_eq!(a.get_mut(5), None);
    assert!(a.binary_search(&3).is_err());
    assert!(a.contains(&9));
    drop(both);
    let bytes = arena.root::<Mutex<Vec<u8>>>("b").unwrap();
    std::io::Write::write_all(&mut *bytes.lock().unwrap(), b"bytes").unwrap();
    assert_eq!(*bytes.lock().unwrap(), *b"bytes");
}

#[test]
#[should_panic(expected = "index out of bounds: the len is 1 but the index is 3")]
fn out_of_bounds() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<u64>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    v.push(1).unwrap();
    v[3] = 1;
}

#[test]
fn aligned_to_a_page() {
    #[derive(sharena::Share, Clone, Copy)]
    #[repr(C, align(4096))]
    struct Page(u8);

    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<Page>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    for i in 0..20 {
        v.push(Page(i)).unwrap();
        assert_eq!(v.as_ptr().addr() % 4096, 0);
    }
    assert!(v.iter().enumerate().all(|(i, page)| page.0 as usize == i));
}

#[test]
fn locks_are_let_go_of_before_they_move() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<Mutex<u64>>>>("v").unwrap();
    for round in 0..3 {
        arena
            .section(|| {
                let mut v = root.lock()?;
                for i in 0..100 {
                    v.push(Mutex::new(i))?;
                    for lock in v.iter() {
                        *lock.lock()? += 1;
                    }
                }
                v.retain(|lock| *lock.lock().unwrap() % 3 != 0);
                v.swap(0, 1);
                let first = v.remove(0);
                *first.lock()? += 1;
                drop(first);
                let _ = v.pop().unwrap().take();
                for lock in v.iter() {
                    *lock.lock()? += 1;
                }
                v.reserve(1000)?;
                v.shrink_to_fit()?;
                Ok(())
            })
            .unwrap();
        let v = root.lock().unwrap();
        let count = v.len();
        drop(v);
        arena
            .section(|| {
                let v = root.lock()?;
                v.iter().for_each(|lock| drop(lock.try_lock().unwrap()));
                assert_eq!(v.len(), count, "{round}");
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn sorting() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<String>>>("v").unwrap();
    let mut v = root.lock().unwrap();
    // Of lengths that differ, and too long for the strings themselves.
    let text = |i: usize| format!("{:0width$}", i * 7919 % 200, width = 17 + i % 5);
    v.try_extend((0..200).map(text)).unwrap();
    let mut expected: std::vec::Vec<_> = v.iter().map(|s| s.as_str().to_owned()).collect();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut left = 300;
        v.sort_by(|a, b| {
            left -= 1;
            assert!(left > 0);
            a.cmp(b)
        });
    }));
    assert!(panic.is_err());
    assert_eq!(*v, expected[..]);
    v.sort_by_key(|s| s.len());
    expected.sort_by_key(|s| s.len());
    assert_eq!(*v, expected[..]);
    v.sort_unstable_by(|a, b| b.cmp(a));
    expected.sort_by(|a, b| b.cmp(a));
    assert_eq!(*v, expected[..]);
    v.sort_by_cached_key(|s| s.parse::<u32>().unwrap());
    expected.sort_by_cached_key(|s| s.parse::<u32>().unwrap());
    assert_eq!(*v, expected[..]);
    v.sort();
    v.sort();
    expected.sort();
    assert_eq!(*v, expected[..]);
    // A slice is sorted by `std`, which panics where it looks at elements out of place.
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        v.sort_by_key(|s| s.parse::<u32>().unwrap() * 7919 % 200);
        v[..].sort();
    }));
    assert!(panic.is_err());
    v.sort();
    assert_eq!(*v, expected[..]);
}
