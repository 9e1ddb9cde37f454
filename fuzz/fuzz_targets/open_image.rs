//! Any bytes as an arena: an error, or an arena that can be checked; never a crash or a hang.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sharena::{
    Arena, Share,
    collections::{HashMap, String, Vec},
    sync::Mutex,
};
use std::sync::OnceLock;

#[derive(Share, Default)]
#[repr(C)]
struct World {
    words: Vec<String>,
    counts: HashMap<String, u64>,
    lists: HashMap<u64, Vec<u64>>,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Byte { at: u32, value: u8 },
    Word { at: u32, value: u64 },
    Small { at: u32, value: u8 },
    Copy { from: u32, to: u32 },
    Cut { length: u32 },
}

#[derive(Arbitrary, Debug)]
enum Input {
    /// Bytes as they are.
    Raw(std::vec::Vec<u8>),
    /// A good arena, changed here and there.
    Changed(std::vec::Vec<Change>),
}

/// The image of an arena with something of everything, in the middle of a section.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<std::vec::Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let arena = Arena::options()
            .max_size(1 << 18)
            .slots(4)
            .in_memory()
            .expect("an arena");
        let root = arena.root::<Mutex<World>>("world").expect("a root");
        let mut guard = root.lock().expect("the lock");
        for n in 0..20u64 {
            let text = format!("word {n} {}", "x".repeat(n as usize % 24));
            guard.words.push_from(text.as_str()).expect("room");
            guard.counts.insert(text.as_str(), n).expect("room");
            guard
                .lists
                .entry(n % 5)
                .or_default()
                .expect("room")
                .push(n)
                .expect("room");
        }
        guard.commit().expect("the only guard");
        guard.words.truncate(5);
        guard.lists.remove(&1);
        guard
            .words
            .push_from("a longer word that takes another block")
            .expect("room");
        let image = arena.image();
        drop(guard);
        image
    })
}

fn changed(changes: &[Change]) -> std::vec::Vec<u8> {
    let mut image = good().to_vec();
    for change in changes.iter().take(32) {
        let len = image.len();
        if len < 16 {
            break;
        }
        let place = |at: u32| at as usize % (len - 8);
        match *change {
            Change::Byte { at, value } => image[place(at)] = value,
            Change::Word { at, value } => {
                let at = place(at) & !7;
                image[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            Change::Small { at, value } => {
                let at = place(at) & !7;
                image[at..at + 8].copy_from_slice(&u64::from(value).to_le_bytes());
            }
            Change::Copy { from, to } => {
                let (from, to) = (place(from) & !7, place(to) & !7);
                image.copy_within(from..from + 8, to);
            }
            Change::Cut { length } => image.truncate(place(length)),
        }
    }
    image
}

fuzz_target!(|input: Input| {
    let image = match &input {
        Input::Raw(bytes) => bytes.clone(),
        Input::Changed(changes) => changed(changes),
    };
    if let Ok(arena) = Arena::from_image(&image) {
        let _ = arena.check().to_string();
        let _ = arena.stats();
        let _ = arena.roots();
    }
    // What passes verification can be read.
    let verified = Arena::options().verify(true).from_image(&image);
    if let Ok(arena) = verified
        && let Ok(root) = arena.find::<Mutex<World>>("world")
        && let Ok(world) = root.lock()
    {
        let bytes: usize = world.words.iter().map(|word| word.as_bytes().len()).sum();
        let sum = world
            .lists
            .values()
            .flat_map(|list| list.iter())
            .fold(0u64, |sum, n| sum ^ n);
        std::hint::black_box((bytes, sum, world.counts.iter().count()));
    }
});
