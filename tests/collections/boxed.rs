//! `Box`, one behaviour at a time.

use sharena::{
    Arena, Share,
    collections::{Box, Boxed, String, Vec},
    sync::Mutex,
};

#[derive(Share, Default, Debug)]
#[repr(C)]
struct Node {
    value: u64,
    next: Box<Node>,
}

#[derive(Share, Default, Debug)]
#[repr(C)]
struct Tree {
    name: String,
    children: Vec<Tree>,
}

#[test]
fn set_get_take() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<[Box<String>; 2]>>("b").unwrap();
    let mut both = root.lock().unwrap();
    let [a, b] = &mut *both;
    assert_eq!(format!("{a:?}"), "Empty");
    a.set("one").unwrap().push_str(" and more").unwrap();
    assert_eq!(a.get().unwrap(), "one and more");
    assert_eq!(format!("{a:?}"), "\"one and more\"");
    b.set(a.take().unwrap()).unwrap();
    assert!(a.is_empty());
    assert_eq!(b.get().unwrap(), "one and more");
    std::mem::forget(b.take());
    assert_eq!(*b.take().unwrap(), "one and more");
    assert!(b.is_empty());
    a.set("two").unwrap();
    std::mem::swap(a, b);
    assert_eq!(b.get().unwrap(), "two");
    let text = b.take().unwrap().take();
    a.set(text).unwrap();
    a.set("three").unwrap();
    drop(both);
    root.lock().unwrap()[0]
        .get_mut()
        .unwrap()
        .push('!')
        .unwrap();
    assert_eq!(root.lock().unwrap()[0].get().unwrap(), "three!");
    assert!(arena.check().problems().is_empty());
}

#[test]
fn zero_sized() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Box<()>>>("b").unwrap();
    let mut b = root.lock().unwrap();
    b.set(()).unwrap();
    assert!(!b.is_empty());
    *b.take().unwrap();
    assert!(b.is_empty());
}

#[test]
fn stored_in_others() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Vec<Box<u64>>>>("b").unwrap();
    let mut v = root.lock().unwrap();
    v.push_from(5).unwrap();
    v.push_from(Boxed(6)).unwrap();
    v.push(Box::new()).unwrap();
    assert_eq!(v[1].get(), Some(&6));
    v.sort();
    assert!(v[0].is_empty());
    assert_eq!(format!("{v:?}"), "[Empty, 5, 6]");
}

#[test]
fn a_long_list_is_dropped_with_little_stack() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Box<Node>>>("list").unwrap();
    let mut list = root.lock().unwrap();
    for value in 0..1_000_000 {
        let next = std::mem::take(&mut *list);
        list.set(Node { value, next }).unwrap();
    }
    assert_eq!(list.get().unwrap().value, 999_999);
    drop(list);
    let mut list = root.lock().unwrap();
    list.clear();
    drop(list);
    assert!(arena.check().problems().is_empty());
}

#[test]
fn a_deep_tree_too() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<Tree>>("tree").unwrap();
    let mut tree = root.lock().unwrap();
    for depth in 0..200_000 {
        let below = std::mem::take(&mut *tree);
        tree.name.push_str("node").unwrap();
        tree.children.push(below).unwrap();
        if depth % 1000 == 0 {
            tree.children.push(Tree::default()).unwrap();
        }
    }
    *tree = Tree::default();
    drop(tree);
    assert!(arena.check().problems().is_empty());
}
