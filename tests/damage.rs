//! No damage makes opening, checking or listing an arena panic, hang, or touch foreign memory.
//!
//! Images of a small arena are damaged at random; `SHARENA_MUTATIONS` says how often.

#![allow(dead_code)] // what is stored is read through the schema only

use sharena::{
    Arena, Options, RelPtr, Share,
    collections::{Box, HashMap, String, Vec},
    sync::{Mutex, Semaphore},
};
use std::{
    alloc::Layout,
    sync::atomic::{AtomicU64, Ordering::*},
    thread,
    time::Duration,
};

#[derive(Share, Default)]
#[repr(u8)]
enum Shape {
    #[default]
    Point,
    Line(u64, RelPtr<u64>) = 7,
    Marked {
        by: bool,
        letter: char,
        next: Option<RelPtr<Node>>,
    } = 200,
}

#[derive(Share, Default)]
#[repr(C)]
struct Item {
    name: String,
    shape: Shape,
    numbers: Vec<u64>,
    next: Box<Item>,
}

#[derive(Share, Default)]
#[repr(C)]
struct Store {
    items: HashMap<String, Item>,
    words: Vec<String>,
    few: HashMap<u8, char>,
    nothing: Vec<()>,
    inner: Vec<Mutex<Vec<bool>>>,
}

#[derive(Share, Default)]
#[repr(C)]
struct Node {
    shapes: [Shape; 3],
    next: Option<RelPtr<Node>>,
}

/// Mutations unless said otherwise.
const FEW: u64 = if cfg!(debug_assertions) {
    4_000
} else {
    40_000
};

fn options() -> Options {
    let mut options = Arena::options();
    options.max_size(1 << 18);
    options
}

fn fill(store: &mut Store) -> sharena::Result {
    for (number, name) in ["one", "two", "three", "four", "five", "six"]
        .iter()
        .enumerate()
    {
        let item = store.items.entry(*name).or_default()?;
        item.name
            .push_str("the name of an item that is long enough")?;
        item.numbers.extend_from_slice(&[1, 2, 3])?;
        item.next.set(Item::default())?.numbers.push(4)?;
        store.words.push_from(*name)?;
        store.few.insert(number as u8, 'x')?;
        store.nothing.push(())?;
    }
    store.items.remove("two");
    for _ in 0..3 {
        store.inner.push(Mutex::default())?;
    }
    Ok(())
}

/// Images of a populated arena: at rest, and in the middle of a section.
fn images() -> std::vec::Vec<std::vec::Vec<u8>> {
    let arena = options().in_memory().unwrap();
    let list = arena.root::<Mutex<Node>>("list").unwrap();
    let mut next = None;
    for letter in "abc".chars() {
        let marked = Shape::Marked {
            by: true,
            letter,
            next,
        };
        let node = Node {
            shapes: [marked, Shape::Point, Shape::Point],
            next,
        };
        next = Some(arena.alloc_value(node).unwrap().into_raw().unwrap());
    }
    let number = arena.alloc_value(7u64).unwrap().into_raw().unwrap();
    {
        let mut list = list.lock().unwrap();
        list.next = next;
        list.shapes[1] = Shape::Line(1, number);
    }
    let large = Layout::from_size_align(9000, 8).unwrap();
    let spans = [0; 3].map(|_| arena.alloc(large).unwrap().into_raw().unwrap());
    // SAFETY: allocated just now.
    unsafe { arena.dealloc(spans[1]).unwrap() };
    let many = arena.root::<Mutex<[[u64; 30]; 20]>>("many").unwrap();
    let frozen = arena.root::<Mutex<u64>>("frozen").unwrap();
    frozen.freeze().unwrap();
    let permits = arena
        .root_with::<Semaphore>("permits", |semaphore| {
            *semaphore = Semaphore::new(3);
            Ok(())
        })
        .unwrap();
    let _permit = permits.acquire().unwrap();
    let removed = arena.root::<Mutex<Node>>("removed").unwrap();
    arena.remove("removed").unwrap();
    let store = arena
        .root_with::<Mutex<Store>>("store", |store| fill(store.get_mut()?))
        .unwrap();
    let mut images = vec![arena.image()];
    {
        let mut many = many.lock().unwrap();
        many[3][1] = 4;
        arena.alloc(large).unwrap().into_raw().unwrap();
        arena.alloc_value(7u64).unwrap().into_raw().unwrap();
        // SAFETY: allocated above.
        unsafe { arena.dealloc(number).unwrap() };
        images.push(arena.image());
    }
    {
        let mut store = store.lock().unwrap();
        store.items.remove("three").unwrap();
        store.words.push_from("another").unwrap();
        store.items.get_mut("five").unwrap().numbers.clear();
        store.few.insert(100, 'y').unwrap();
        images.push(arena.image());
    }
    drop(removed);
    images
}

