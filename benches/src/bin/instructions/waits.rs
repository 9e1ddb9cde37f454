//! Loads that wait for a store, as far as addresses tell.
//!
//! What a store leaves waits in the processor's store buffer for its turn in the cache. A load of just
//! that gets it from there. It has to wait until the store has gone
//!
//! - where the store wrote a *part* of what it loads: then some is in the buffer, some in the cache;
//! - on x86, where the store wrote to the *same place* of another page: the lower twelve bits of addresses
//!   are compared first.
//!
//! Behind a locked instruction such a wait is as long as that takes with all stores before it: some
//! sixty cycles in which nothing else is done.
//!
//! Left out, as to places, is what lies at chance: the program, the heap, the stack, thread-locals.

use crate::Result;
use std::{
    collections::VecDeque,
    hint::black_box,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

/// So many loads of one operation wait.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Waits {
    pub(crate) for_part: f64,
    pub(crate) for_place: f64,
}

/// About as many stores are in the buffer at a time.
const BUFFER: usize = 40;
/// A place is marked in the list of loads and stores by so many stores of two bytes.
const MARK: usize = 16;
/// How far the areas reach that lie at chance, in the order in which they are marked: the program, the heap,
/// the stack, what belongs to the thread.
const AREAS: [u64; 4] = [4 << 20, 4 << 20, 4 << 20, 8 << 10];

/// Marks the begin, or the end, of what is to be looked at: by stores to these areas.
pub(crate) fn mark() {
    static PROGRAM: AtomicU16 = AtomicU16::new(0);
    thread_local! {
        static THREAD: AtomicU16 = const { AtomicU16::new(0) };
    }
    mark_at(&PROGRAM);
    mark_at(black_box(&Box::new(AtomicU16::new(0))));
    mark_at(black_box(&AtomicU16::new(0)));
    THREAD.with(mark_at);
}

#[inline(never)]
fn mark_at(place: &AtomicU16) {
    (0..MARK).for_each(|number| place.store(number as u16, Relaxed));
}

/// Looks at an operation: by this program in lackey.
pub(crate) fn look(name: &str, times: u64) -> Result<Waits> {
    let mut valgrind = Command::new("valgrind")
        .args(["--tool=lackey", "--trace-mem=yes"])
        .arg(std::env::current_exe()?)
        .args(["--trace", name])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("could not start valgrind: {error}"))?;
    let lines = valgrind.stderr.take().expect("it is piped");
    let mut trace = Trace::default();
    for line in BufReader::new(lines).split(b'\n') {
        trace.take(&line?);
    }
    if !valgrind.wait()?.success() || trace.marks != 2 * AREAS.len() {
        return Err(format!("lackey did not trace {name:?}").into());
    }
    let each = |count: u64| count as f64 / times as f64;
    Ok(Waits {
        for_part: each(trace.for_part),
        for_place: each(trace.for_place),
    })
}

/// What was stored, and by which instruction.
#[derive(Clone, Copy)]
struct Store {
    at: u64,
    size: u64,
    by: u64,
}

#[derive(Default)]
struct Trace {
    /// The instruction that is carried out.
    instruction: u64,
    /// Where two bytes were stored last, and how often in a row.
    stored: (u64, usize),
    /// Marks that were seen: some of the begin, as many of the end.
    marks: usize,
    /// Where they were.
    areas: Vec<u64>,
    stores: VecDeque<Store>,
    for_part: u64,
    for_place: u64,
}

/// What a load waits for.
enum Wait {
    Part,
    Place,
}

impl Trace {
    /// A line is a kind, an address and a size: `I  04000a3c,2`, ` L 1ffefffe58,8`.
    fn take(&mut self, line: &[u8]) {
        let Some((kind, at, size)) = parse(line) else {
            return;
        };
        if kind == b'I' {
            self.instruction = at;
            return;
        }
        self.look_for_mark(kind, at, size);
        if self.marks != AREAS.len() {
            return;
        }
        if kind != b'S' {
            match self.wait_of_load(at, size) {
                Some(Wait::Part) => self.for_part += 1,
                Some(Wait::Place) => self.for_place += 1,
                None => {}
            }
        }
        if kind != b'L' {
            self.stores.truncate(BUFFER - 1);
            let by = self.instruction;
            self.stores.push_front(Store { at, size, by });
        }
    }

    fn look_for_mark(&mut self, kind: u8, at: u64, size: u64) {
        let again = self.stored.0 == at;
        self.stored = match (kind, size) {
            (b'S', 2) if again => (at, self.stored.1 + 1),
            (b'S', 2) => (at, 1),
            _ => (0, 0),
        };
        if self.stored.1 == MARK {
            self.marks += 1;
            self.areas.push(at);
            self.stores.clear();
        }
    }

    fn wait_of_load(&self, at: u64, size: u64) -> Option<Wait> {
        let meets = |store: &&Store| store.at < at + size && at < store.at + store.size;
        if let Some(store) = self.stores.iter().find(meets) {
            let covers = store.at <= at && at + size <= store.at + store.size;
            // One instruction may be one that valgrind takes apart.
            return (!covers && store.by != self.instruction).then_some(Wait::Part);
        }
        let same = |store: &Store| {
            let ahead = |from: u64, to: u64| to.wrapping_sub(from) & 0xfff;
            let meets = ahead(store.at, at) < store.size || ahead(at, store.at) < size;
            meets && !self.lies_at_chance(store.at)
        };
        let waits = !self.lies_at_chance(at) && self.stores.iter().any(same);
        waits.then_some(Wait::Place)
    }

    fn lies_at_chance(&self, at: u64) -> bool {
        let mut areas = self.areas.iter().zip(AREAS);
        areas.any(|(area, reach)| area.abs_diff(at) < reach)
    }
}

fn parse(line: &[u8]) -> Option<(u8, u64, u64)> {
    let line = str::from_utf8(line).ok()?.trim();
    let (kind, rest) = line.split_at_checked(1)?;
    let (at, size) = rest.trim().split_once(',')?;
    let kind = kind.bytes().next().filter(|kind| b"ILSM".contains(kind))?;
    let at = u64::from_str_radix(at, 16).ok()?;
    Some((kind, at, size.parse().ok()?))
}
