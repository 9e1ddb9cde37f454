//! Compares ARCHITECTURE.md with the code: byte pictures, bit pictures, and numbered invariants.
//!
//! Tables of the document that begin with a row `| field | offset | bytes |` or
//! `| bits | first | width |` or `| constant | value |` are read by machine. What is stored must be
//! in them, once, and as it is.

use super::{
    container::*,
    header::*,
    lock::*,
    log::*,
    root::*,
    slab::*,
    slot::{
        Doubt, FIRST_READS, FURTHER_READS, INLINE_LOG, OVERFLOW_SEGMENTS, PERMITS, PermitCell,
        Readers, SEGMENTS, Segment, Slot, Stamp,
    },
};
use crate::os::incarnation::{
    Incarnation,
    Kind::{Descriptor, Start},
};
use std::{collections::BTreeMap, fs, mem::offset_of, path::Path};

const DOCUMENT: &str = include_str!("../../ARCHITECTURE.md");

/// Names and numbers, as a table of the document and as the code has them.
type Rows = BTreeMap<String, Vec<u64>>;

/// The rows of all tables with that first row.
fn rows(heading: &str) -> Rows {
    let mut found = Rows::new();
    let mut inside = false;
    for line in DOCUMENT.lines() {
        inside = (inside && line.starts_with('|')) || line == heading;
        if !inside || line == heading || line.starts_with("|---") {
            continue;
        }
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let name = cells.next().expect("a first cell").trim_matches('`');
        let numbers = cells.filter(|cell| !cell.is_empty()).map(|cell| {
            let parsed = cell.parse();
            parsed.unwrap_or_else(|_| panic!("not a number in the row of {name}: {cell}"))
        });
        let twice = found.insert(name.to_owned(), numbers.collect());
        assert!(twice.is_none(), "{name} stands there twice");
    }
    assert!(!found.is_empty(), "no table begins with {heading}");
    found
}