/// What safe code can do with roots. Anything may be refused.
fn use_everything(arena: &Arena) -> sharena::Result {
    let wait = Duration::from_millis(2);
    if let Ok(store) = arena.root::<Mutex<Store>>("store") {
        let mut store = store.try_lock_for(wait)?;
        for (key, item) in store.items.iter() {
            assert!(key.chars().count() <= 100_000 && item.name.len() < 1 << 20);
            assert_eq!(item.numbers.iter().count(), item.numbers.len());
            let _ = item.next.get().map(|next| next.numbers.iter().sum::<u64>());
            if let Shape::Marked { by, letter, .. } = &item.shape {
                assert!(u8::from(*by) < 2);
                assert!(letter.len_utf8() <= 4);
            }
        }
        let _ = store.items.get("one").is_some();
        let _ = store.few.get(&3).map(|letter| letter.len_utf8());
        for inner in store.inner.iter() {
            let _ = inner.is_frozen();
        }
        store.words.retain(|word| word.chars().count() % 2 == 0);
        for number in 0..40 {
            store.few.insert(number, 'z')?;
            store.words.push_from("word")?;
        }
        store.items.remove("five");
        let item = store.items.entry("seven").or_default()?;
        item.numbers.extend_from_slice(&[7; 50])?;
        if let Some(item) = store.items.get_mut("one") {
            item.name.push_str("more")?;
            item.numbers.push(1)?;
            item.next.set(Item::default())?;
        }
        store.items.clear();
    }
    if let Ok(list) = arena.root::<Mutex<Node>>("list") {
        let mut list = list.try_lock_for(wait)?;
        list.shapes[2] = Shape::Line(1, RelPtr::from_offset(8).unwrap());
    }
    if let Ok(many) = arena.root::<Mutex<[[u64; 30]; 20]>>("many") {
        many.try_lock_for(wait)?[1][1] += 1;
    }
    if let Ok(permits) = arena.root::<Semaphore>("permits") {
        drop(permits.try_acquire_for(wait)?);
    }
    for name in ["store", "list", "many", "new"] {
        let _ = arena.remove(name);
    }
    arena
        .root::<Mutex<Vec<u64>>>("new")?
        .try_lock_for(wait)?
        .push(1)?;
    arena.reap()?;
    Ok(())
}

/// Does everything with an image that must never fail badly. Says whether it could be opened.
fn try_image(image: &[u8]) -> bool {
    if let Ok(verified) = options().verify(true).from_image(image) {
        let used = use_everything(&verified);
        let report = verified.check();
        assert!(report.is_ok(), "after use, which gave {used:?}: {report}");
    }
    let Ok(arena) = options().from_image(image) else {
        return false;
    };
    let report = arena.check();
    let _ = report.to_string();
    let _ = arena.stats();
    let _ = arena.roots();
    let _ = arena.check();
    true
}

/// A small generator, so that a number names a mutation.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A word that makes trouble.
fn word(random: &mut Random, image: &[u8]) -> u64 {
    let len = image.len() as u64;
    match random.below(9) {
        0 => 0,
        1 => u64::MAX,
        2 => random.next(),
        3 => random.next() % len,
        4 => (random.next() % len) & !15,
        5 => 1 << random.below(64),
        6 => random.next() % 300,
        7 => u64::MAX - random.next() % 5000,
        _ => {
            let at = random.below(image.len() - 8) & !7;
            u64::from_ne_bytes(image[at..at + 8].try_into().unwrap())
        }
    }
}

/// Damages a few places of an image, most often where something lies.
fn damage(image: &mut [u8], seed: u64) {
    let mut random = Random(seed);
    for _ in 0..1 + random.below(4) {
        let mut at = random.below(image.len() - 8);
        for _ in 0..20 {
            if image[at & !7..(at & !7) + 8] != [0; 8] {
                break;
            }
            at = random.below(image.len() - 8);
        }
        match random.below(3) {
            0 => image[at] = random.next() as u8,
            1 => image[at] ^= 1 << random.below(8),
            _ => {
                let word = word(&mut random, image);
                image[at & !7..(at & !7) + 8].copy_from_slice(&word.to_ne_bytes());
            }
        }
    }
}

/// Aborts the process, naming the mutation, if one takes too long.
fn watch(now: &'static AtomicU64) {
    thread::spawn(move || {
        loop {
            let before = now.load(SeqCst);
            thread::sleep(Duration::from_secs(20));
            if before == now.load(SeqCst) && before != u64::MAX {
                eprintln!("mutation {before} hangs, or panicked");
                std::process::abort();
            }
        }
    });
}

#[test]
fn random_damage() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    watch(&NOW);
    let only = std::env::var("SHARENA_MUTATION").map(|text| text.parse().unwrap());
    let count = std::env::var("SHARENA_MUTATIONS").map_or(FEW, |text| text.parse().unwrap());
    let images = images();
    let range = only.map_or(0..count, |only: u64| only..only + 1);
    let mut opened = 0;
    for seed in range.clone() {
        NOW.store(seed, SeqCst);
        let mut image = images[seed as usize % images.len()].clone();
        damage(&mut image, seed);
        opened += u64::from(try_image(&image));
    }
    NOW.store(u64::MAX, SeqCst);
    println!("{opened} of {count} could be opened");
}

#[test]
fn every_byte_of_the_header() {
    let images = images();
    for at in 0..1024 {
        for value in [0, 1, 7, 0x80, 0xff] {
            let mut image = images[at % images.len()].clone();
            image[at] = value;
            try_image(&image);
            image[at] = images[0][at] ^ value;
            try_image(&image);
        }
    }
}

#[test]
fn every_length() {
    let image = &images()[0];
    for len in (0..image.len()).step_by(97) {
        assert!(!try_image(&image[..len]));
    }
    assert!(try_image(image));
}

#[test]
fn images_as_they_are() {
    for image in images() {
        let arena = Arena::from_image(&image).unwrap();
        let report = arena.check();
        assert!(report.is_ok(), "{report}");
        // Two spans, and the number that the second image's section was about to free.
        println!("{report}");
    }
}
