//! `String`, one behaviour at a time.

use proptest::prelude::*;
use sharena::{Arena, Root, collections::String, share::Key, sync::Mutex};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Write,
    hash::{BuildHasher, RandomState},
};

fn root(arena: &Arena) -> Root<Mutex<String>> {
    arena.root("s").unwrap()
}

#[test]
fn text() {
    let arena = Arena::in_memory().unwrap();
    let root = root(&arena);
    let mut s = root.lock().unwrap();
    write!(s, "{}-{:?}", 1, "two").unwrap();
    assert_eq!(*s, "1-\"two\"");
    s.extend(['ä', 'ö']);
    s.extend(["x", "y"]);
    s.extend([std::string::String::from("z")]);
    assert!(s.ends_with("äöxyz"));
    assert_eq!(s.pop(), Some('z'));
    assert_eq!(s.remove(0), '1');
    s.insert(0, '€').unwrap();
    s.replace_range('€'.len_utf8().., "uro").unwrap();
    assert_eq!((s.as_str(), s.len(), s.find('u')), ("€uro", 6, Some(3)));
    assert_eq!(s.split_off(3).unwrap().len(), 3);
    assert_eq!(format!("{s} {s:?}", s = *s), "€ \"€\"");
}

#[test]
fn short_texts_need_no_blocks() {
    let arena = Arena::in_memory().unwrap();
    let root = root(&arena);
    let blocks = || -> u64 {
        arena
            .stats()
            .classes
            .iter()
            .map(|class| class.allocated)
            .sum()
    };
    let none = blocks();
    let mut s = root.lock().unwrap();
    assert_eq!((s.capacity(), s.is_empty()), (16, true));
    s.assign("0123456789abcdef").unwrap();
    s.reserve(0).unwrap();
    assert_eq!(
        (s.as_str(), s.capacity(), blocks()),
        ("0123456789abcdef", 16, none)
    );
    s.make_ascii_uppercase();
    s.insert(16, 'G').unwrap();
    assert_eq!((s.as_str(), blocks()), ("0123456789ABCDEFG", none + 1));
    assert!(s.capacity() > 16);
    // It stays where it is.
    s.truncate(3);
    assert!(s.capacity() > 16);
    assert_eq!((s.as_str(), blocks()), ("012", none + 1));
    s.shrink_to_fit().unwrap();
    assert_eq!((s.as_str(), s.capacity(), blocks()), ("012", 16, none));
    s.reserve_exact(20).unwrap();
    assert!(s.capacity() >= 23);
    assert_eq!((s.as_str(), blocks()), ("012", none + 1));
    s.clear();
    s.shrink_to_fit().unwrap();
    assert_eq!((s.as_str(), s.capacity(), blocks()), ("", 16, none));
    s.push_str("short").unwrap();
    let rest = s.split_off(2).unwrap();
    assert_eq!((s.as_str(), rest.as_str(), blocks()), ("sh", "ort", none));
    drop((rest, s));
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn equal_keys_hash_equally() {
    fn hashed<K: sharena::Share>(key: &impl Key<K>, state: &RandomState) -> u64 {
        state.hash_one(key.form())
    }
    let arena = Arena::in_memory().unwrap();
    let root = root(&arena);
    let mut s = root.lock().unwrap();
    s.assign("key").unwrap();
    let state = RandomState::new();
    let expected = state.hash_one("key");
    let owned = std::string::String::from("key");
    assert_eq!(hashed::<String>(&"key", &state), expected);
    assert_eq!(hashed::<String>(&&*s, &state), expected);
    assert_eq!(hashed::<String>(&owned, &state), expected);
    assert_eq!(hashed::<String>(&&owned, &state), expected);
    assert_eq!(hashed::<String>(&Cow::Borrowed("key"), &state), expected);
    assert_eq!(hashed::<String>(&*s as &String, &state), expected);
    let mut map = HashMap::new();
    map.insert(s.as_str().to_owned(), 1);
    assert_eq!(map["key"], 1);
}

#[test]
#[should_panic(expected = "inside a character")]
fn characters_stay_whole() {
    let arena = Arena::in_memory().unwrap();
    let root = root(&arena);
    let mut s = root.lock().unwrap();
    s.push('€').unwrap();
    s.truncate(1);
}

proptest! {
    #[test]
    fn replace_range(text in "\\PC{0,40}", with in "\\PC{0,40}", from in 0usize..200, to in 0usize..200, section: bool) {
        let arena = Arena::in_memory().unwrap();
        let root = root(&arena);
        root.lock().unwrap().assign(&text).unwrap();
        let boundaries: Vec<usize> = (0..=text.len()).filter(|&i| text.is_char_boundary(i)).collect();
        let (a, b) = (boundaries[from % boundaries.len()], boundaries[to % boundaries.len()]);
        let range = a.min(b)..a.max(b);
        let mut expected = text.clone();
        expected.replace_range(range.clone(), &with);
        let mut s = root.lock().unwrap();
        s.replace_range(range, &with).unwrap();
        if section {
            s.commit().unwrap();
        }
        prop_assert_eq!(s.as_str(), &expected);
    }
}
