//! Nothing of the dead accumulates: processes that were killed in whatever they did leave no slot,
//! no block, no slab, no log segment and no permit behind, however many they are.

mod common;

use common::{Forked, PATIENCE, Random};
use sharena::{
    Arena, Error, Result, Stats,
    collections::{HashMap, String as Text, Vec as Shared},
    sync::{Mutex, Semaphore},
};
use std::{
    sync::atomic::{AtomicU64, Ordering::*},
    time::{Duration, Instant},
};

const ROUNDS: usize = 20;
const KILLS_OF_A_ROUND: usize = 500;
/// Children that are alive at the same time.
const CROWD: usize = 10;
const PERMITS: u32 = 3;
/// Slabs of blocks that there are in the end: as many as some crowds need, for 1000 crowds.
const MOST_SLABS: u64 = 200;

type Texts = Mutex<Shared<Text>>;
type Counts = Mutex<HashMap<u64, Shared<u64>>>;

/// Does random things until it is killed.
fn work(arena: &Arena, random: &mut Random) -> Result {
    let done = arena.root::<AtomicU64>("done")?;
    let mut kept = Vec::new();
    loop {
        match random.below(8) {
            0 | 1 => write(arena, random)?,
            2 | 3 => count(arena, random)?,
            4 => write_at_length(arena)?,
            5 => hold_permits(arena, random)?,
            6 => name_and_unname(arena, random)?,
            _ => {
                let size = random.below(30_000) as usize + 1;
                let layout = std::alloc::Layout::from_size_align(size, 8).map_err(Error::other)?;
                kept.push(arena.alloc(layout)?);
                kept.truncate(20);
            }
        }
        done.fetch_add(1, Relaxed);
    }
}

fn write(arena: &Arena, random: &mut Random) -> Result {
    let texts = arena.root::<Texts>("texts")?;
    let mut texts = texts.lock()?;
    if texts.len() > 100 {
        texts.truncate(random.below(100) as usize);
    }
    let text = "text ".repeat(random.below(60) as usize);
    texts.push_from(text.as_str())
}

fn count(arena: &Arena, random: &mut Random) -> Result {
    let (counts, texts) = (
        arena.root::<Counts>("counts")?,
        arena.root::<Texts>("texts")?,
    );
    arena.section(|| {
        let mut counts = counts.lock()?;
        counts
            .entry(random.below(200))
            .or_default()?
            .push(random.below(9))?;
        counts.remove(&random.below(200));
        texts.lock()?.pop();
        Ok(())
    })
}

/// A section whose log outgrows its slot: many texts are changed where they lie.
fn write_at_length(arena: &Arena) -> Result {
    let texts = arena.root::<Texts>("texts")?;
    let mut texts = texts.lock()?;
    for text in texts.iter_mut() {
        text.push_str("!")?;
    }
    for text in texts.iter_mut() {
        text.clear();
    }
    Ok(())
}

fn hold_permits(arena: &Arena, random: &mut Random) -> Result {
    let permits = arena.find::<Semaphore>("permits")?;
    let _first = permits.acquire()?;
    if random.below(2) == 0 {
        let _second = permits.try_acquire();
        std::thread::sleep(Duration::from_micros(random.below(200)));
    }
    Ok(())
}

fn name_and_unname(arena: &Arena, random: &mut Random) -> Result {
    let name = format!("root {}", random.below(4));
    let root = arena.root::<Texts>(&name)?;
    root.lock()?.push_from("something")?;
    match arena.remove(&name) {
        Ok(()) | Err(Error::UnknownRoot { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the arena's objects, or empties them. In a process of its own, which leaves its slot.
fn tidy(arena: &Arena) -> Result {
    *arena.root::<Texts>("texts")?.lock()? = Shared::new();
    *arena.root::<Counts>("counts")?.lock()? = HashMap::new();
    arena.root::<AtomicU64>("done")?;
    let permits = arena.root_with::<Semaphore>("permits", |permits| {
        *permits = Semaphore::new(PERMITS);
        Ok(())
    })?;
    assert_eq!(permits.available(), PERMITS, "permits of the dead are gone");
    for number in 0..4 {
        match arena.remove(&format!("root {number}")) {
            Ok(()) | Err(Error::UnknownRoot { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Recovers the dead, and tidies up.
fn clear_away(arena: &Arena) -> Result {
    let began = Instant::now();
    loop {
        arena.reap()?;
        // This thread may have a slot, for the roots that the dead had removed.
        if arena.stats().slots_attached <= 1 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "slots are not recovered");
    }
    tidy(arena)?;
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
    Ok(())
}

/// Runs `f` in a child whose thread ends in an orderly way, which gives its slot back.
fn elsewhere(f: impl FnOnce() -> Result + Send) {
    let child = Forked::run(|| {
        let done = std::thread::scope(|scope| scope.spawn(f).join());
        match done {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => {
                eprintln!("{error}");
                1
            }
            Err(_) => 2,
        }
    });
    child.succeed();
}

/// Children are killed, each after a random time.
fn kill_many(arena: &Arena, random: &mut Random) {
    let mut killed = 0;
    while killed < KILLS_OF_A_ROUND {
        let start = |_| {
            let seed = random.below(u64::MAX);
            Forked::run(|| match work(arena, &mut Random(seed)) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("a child failed: {error}");
                    1
                }
            })
        };
        let crowd: Vec<Forked> = (0..CROWD).map(start).collect();
        for mut child in crowd {
            std::thread::sleep(Duration::from_micros(random.below(600)));
            assert!(!child.ended(), "a child ended by itself");
            child.kill();
            killed += 1;
        }
    }
}

/// What must be as it was: slots, blocks, what is claimed (slabs, log segments), roots.
fn what_stays(stats: &Stats) -> [u64; 4] {
    [
        u64::from(stats.slots_attached),
        stats.used,
        stats.cached,
        stats.roots,
    ]
}

/// Slabs that blocks were given out of. How many stay so depends on who adopted which.
fn slabs_of_blocks(stats: &Stats) -> u64 {
    stats.classes.iter().map(|class| class.slabs).sum()
}

#[test]
fn nothing_of_the_dead_accumulates() {
    let arena = Arena::options()
        .max_size(64 << 20)
        .slots(32)
        .anonymous()
        .unwrap();
    elsewhere(|| tidy(&arena));
    let began = Instant::now();
    let mut random = Random(42);
    let mut first = None;
    for round in 0..ROUNDS {
        kill_many(&arena, &mut random);
        elsewhere(|| clear_away(&arena));
        let stats = arena.stats();
        let first = first.get_or_insert(stats.clone());
        assert_eq!(what_stays(&stats), what_stays(first), "round {round}");
        assert!(slabs_of_blocks(&stats) <= MOST_SLABS, "{stats:?}");
    }
    println!(
        "{} kills in {:.1?}",
        ROUNDS * KILLS_OF_A_ROUND,
        began.elapsed()
    );
}
