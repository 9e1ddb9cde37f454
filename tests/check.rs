//! `Arena::check`: what it counts, what it finds, and that no damage makes it panic or hang.

use sharena::{
    Access, Arena, Options, RelPtr, Share,
    arena::{ProblemKind, Report},
    collections::{Box, HashMap, String, Vec},
    sync::{Mutex, RwLock},
};

#[derive(Share, Default)]
#[repr(C)]
struct Node {
    value: u64,
    next: Option<RelPtr<Node>>,
}

fn small() -> Options {
    let mut options = Arena::options();
    options.max_size(1 << 18);
    options
}

#[track_caller]
fn assert_clean(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn an_empty_arena_is_clean() {
    let arena = Arena::in_memory().unwrap();
    assert_clean(&arena);
    assert_eq!(arena.check().blocks(), 0);
}

#[test]
fn roots_own_their_blocks() {
    let arena = small().in_memory().unwrap();
    for name in ["a", "b", "c"] {
        arena.root::<Mutex<u64>>(name).unwrap();
    }
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.roots(), report.blocks()), (3, 9));
    assert_eq!(report.reachable(), 9);
    assert!(report.to_string().contains("3 roots"));
}

#[test]
fn a_raw_block_is_unowned_until_a_pointer_leads_to_it() {
    let arena = small().in_memory().unwrap();
    let list = arena.root::<Mutex<Node>>("list").unwrap();
    let second = arena.alloc_value(Node::default()).unwrap();
    let second = second.into_raw().unwrap();
    let first = Node {
        value: 1,
        next: Some(second),
    };
    let first = arena.alloc_value(first).unwrap().into_raw().unwrap();
    let report = arena.check();
    assert!(report.is_ok() && !report.is_clean());
    let mut unowned: std::vec::Vec<u64> =
        report.unowned().iter().map(|block| block.offset).collect();
    unowned.sort_unstable();
    let mut expected = [first.offset(), second.offset()];
    expected.sort_unstable();
    assert_eq!(unowned, expected);
    list.lock().unwrap().next = Some(first);
    assert_clean(&arena);
    // A circle, and a stale pointer.
    // SAFETY: both are nodes in this arena, and nobody else uses them.
    unsafe {
        (*second.resolve(&arena).unwrap()).next = Some(first);
        assert_clean(&arena);
        (*second.resolve(&arena).unwrap()).next = RelPtr::from_offset(12345);
    }
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.stale_pointers(), 1);
}

#[derive(Share, Default)]
#[repr(C)]
struct Everything {
    flag: bool,
    letter: char,
    kind: Kind,
    names: Vec<String>,
    map: HashMap<u64, u64>,
    next: Box<u64>,
    number: Option<std::num::NonZero<u64>>,
    note: String,
}

#[derive(Share, Default)]
#[repr(u8)]
enum Kind {
    #[default]
    None = 3,
    Some(Vec<u64>) = 9,
}

/// An arena with one root of many parts, and what damage can be done to its bytes.
struct Patient {
    image: std::vec::Vec<u8>,
    value: usize,
}

/// Where the fields of the value lie: those of its mutex come first.
const FLAG: usize = 24;
const LETTER: usize = 28;
const KIND: usize = 32;
const NAMES: usize = KIND + 8 + 40;
const MAP: usize = NAMES + 40;
const NEXT: usize = MAP + 48;
const NOTE: usize = NEXT + 24 + 8;
/// Fields of a container's header.
const OFFSET: usize = 0;
const STAMP: usize = 8;
const ARENA: usize = 16;
const LEN: usize = 24;
const CAPACITY: usize = 32;
const MASK: usize = 32;

impl Patient {
    fn new() -> Self {
        let arena = small().in_memory().unwrap();
        arena
            .root_with::<Mutex<Everything>>("everything", |everything| {
                let everything = everything.get_mut()?;
                everything.kind = Kind::Some(Vec::new());
                for number in 0..7 {
                    if let Kind::Some(list) = &mut everything.kind {
                        list.push(number)?;
                    }
                    everything.names.push_from("a name in its own block")?;
                    everything.map.insert(number, number)?;
                }
                everything.next.set(7u64)?;
                everything.note.push_str("short")
            })
            .unwrap();
        let value = arena.roots().unwrap()[0].offset as usize;
        assert_clean(&arena);
        let patient = Patient {
            image: arena.image(),
            value,
        };
        drop(arena);
        assert_clean(&Arena::from_image(&patient.image).unwrap());
        patient
    }

    fn word(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.image[at..at + 8].try_into().unwrap())
    }

    /// What a check says of the image with these bytes in place of others.
    fn with(&self, at: usize, bytes: &[u8]) -> Report {
        let mut image = self.image.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        let report = Arena::from_image(&image).unwrap().check();
        let refused = Arena::options().verify(true).from_image(&image);
        assert_eq!(report.is_ok(), refused.is_ok());
        report
    }

    /// That the damage is found, and called by its name.
    #[track_caller]
    fn assert_found(&self, at: usize, bytes: &[u8], kind: ProblemKind) {
        let report = self.with(at, bytes);
        let found = report
            .problems()
            .iter()
            .any(|problem| problem.kind() == kind);
        assert!(found, "{kind:?} for {bytes:02x?} at {at} in {report}");
    }
}

