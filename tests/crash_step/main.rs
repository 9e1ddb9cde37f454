//! Proof by exhaustion: an operation is stopped at every instruction, and what a kill would leave
//! there is recovered, checked and used.
//!
//! Each distinct crash state is handled once. States that recovery itself goes through join the
//! list, which covers kills inside recovery, to any depth.
#![cfg(target_arch = "x86_64")]

pub(crate) mod cases;
mod stepper;

use sharena::{Arena, Options};
use std::{collections::HashSet, fmt::Debug};

/// Bytes of the arenas that are stepped through.
const SIZE: u64 = 256 << 10;

/// Kills of recoverers of killed recoverers and so on, at most: a back-stop, since the list of
/// states that are really different ends by itself.
const DEEPEST: usize = 6;

/// What was done, in numbers.
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct Tally {
    boundaries: usize,
    pub(crate) images: usize,
    pub(crate) violations: usize,
}

/// Of how many crash states the recovery is stepped through too: each, or one of so many.
fn nested_every() -> usize {
    match std::env::var("SHARENA_STEP") {
        Ok(whole) if whole == "all" => 1,
        _ => 16,
    }
}

/// Whether an operation is asked for: all are, unless `SHARENA_STEP=only:...` says which part of
/// their names is.
fn is_wanted(name: &str) -> bool {
    match std::env::var("SHARENA_STEP") {
        Ok(which) => which
            .strip_prefix("only:")
            .is_none_or(|part| name.contains(part)),
        Err(_) => true,
    }
}

pub(crate) fn small() -> Options {
    let mut options = Arena::options();
    options.max_size(SIZE).slots(4);
    options
}

fn word(image: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(image[at..at + 8].try_into().expect("eight bytes"))
}

/// An image as the words in which it differs from another.
type Sparse = Vec<(u32, u64)>;

fn differences(from: &[u8], image: &[u8]) -> Sparse {
    (0..image.len() / 8)
        .filter(|&index| word(from, index * 8) != word(image, index * 8))
        .map(|index| (index as u32, word(image, index * 8)))
        .collect()
}

fn apply(from: &[u8], differences: &Sparse) -> Vec<u8> {
    let mut image = from.to_vec();
    for &(index, value) in differences {
        let at = index as usize * 8;
        image[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    image
}

/// Steps through `operate`, and proves that every kill leaves what was before or what came after.
///
/// `build` prepares an arena, `observe` tells all that a user can see of it, `go_on` uses a
/// recovered one.
pub(crate) fn prove<S: PartialEq + Debug>(
    name: &str,
    build: impl FnOnce() -> Arena,
    operate: impl FnOnce(&Arena),
    observe: impl Fn(&Arena) -> S,
    go_on: impl Fn(&Arena),
) -> Tally {
    if !is_wanted(name) {
        return Tally::default();
    }
    let started = std::time::Instant::now();
    let arena = build();
    let before = observe(&arena);
    let recording = stepper::step(arena.base(), SIZE as usize, || operate(&arena));
    let after = observe(&arena);
    let first = recording.first().to_vec();
    // The layout outlives the arena: another one of the same size tells it.
    drop(arena);
    let twin = small().in_memory().expect("a second arena");
    let mut tally = Tally {
        boundaries: recording.boundaries,
        ..Tally::default()
    };
    let mut seen = HashSet::new();
    let mut list = Vec::new();
    let namer = |image: &[u8]| {
        let mut image = image.to_vec();
        twin.normalize(&first, &mut image);
        rapidhash::v3::rapidhash_v3(&image)
    };
    recording.for_each_new(&mut seen, namer, |image| {
        list.push((0, differences(&first, image)))
    });
    let outer = list.len();
    while let Some((depth, sparse)) = list.pop() {
        let image = apply(&first, &sparse);
        let at = tally.images;
        tally.images += 1;
        if let Err(why) = judge(&image, &before, &after, &observe, &go_on) {
            tally.violations += 1;
            if tally.violations <= 3 {
                eprintln!("{name}: image {at}: {why}");
            }
        }
        if depth < DEEPEST && at.is_multiple_of(nested_every()) {
            let arena = small()
                .leave_the_dead(true)
                .from_image(&image)
                .expect("an image opens");
            let nested = stepper::step(arena.base(), SIZE as usize, || {
                arena.reap().expect("the dead are recovered");
            });
            drop(arena);
            tally.boundaries += nested.boundaries;
            nested.for_each_new(&mut seen, namer, |image| {
                list.push((depth + 1, differences(&first, image)));
            });
        }
    }
    eprintln!(
        "{name}: boundaries {} images {} (in the operation itself {outer}) violations: {} in {:.1?}",
        tally.boundaries,
        tally.images,
        tally.violations,
        started.elapsed()
    );
    tally
}

fn judge<S: PartialEq + Debug>(
    image: &[u8],
    before: &S,
    after: &S,
    observe: &impl Fn(&Arena) -> S,
    go_on: &impl Fn(&Arena),
) -> Result<(), String> {
    let arena = small()
        .from_image(image)
        .map_err(|error| error.to_string())?;
    check(&arena)?;
    let found = observe(&arena);
    if found != *before && found != *after {
        return Err(format!(
            "neither before nor after:\n before {before:?}\n after  {after:?}\n found  {found:?}"
        ));
    }
    go_on(&arena);
    check(&arena)
}

fn check(arena: &Arena) -> Result<(), String> {
    let report = arena.check();
    if !report.is_clean() {
        return Err(report.to_string());
    }
    Ok(())
}

#[test]
fn every_instruction() {
    let tallies = cases::all();
    let total = tallies.iter().fold(Tally::default(), |sum, one| Tally {
        boundaries: sum.boundaries + one.boundaries,
        images: sum.images + one.images,
        violations: sum.violations + one.violations,
    });
    println!(
        "operations: {} boundaries: {} images: {} violations: {}",
        tallies.len(),
        total.boundaries,
        total.images,
        total.violations
    );
    assert_eq!(total.violations, 0);
}
