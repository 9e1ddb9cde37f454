//! Four processes count the words of real text into one map, which lies in memory that they share.
//!
//! ```sh
//! cargo run --release --example wordcount [FILES...]
//! ```
//!
//! Without arguments it counts the sources and documents of this project.
//!
//! The process that you start (the *coordinator*) creates an arena and starts four *workers*. They
//! are separate processes, know only the arena's name, and map it at four different addresses.
//! Together they fill one `Mutex<HashMap<String, u64>>`. The arena begins small and grows while all
//! of them use it. When they have gone, a fifth one, the *reader*, which never saw a word, opens the
//! arena, prints the most frequent words, and compares every count with what it counts itself,
//! alone, from the files, into a `HashMap` of `std`.
//!
//! A **word** is a run of letters and digits, as long as possible, in lower case: of characters for
//! which [`char::is_alphanumeric`] holds (Unicode's), put through [`str::to_lowercase`]. Bytes that
//! are not UTF-8 separate words, like everything else.

mod processes;

use memmap2::{MmapMut, MmapOptions};
use processes::{Name, Process, Result, argument};
use sharena::{
    Arena, Root, Share,
    collections::{HashMap, String, Vec},
    sync::Mutex,
};
use std::{
    collections::{BTreeSet, HashMap as StdHashMap},
    env,
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
    process::ExitCode,
    string::String as StdString,
    vec::Vec as StdVec,
};

const WORKERS: u64 = 4;

/// The workers share the text out in parts of about so many bytes: what one of them adds to the map
/// under one guard.
const BATCH: u64 = 64 << 10;

/// All that is counted: the root `counts`.
type Counts = Mutex<HashMap<String, u64>>;

/// Who was here: the root `visitors`.
type Visitors = Mutex<Vec<Visitor>>;

/// A type of our own in shared memory: any layout that is fixed will do.
#[derive(Share, Clone, Copy)]
#[repr(C)]
struct Visitor {
    process: u32,
    /// A number, not a pointer: an address means something in its own process only.
    base: u64,
}

fn main() -> ExitCode {
    processes::run(|part| match part {
        None => coordinate(),
        Some("worker") => work(),
        Some("reader") => read(),
        Some(other) => processes::unknown_part(other),
    })
}

fn coordinate() -> Result {
    let files = files_to_count()?;
    let name = Name::new("wordcount");
    // `initial_size` is what is allocated now; more comes when it is needed, up to `max_size`.
    let arena = Arena::options()
        .initial_size(64 << 10)
        .named(name.as_str())?;
    // Roots are found by name. These do not exist yet, so they are created: an empty map and list.
    let counts = arena.root::<Counts>("counts")?;
    let visitors = sign_in(&arena, "coordinator")?;
    let before = arena.stats().committed;

    let mut workers = StdVec::new();
    for number in 0..WORKERS {
        workers.push(start("worker", &name, number, &files)?);
    }
    for worker in workers {
        worker.finish()?;
    }
    let after = arena.stats().committed;
    println!("the arena had {before} bytes of memory before, and has {after} now");
    start("reader", &name, WORKERS, &files)?.finish()?;

    // The map is right: the reader compared it.
    let counts = counts.lock()?;
    let (total, distinct) = (counts.values().sum::<u64>(), counts.len());
    drop(counts);
    let visitors = visitors.lock()?;
    let bases: BTreeSet<u64> = visitors.iter().map(|visitor| visitor.base).collect();
    let (processes, bases) = (visitors.len(), bases.len());
    if bases != processes {
        return Err(format!("{processes} processes share {bases} bases: expected as many").into());
    }
    println!("ok: {total} words, {distinct} distinct, {processes} processes, {bases} bases");
    Ok(())
}

/// Starts a process: its arguments are the arena's name, a number, and the files.
fn start(part: &str, name: &Name, number: u64, files: &[OsString]) -> Result<Process> {
    let mut arguments = vec![name.as_str().into(), number.to_string().into()];
    arguments.extend_from_slice(files);
    Process::start(part, &arguments)
}

/// What a worker and the reader do first: open the arena that the coordinator made.
fn open() -> Result<(Arena, Option<MmapMut>)> {
    let number: usize = argument(2)?.parse()?;
    // The kernel chooses a random address for each mapping, so the bases of several processes nearly
    // always differ. Where it was told not to (`setarch -R`), they would all be the same, and prove
    // little: so each process first takes a range of addresses, of a size of its own, if it can. This
    // is not needed to use an arena.
    let in_the_way = MmapOptions::new()
        .len((number + 1) * (64 << 20))
        .no_reserve_swap()
        .map_anon()
        .ok();
    Ok((Arena::named(&argument(1)?)?, in_the_way))
}

/// Says where this process sees the arena, and writes it into the list of visitors.
fn sign_in(arena: &Arena, part: &str) -> Result<Root<Visitors>> {
    let process = std::process::id();
    let base = arena.base();
    println!("the {part}, process {process}, has the arena at {base:p}");
    let visitors = arena.root::<Visitors>("visitors")?;
    visitors.lock()?.push(Visitor {
        process,
        base: base.addr() as u64,
    })?;
    Ok(visitors)
}

fn work() -> Result {
    let (arena, _in_the_way) = open()?;
    sign_in(&arena, "worker")?;
    let number: u64 = argument(2)?.parse()?;
    let counts = arena.root::<Counts>("counts")?;
    let mut batches = 0;
    for path in env::args_os().skip(3) {
        let error = |error| format!("could not read `{}`: {error}", path.display());
        let mut file = File::open(&path).map_err(error)?;
        let length = file.metadata().map_err(error)?.len();
        for batch in 0..length.div_ceil(BATCH) {
            // Each batch is one worker's: they go round, over all files.
            if batches % WORKERS == number {
                let text = read_batch(&mut file, batch).map_err(error)?;
                add(&counts, &text)?;
            }
            batches += 1;
        }
    }
    Ok(())
}