#[test]
fn values_that_their_types_do_not_have() {
    let patient = Patient::new();
    let at = |field| patient.value + field;
    let value = ProblemKind::Value;
    patient.assert_found(at(FLAG), &[2], value);
    patient.assert_found(at(LETTER), &0xd800u32.to_ne_bytes(), value);
    patient.assert_found(at(KIND), &[4], value);
    let name = patient.word(patient.word(at(NAMES)) as usize) as usize;
    patient.assert_found(name, &[0xff], value);
    // The text of a short string lies in its header.
    assert_eq!(patient.word(at(NOTE)), 5);
    patient.assert_found(at(NOTE) + 24, &[0xff], value);
    // Without its list, the enum leaves a block behind.
    let report = patient.with(at(KIND), &[3]);
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.unowned().len(), 1);
}

#[test]
fn containers_that_make_no_sense() {
    use ProblemKind::*;
    let patient = Patient::new();
    let at = |field| patient.value + field;
    let word = |value: u64| value.to_ne_bytes();
    let (names, map, next) = (at(NAMES), at(MAP), at(NEXT));
    let buffer = patient.word(names);
    patient.assert_found(at(NOTE) + STAMP, &word(u64::MAX), Stamp);
    for container in [names, map, next] {
        patient.assert_found(container + ARENA, &[1, 1], ForeignArena);
        patient.assert_found(container + STAMP, &word(u64::MAX), Stamp);
        patient.assert_found(container + OFFSET, &word(buffer + 4), Alignment);
        patient.assert_found(container + OFFSET, &word(buffer + 8), Dangling);
        patient.assert_found(container + OFFSET, &word(1 << 40), Dangling);
        for offset in [8, 16, 64] {
            patient.assert_found(container + OFFSET, &word(offset), Dangling);
        }
    }
    patient.assert_found(map + OFFSET, &word(buffer), TwoOwners);
    patient.assert_found(names + OFFSET, &word(0), Length);
    let capacity = patient.word(names + CAPACITY);
    for more in [1, 1 << 30, u64::MAX / 40, u64::MAX - capacity] {
        patient.assert_found(names + LEN, &word(capacity + more), Length);
        patient.assert_found(names + CAPACITY, &word(capacity * 2 + more / 2), BlockSize);
    }
    patient.assert_found(map + LEN, &word(6), Length);
    for mask in [0, 1, 6, u64::MAX, u64::MAX >> 1] {
        let report = patient.with(map + MASK, &word(mask));
        assert!(!report.is_ok(), "{mask}: {report}");
    }
    patient.assert_found(map + 40, &word(8), Length);
    // A table of eight buckets: the control bytes lie behind the pairs.
    let control = patient.word(map) as usize + 8 * 16;
    assert_eq!(patient.word(map + MASK), 7);
    for (bucket, byte) in [(8, 0x11), (15, 0x80), (3, 0x81), (0, 0xff)] {
        if patient.image[control + bucket] != byte {
            patient.assert_found(control + bucket, &[byte], Length);
        }
    }
    // An empty list owns nothing, so its elements are lost.
    let report = patient.with(next, &word(0));
    assert!(report.is_ok() && report.unowned().len() == 1, "{report}");
}

#[test]
fn locks_that_nobody_can_hold() {
    let patient = Patient::new();
    let tag = |slot: u64, generation: u64| (generation << 16 | (slot + 1) << 1).to_ne_bytes();
    let lock = ProblemKind::Lock;
    patient.assert_found(patient.value, &tag(100, 1), lock);
    patient.assert_found(patient.value, &tag(1, 1 << 40), lock);
    patient.assert_found(patient.value, &tag(5, 0), lock);
    patient.assert_found(patient.value + 8, &[2], lock);
    // What a dead holder left is free.
    assert!(patient.with(patient.value, &tag(1, 0)).is_ok());
    assert!(patient.with(patient.value, &(!1u64).to_ne_bytes()).is_ok());
}

#[test]
fn an_open_section_is_in_order() {
    let arena = small().in_memory().unwrap();
    let list = arena.root::<Mutex<Vec<u64>>>("list").unwrap();
    list.lock().unwrap().extend_from_slice(&[1; 100]).unwrap();
    {
        let mut list = list.lock().unwrap();
        list.extend_from_slice(&[2; 1000]).unwrap();
        let report = arena.check();
        assert!(report.is_clean(), "{report}");
        // The old buffer goes at the end of the section.
        assert_eq!(report.journaled(), 1);
        let image = Arena::from_image(&arena.image());
        assert!(matches!(image, Err(sharena::Error::Twin { .. })));
    }
    assert_eq!(arena.check().journaled(), 0);
    assert_clean(&arena);
}