#[track_caller]
fn assert_same(heading: &str, code: &Rows) {
    let document = rows(heading);
    let wrong: String = code
        .iter()
        .filter(|(name, numbers)| document.get(*name) != Some(numbers))
        .map(|(name, numbers)| {
            let cells: Vec<_> = numbers.iter().map(u64::to_string).collect();
            format!("| {name} | {} |\n", cells.join(" | "))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "ARCHITECTURE.md should say under {heading}\n{wrong}"
    );
    let unknown: Vec<_> = document
        .keys()
        .filter(|name| !code.contains_key(*name))
        .collect();
    assert!(unknown.is_empty(), "not in the code: {unknown:?}");
}

fn size_behind<T, F>(_: impl FnOnce(&T) -> &F) -> u64 {
    size_of::<F>() as u64
}

macro_rules! fields {
    ($rows:ident; $($type:ty as $name:literal { $($field:ident),* $(,)? })*) => {
        $(
            $( $rows.insert(
                format!("{}.{}", $name, stringify!($field)),
                vec![
                    offset_of!($type, $field) as u64,
                    size_behind(|whole: &$type| &whole.$field),
                ],
            ); )*
            $rows.insert($name.into(), vec![0, size_of::<$type>() as u64]);
        )*
    };
}

#[test]
fn fields_lie_where_the_document_says() {
    let mut code = Rows::new();
    fields! { code;
        Header as "Header" {
            magic, version, endian_mark, pointer_bits, page_size, features, fingerprint, id,
            hash_random, maximum, slab_shift, slots, life, device, inode, committed, watermark,
            freed, abandoned, slots_high, orphans, directory, next_root, buckets,
        }
        Doubt as "Doubt" { block, remote_frees }
        ProcessEntry as "ProcessEntry" { claim, namespace }
        Slot as "Slot" {
            segments, permits, inline, claim, lease, generation, serial, log, done, wait, burying,
            immediate, reads,
        }
        Readers as "Readers" { cells, further }
        PermitCell as "PermitCell" { semaphore, count }
        Segment as "Segment" { offset, size, before }
        SlabBits as "SlabBits" { remote_hint, reserved, span_slabs, span_bytes }
        MutexHeader as "MutexHeader" { word, poison, contention, stamp }
        SemaphoreHeader as "SemaphoreHeader" { lock, available, sleepers }
        BufferHeader as "BufferHeader" { offset, stamp, arena, marks }
        VecHeader as "VecHeader" { buffer, len, capacity }
        TextHeader as "TextHeader" { buffer, text }
        MapHeader as "MapHeader" { buffer, len, mask, growth_left }
        RootEntry as "RootEntry" {
            next, number, state, name_len, value, size, schema, schema_len, users,
        }
    }
    assert_same("| field | offset | bytes |", &code);
}

/// A word in which only one part is not 0, and what that part is.
fn bits_of(word: u64, part: u64) -> Vec<u64> {
    assert!(
        part != 0 && part & 1 == 1,
        "the lowest bit of a part shows where it begins"
    );
    let first = word.trailing_zeros();
    assert_eq!(word, part << first);
    vec![u64::from(first), u64::from(64 - part.leading_zeros())]
}

#[test]
fn bits_lie_where_the_document_says() {
    let all = |width: u32| (1u64 << width) - 1;
    let state = |kind, class: u64, slot: u64, generation: u64| {
        SlabState::new(kind, class as usize, slot as usize, generation as u32).0
    };
    let entry = |kind, len, offset| Entry { kind, len, offset }.encode();
    let claim = |pid, kind, number, namespace| {
        crate::journal::Claim::new(pid, Incarnation { number, kind }, namespace).0
    };
    let free = SlabKind::Free;
    let bare = entry(EntryKind::Undo, 0, 0);
    let code = [
        ("LockWord.waiters", bits_of(WAITERS_BIT, 1)),
        ("Cell.waiters", bits_of(WAITERS_BIT, 1)),
        ("Cell.pending", bits_of(PENDING_BIT, 1)),
        ("LockWord.slot + 1", bits_of(Tag::new(0x7ffe, 0).0, all(15))),
        (
            "LockWord.generation",
            // A tag names a slot always.
            bits_of(Tag::new(0, all(48)).0 & !Tag::new(0, 0).0, all(48)),
        ),
        (
            "SlabState.class",
            bits_of(state(free, all(8), 0, 0), all(8)),
        ),
        (
            "SlabState.slot",
            bits_of(state(free, 0, all(16), 0), all(16)),
        ),
        (
            "SlabState.distance",
            bits_of(SlabState::tail(all(24) as usize, 0).0 & !all(8), all(24)),
        ),
        (
            "SlabState.generation",
            bits_of(state(free, 0, 0, all(32)), all(32)),
        ),
        (
            "Entry.offset",
            bits_of(entry(EntryKind::Undo, 0, all(48)) & !bare, all(48)),
        ),
        (
            "Entry.len",
            bits_of(entry(EntryKind::Undo, all(13) as usize, 0) & !bare, all(13)),
        ),
        (
            "LogPosition.used",
            bits_of(LogPosition::new(0, all(56) as usize).0, all(56)),
        ),
        (
            "LogPosition.segment",
            bits_of(LogPosition::new(all(7) as usize, 0).0, all(7)),
        ),
        ("Entry.kind", bits_of(entry(EntryKind::FreeSpan, 0, 0), 5)),
        ("LogPosition.committed", bits_of(LogPosition::COMMITTED, 1)),
        ("Stamp.serial", bits_of(Stamp::new(0, all(50)).0, all(50))),
        (
            "Stamp.slot",
            bits_of(Stamp::new(all(14) as usize, 0).0, all(14)),
        ),
        (
            "Claim.namespace",
            bits_of(claim(0, Start, 0, all(16)), all(16)),
        ),
        (
            "Claim.number",
            bits_of(claim(0, Start, all(25), 0), all(25)),
        ),
        ("Claim.descriptor", bits_of(claim(0, Descriptor, 0, 0), 1)),
        (
            "Claim.pid",
            bits_of(claim(all(22) as u32, Start, 0, 0), all(22)),
        ),
        ("marks.FRESH", bits_of(marks::FRESH.into(), 1)),
        ("marks.WHOLE", bits_of(marks::WHOLE.into(), 1)),
        ("marks.CONTROL", bits_of(marks::CONTROL.into(), 1)),
        ("marks.COUNT", bits_of(marks::COUNT.into(), all(29))),
    ];
    let code = code.map(|(name, bits)| (name.to_owned(), bits));
    assert_same("| bits | first | width |", &code.into_iter().collect());
}

#[test]
fn constants_are_what_the_document_says() {
    let code = [
        ("FORMAT_VERSION", u64::from(FORMAT_VERSION)),
        ("ENDIAN_MARK", u64::from(ENDIAN_MARK)),
        ("BUCKETS", BUCKETS as u64),
        ("PERMITS", PERMITS as u64),
        ("FIRST_READS", FIRST_READS as u64),
        ("FURTHER_READS", FURTHER_READS as u64),
        ("SEGMENTS", SEGMENTS as u64),
        ("OVERFLOW_SEGMENTS", OVERFLOW_SEGMENTS as u64),
        ("INLINE_LOG", INLINE_LOG as u64),
        ("MAX_RECORD", MAX_RECORD as u64),
        (
            "WORD_FROM_PAGE_END",
            crate::os::life::WORD_FROM_PAGE_END as u64,
        ),
        ("LINKED", u64::from(root_state::LINKED)),
        ("REMOVED", u64::from(root_state::REMOVED)),
        ("Byte", EntryKind::Byte as u64),
        ("Undo", EntryKind::Undo as u64),
        ("Alloc", EntryKind::Alloc as u64),
        ("Free", EntryKind::Free as u64),
        ("AllocSpan", EntryKind::AllocSpan as u64),
        ("FreeSpan", EntryKind::FreeSpan as u64),
        ("GrowSpan", EntryKind::GrowSpan as u64),
        ("Doom", EntryKind::Doom as u64),
        ("SlabKind.Free", SlabKind::Free as u64),
        ("SlabKind.Owned", SlabKind::Owned as u64),
        ("SlabKind.Abandoned", SlabKind::Abandoned as u64),
        ("SlabKind.Reserved", SlabKind::Reserved as u64),
        ("SlabKind.Span", SlabKind::Span as u64),
        ("SlabKind.Tail", SlabKind::Tail as u64),
        ("SlabKind.Freeing", SlabKind::Freeing as u64),
        ("SlabKind.Hole", SlabKind::Hole as u64),
        ("SlabKind.Filling", SlabKind::Filling as u64),
        ("SlabKind.Punching", SlabKind::Punching as u64),
    ];
    let code = code.map(|(name, value)| (name.to_owned(), vec![value]));
    assert_same("| constant | value |", &code.into_iter().collect());
    assert_eq!(MAGIC, *b"sharena\x1a");
    assert!(DOCUMENT.contains(r"`sharena\x1a`"));
}

/// Citations such as `(J4)` or `H1 to H6` in a comment: a letter of those that the document uses,
/// and a number.
fn citations(comment: &str) -> impl Iterator<Item = &str> {
    let words = comment.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| {
        let mut letters = word.chars();
        let letter = letters
            .next()
            .is_some_and(|first| "CMHJLRDSTWP".contains(first));
        let number = letters.as_str();
        letter && (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
    })
}

fn check_citations(folder: &Path, missing: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the source is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            check_citations(&path, missing);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a text");
        let comments = text.lines().filter_map(|line| line.split_once("//"));
        for (_, comment) in comments {
            let unknown = citations(comment)
                .filter(|name| !DOCUMENT.contains(&format!("**{name}**")))
                .map(|name| format!("{name} in {}", path.display()));
            missing.extend(unknown);
        }
    }
}

#[test]
fn every_cited_invariant_is_in_the_document() {
    let mut missing = Vec::new();
    check_citations(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut missing,
    );
    assert!(missing.is_empty(), "{missing:#?}");
}
