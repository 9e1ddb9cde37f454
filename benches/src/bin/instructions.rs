//! Counts the instructions of sharena's hottest operations, and fails where there are more of them
//! than `instructions.txt` says: times differ from run to run, counts do not.
//!
//! `cargo run --release -p sharena-bench --no-default-features --bin instructions [-- --update]`
//!
//! Callgrind runs this program again for each operation, and counts what happens inside
//! [`counted`].

use sharena::{
    Arena, RelPtr, Share,
    collections::{HashMap, Vec as SharedVec},
    sync::{Mutex, RwLock},
};
use std::{
    alloc::Layout,
    collections::BTreeMap,
    error::Error,
    fmt::Write as _,
    hint::black_box,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// How often each operation is done.
const TIMES: u64 = 20_000;

/// The counts are kept here, and may rise by so much.
const FILE: &str = "instructions.txt";
const TOLERANCE: f64 = 1.03;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// What is counted: does the operation so many times, within [`counted`].
type Operation = fn(&Arena) -> sharena::Result<()>;

const OPERATIONS: [(&str, Operation); 13] = [
    ("alloc and free 64 B", reserved_pair),
    ("alloc, publish and free 64 B", published_pair),
    ("alloc, link, free the old one, commit", linked_pair),
    ("lock and unlock", lock_and_read),
    ("lock, write and unlock", lock_and_write),
    ("lock to read and unlock", read_and_unlock),
    ("lock to read, two at a time", read_two),
    ("lock to write, write and unlock", write_and_unlock),
    ("push to a vector", push),
    ("find in a map", map_get),
    ("find in a map what is not there", map_miss),
    ("remove from and insert into a map", map_replace),
    ("lock, insert into a map, unlock", map_insert_locked),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--update"] => update(),
        ["--count", name] => count_here(name),
        _ => Err("usage: instructions [--update]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts everything, and says what became more.
fn compare() -> Result {
    let path = file();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("could not read {}: {error}", path.display()))?;
    let before = parse(&text)?;
    let mut risen = Vec::new();
    for (name, _) in OPERATIONS {
        let now = count(name)?;
        let Some(&before) = before.get(name) else {
            return Err(format!("{FILE} does not know {name:?}: run with --update").into());
        };
        let ratio = now / before;
        let verdict = match ratio {
            ratio if ratio > TOLERANCE => "MORE",
            ratio if ratio < 1.0 / TOLERANCE => "less: run with --update",
            _ => "",
        };
        println!("{now:8.1}  was {before:8.1}  {name}  {verdict}");
        if ratio > TOLERANCE {
            risen.push(name);
        }
    }
    if risen.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more than 3 % more instructions: {} ({}; {FILE} was made by {})",
        risen.join("; "),
        compiler()?,
        text.lines()
            .nth(1)
            .unwrap_or_default()
            .trim_start_matches("# "),
    )
    .into())
}

/// Counts everything, and keeps the counts.
fn update() -> Result {
    let mut text = format!(
        "# Instructions for each operation, as callgrind counts them: see src/bin/instructions.rs.\n\
         # {}\n",
        compiler()?
    );
    for (name, _) in OPERATIONS {
        writeln!(text, "{:8.1}  {name}", count(name)?)?;
    }
    print!("{text}");
    Ok(std::fs::write(file(), text)?)
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)
}

fn parse(text: &str) -> Result<BTreeMap<&str, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &'_ str| {
        let (count, name) = line.trim().split_once("  ")?;
        Some((line.len() - name.len(), count.parse().ok()?))
    };
    let mut counts = BTreeMap::new();
    for line in lines {
        let (at, count) = parse(line).ok_or_else(|| format!("{FILE}: not a count: {line}"))?;
        counts.insert(&line[at..], count);
    }
    Ok(counts)
}

/// Counts differ between compilers too.
fn compiler() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Instructions of one operation: by this program in callgrind.
fn count(name: &str) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=counted"])
        .arg(std::env::current_exe()?)
        .args(["--count", name])
        .output()
        .map_err(|error| format!("could not start valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| {
        let (_, count) = line.split_once("Collected :")?;
        count.trim().parse::<u64>().ok()
    });
    match collected {
        Some(collected) if output.status.success() => Ok(collected as f64 / TIMES as f64),
        _ => Err(format!("callgrind did not count {name:?}:\n{said}").into()),
    }
}

/// What callgrind runs.
fn count_here(name: &str) -> Result {
    let known = OPERATIONS.iter().find(|(known, _)| *known == name);
    let (_, operation) = known.ok_or_else(|| format!("no operation {name:?}"))?;
    let file = format!("instructions-{}", std::process::id());
    // Callgrind has few addresses to give.
    let arena = Arena::options().max_size(64 << 20).named(&file)?;
    Arena::unlink_named(&file)?;
    Ok(operation(&arena)?)
}