#[test]
fn arenas_that_can_only_be_read() {
    let path = std::env::temp_dir().join(format!("sharena-check-{}", std::process::id()));
    // SAFETY: nobody else knows the file.
    let arena = unsafe { small().create(&path) }.unwrap();
    arena
        .root::<Mutex<Vec<u64>>>("list")
        .unwrap()
        .lock()
        .unwrap()
        .push(1)
        .unwrap();
    for access in [Access::ReadOnly, Access::CopyOnWrite] {
        let writable = (access == Access::ReadOnly).then(|| arena.clone());
        // SAFETY: as above.
        let open = || unsafe { small().access(access).open(&path) };
        let Ok(reader) = open() else {
            // A private copy beside a shared mapping is a twin.
            assert_eq!(access, Access::CopyOnWrite);
            continue;
        };
        assert_clean(&reader);
        assert_eq!(reader.check().blocks(), 4);
        assert_eq!(reader.stats().roots, 1);
        drop(writable);
    }
    drop(arena);
    // SAFETY: as above.
    let copy = unsafe { small().access(Access::CopyOnWrite).verify(true).open(&path) }.unwrap();
    assert_clean(&copy);
    drop(copy);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_that_was_cut_is_not_touched_behind_its_end() {
    let path = std::env::temp_dir().join(format!("sharena-cut-{}", std::process::id()));
    // SAFETY: cut short below, and only looked at by `check` from then on.
    let arena = unsafe { small().create(&path) }.unwrap();
    let len = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(len - 4096).unwrap();
    let report = arena.check();
    assert_eq!(report.problems()[0].kind(), ProblemKind::Header, "{report}");
    file.set_len(len).unwrap();
    assert_clean(&arena);
    drop(arena);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn frozen_through_and_through() {
    type Inner = Mutex<Vec<Mutex<u64>>>;
    let path = std::env::temp_dir().join(format!("sharena-frozen-{}", std::process::id()));
    // SAFETY: nobody else knows the file.
    let arena = unsafe { small().create(&path) }.unwrap();
    let numbers = arena.root::<Inner>("numbers").unwrap();
    for number in 0..3 {
        numbers.lock().unwrap().push(Mutex::new(number)).unwrap();
    }
    arena
        .root::<Mutex<std::sync::atomic::AtomicU64>>("atomic")
        .unwrap()
        .freeze()
        .unwrap();
    arena.root::<[u64; 4]>("plain").unwrap();
    // SAFETY: as above.
    let reader = unsafe { small().access(Access::ReadOnly).open(&path) }.unwrap();
    let is_frozen = || match reader.find::<Inner>("numbers") {
        Ok(found) => {
            let numbers = found.frozen().unwrap();
            assert_eq!(numbers.iter().map(|n| *n.frozen().unwrap()).sum::<u64>(), 3);
            true
        }
        Err(sharena::Error::NotFrozen) => false,
        Err(error) => panic!("{error}"),
    };
    assert!(!is_frozen());
    for number in numbers.lock().unwrap().iter().skip(1) {
        // Not in a section: each by itself.
        assert!(matches!(number.freeze(), Err(sharena::Error::InSection)));
    }
    let frozen = numbers.freeze().unwrap();
    assert!(!is_frozen());
    frozen[0].freeze().unwrap();
    frozen[2].freeze().unwrap();
    assert!(!is_frozen());
    frozen[1].freeze().unwrap();
    assert!(is_frozen());
    assert_eq!(*reader.find::<[u64; 4]>("plain").unwrap(), [0; 4]);
    assert!(matches!(
        reader.find::<Mutex<std::sync::atomic::AtomicU64>>("atomic"),
        Err(sharena::Error::NotFrozen)
    ));
    assert_clean(&reader);
    std::fs::remove_file(&path).unwrap();
}

/// A read lock in a slot that nobody has keeps no writer waiting, and is gone when somebody gets the
/// slot.
#[test]
fn cells_of_read_locks_in_free_slots_are_found() {
    let mut options = small();
    options.slots(6);
    let arena = options.in_memory().unwrap();
    let root = arena.root::<RwLock<u64>>("lock").unwrap();
    let offset = (&raw const *root).addr() - arena.base().addr();
    let mut image = arena.image();
    drop((root, arena));
    let page = 4096;
    let cell = |slot: usize| page + 6 * 64 + slot * 64;
    for slot in 0..6 {
        image[cell(slot)..][..8].copy_from_slice(&(offset as u64).to_le_bytes());
    }
    let arena = options.from_image(&image).unwrap();
    let report = arena.check();
    // Not that of the one thread there was, which was recovered, nor that of the recoverer.
    let problems = report.problems().iter();
    let found = problems.filter(|one| one.kind() == ProblemKind::Slot);
    assert_eq!(found.count(), 4, "{report}");
    let root = arena.root::<RwLock<u64>>("lock").unwrap();
    *root.write().unwrap() += 1;
    drop(root.read().unwrap());
    assert_eq!(arena.image()[cell(1)..][..8], [0; 8]);
}