/// The words that begin in a batch, except one that is already under way at its begin: that is part
/// of the batch before, which reads on to its end. So no word is cut in two, and each is in one batch.
fn read_batch(file: &mut File, batch: u64) -> io::Result<StdVec<u8>> {
    let (begin, end) = (batch * BATCH, (batch + 1) * BATCH);
    let mut at = begin.saturating_sub(1);
    file.seek(SeekFrom::Start(at))?;
    let mut file = BufReader::new(file);
    if batch > 0 {
        let mut of_another = StdVec::new();
        read_to_separator(&mut file.by_ref().take(BATCH + 1), &mut of_another)?;
        at += of_another.len() as u64;
    }
    let mut text = StdVec::new();
    if at < end {
        file.by_ref().take(end - 1 - at).read_to_end(&mut text)?;
        read_to_separator(&mut file, &mut text)?;
    }
    Ok(text)
}

/// Reads up to the next byte that is in no word, and that one too. ASCII characters are enough to
/// look for: in UTF-8, no other character contains their bytes.
fn read_to_separator(file: &mut impl BufRead, text: &mut StdVec<u8>) -> io::Result<()> {
    loop {
        let buffer = file.fill_buf()?;
        let separates = |byte: &u8| byte.is_ascii() && !byte.is_ascii_alphanumeric();
        let separator = buffer.iter().position(separates);
        let length = separator.map_or(buffer.len(), |at| at + 1);
        text.extend_from_slice(&buffer[..length]);
        file.consume(length);
        if separator.is_some() || length == 0 {
            return Ok(());
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = StdString> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// Adds the words of a batch to the map that all share.
fn add(counts: &Counts, text: &[u8]) -> Result {
    let text = StdString::from_utf8_lossy(text);
    // Outside the lock, so that the others can go on meanwhile.
    let words: StdVec<StdString> = words(&text).collect();

    // From here to the end of the guard is a critical section: killed in between, this process would
    // leave nothing of the batch behind.
    let mut counts = counts.lock()?;
    for word in &words {
        // As in `std`, but for the `?`: the arena may be full. The word's bytes are copied into the
        // arena only if it is new.
        *counts.entry(word).or_default()? += 1;
    }
    Ok(())
}

fn read() -> Result {
    let (arena, _in_the_way) = open()?;
    sign_in(&arena, "reader")?;
    // Unlike `root`, `find` never creates anything.
    let counts = arena.find::<Counts>("counts")?;
    let counts = counts.lock()?;

    let mut frequent: StdVec<(&str, u64)> = counts
        .iter()
        .map(|(word, &count)| (word.as_str(), count))
        .collect();
    frequent.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    for (word, count) in frequent.iter().take(20) {
        println!("{count:>9} {word}");
    }

    let expected = count_alone()?;
    for (word, count) in &expected {
        let found = counts.get(word.as_str()).copied().unwrap_or(0);
        if found != *count {
            return Err(format!("{word:?} was counted {found} times, expected {count}").into());
        }
    }
    // All that was expected is there; so if there are no more, there is nothing else.
    if counts.len() != expected.len() {
        let (found, expected) = (counts.len(), expected.len());
        return Err(format!("{found} distinct words were counted, expected {expected}").into());
    }
    Ok(())
}

/// Counts the words of all files in this process alone, each file as a whole, without sharena.
fn count_alone() -> Result<StdHashMap<StdString, u64>> {
    let mut counts = StdHashMap::new();
    for path in env::args_os().skip(3) {
        let text = std::fs::read(&path)
            .map_err(|error| format!("could not read `{}`: {error}", path.display()))?;
        for word in words(&StdString::from_utf8_lossy(&text)) {
            *counts.entry(word).or_default() += 1;
        }
    }
    Ok(counts)
}

/// The files of the command line; without any, this project's own.
fn files_to_count() -> Result<StdVec<OsString>> {
    let mut files: StdVec<OsString> = env::args_os().skip(1).collect();
    if files.is_empty() {
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR"));
        let project = if built_in.is_dir() {
            built_in
        } else {
            Path::new(".")
        };
        find_texts(project, &mut files)?;
        println!("counting {} files of `{}`", files.len(), project.display());
    }
    for path in &files {
        let error = |error| format!("could not read `{}`: {error}", path.display());
        let file = File::open(path).map_err(error)?;
        if !file.metadata().map_err(error)?.is_file() {
            let path = path.display();
            return Err(
                format!("`{path}` is not a file: expected one that can be read twice").into(),
            );
        }
    }
    Ok(files)
}

/// Finds `*.rs` and `*.md` in a folder and those below, without what was built and what is hidden.
fn find_texts(folder: &Path, files: &mut StdVec<OsString>) -> Result {
    let error = |error| format!("could not read the folder `{}`: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (name, path) = (entry.file_name(), entry.path());
        let kind = entry.file_type().map_err(error)?;
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if kind.is_dir() && !hidden && name != "target" {
            find_texts(&path, files)?;
        }
        let is_text = path
            .extension()
            .is_some_and(|kind| kind == "rs" || kind == "md");
        if kind.is_file() && is_text {
            files.push(path.into_os_string());
        }
    }
    Ok(())
}