/// Callgrind looks for this name.
#[unsafe(no_mangle)]
#[inline(never)]
fn counted(work: &mut dyn FnMut() -> sharena::Result<()>) -> sharena::Result<()> {
    work()
}

/// Does an operation once to make everything ready, and then while it is counted.
fn repeat(mut operation: impl FnMut(u64) -> sharena::Result<()>) -> sharena::Result<()> {
    (0..TIMES).try_for_each(&mut operation)?;
    counted(&mut || (0..TIMES).try_for_each(&mut operation))
}

const BLOCK: Layout = Layout::new::<[u64; 8]>();

fn reserved_pair(arena: &Arena) -> sharena::Result<()> {
    repeat(|_| arena.alloc(BLOCK).map(|block| drop(black_box(block))))
}

fn published_pair(arena: &Arena) -> sharena::Result<()> {
    repeat(|_| {
        let block = arena.alloc(BLOCK)?.into_raw()?;
        // SAFETY: just allocated, and used by nobody.
        unsafe { arena.dealloc(block) }
    })
}

#[derive(Share, Default)]
#[repr(C)]
struct Places {
    places: [Option<RelPtr<u64>>; 8],
}

fn linked_pair(arena: &Arena) -> sharena::Result<()> {
    let places = arena.root::<Mutex<Places>>("places")?;
    let mut places = places.lock()?;
    repeat(|number| {
        let block = arena.alloc_value(number)?;
        let place = &mut places.places[number as usize % 8];
        let old = place.take();
        block.link(place)?;
        if let Some(old) = old {
            // SAFETY: it was linked here only, and is no longer.
            unsafe { arena.dealloc(old) }?;
        }
        places.commit()
    })
}

fn lock_and_read(arena: &Arena) -> sharena::Result<()> {
    let number = arena.root::<Mutex<u64>>("number")?;
    repeat(|_| {
        black_box(*number.lock()?);
        Ok(())
    })
}

fn lock_and_write(arena: &Arena) -> sharena::Result<()> {
    let number = arena.root::<Mutex<u64>>("number")?;
    repeat(|_| {
        *number.lock()? += 1;
        Ok(())
    })
}

fn read_and_unlock(arena: &Arena) -> sharena::Result<()> {
    let number = arena.root::<RwLock<u64>>("read")?;
    repeat(|_| {
        black_box(*number.read()?);
        Ok(())
    })
}

fn read_two(arena: &Arena) -> sharena::Result<()> {
    let one = arena.root::<RwLock<u64>>("read")?;
    let two = arena.root::<RwLock<u64>>("another")?;
    repeat(|_| {
        let (one, two) = (one.read()?, two.read()?);
        black_box(*one + *two);
        Ok(())
    })
}

fn write_and_unlock(arena: &Arena) -> sharena::Result<()> {
    let number = arena.root::<RwLock<u64>>("read")?;
    repeat(|_| {
        *number.write()? += 1;
        Ok(())
    })
}

fn push(arena: &Arena) -> sharena::Result<()> {
    let vec = arena.root::<Mutex<SharedVec<u64>>>("vec")?;
    let mut vec = vec.lock()?;
    vec.reserve(2 * TIMES as usize)?;
    repeat(|number| vec.push(number))
}

type Map = Mutex<HashMap<u64, u64>>;

/// Keys that are spread.
fn key(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn filled_map(arena: &Arena) -> sharena::Result<sharena::Root<Map>> {
    let map = arena.root::<Map>("map")?;
    let mut entries = map.lock()?;
    for number in 0..TIMES {
        entries.insert(key(number), number)?;
    }
    drop(entries);
    Ok(map)
}

fn map_get(arena: &Arena) -> sharena::Result<()> {
    let map = filled_map(arena)?;
    let map = map.lock()?;
    repeat(|number| {
        black_box(map.get(&key(number)));
        Ok(())
    })
}

fn map_miss(arena: &Arena) -> sharena::Result<()> {
    let map = filled_map(arena)?;
    let map = map.lock()?;
    repeat(|number| {
        black_box(map.get(&key(number + TIMES)));
        Ok(())
    })
}

fn map_replace(arena: &Arena) -> sharena::Result<()> {
    let map = filled_map(arena)?;
    let mut map = map.lock()?;
    repeat(|number| {
        map.remove(&key(number));
        map.insert(key(number), number).map(drop)
    })
}

fn map_insert_locked(arena: &Arena) -> sharena::Result<()> {
    let map = filled_map(arena)?;
    repeat(|number| map.lock()?.insert(key(number), number).map(drop))
}
