//! Nonsense is written over an arena's own structures while workers use it: slots, journals, lock
//! words, the heap's tables. Workers may get errors; nothing may crash, and nothing may hang.
//!
//! The workers keep plain numbers only: a container trusts its header, and a heap that gives a
//! block out twice lets others write there. They have no transactions: one that is to be undone ends
//! its process, on purpose, where its journal names a block that nobody owns. What is *not* written to: the header's fixed part and
//! its committed size, which say what memory there is; and a process's claim and its life word are
//! not both overwritten, since then nobody can tell that it died.

use crate::{
    Random,
    crowd::Process,
    format::field,
    front::{Front, LIFE_FROM_PAGE_END},
    scribbled::{self, Beats},
};
use sharena::{Arena, Result};
use std::{
    fmt,
    ops::Range,
    process::ExitCode,
    sync::atomic::Ordering::*,
    time::{Duration, Instant},
};

/// How long one arena is scribbled over.
const ROUND: Duration = Duration::from_millis(1200);
/// Far above the longest time that any operation waits for.
const HANG: Duration = Duration::from_secs(120);

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    rounds: u64,
    kills: u64,
    gave_up: u64,
    operations: u64,
    errors: u64,
    words: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} arenas scribbled over by {} words, {} kills, {} operations and {} errors, \
             {} workers gave up, none crashed or hung",
            self.rounds, self.words, self.kills, self.operations, self.errors, self.gave_up
        )
    }
}

/// Scribbles over one arena after the other, until enough workers were killed.
pub(crate) fn storm(kills: u64, workers: usize, random: &mut Random) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let began = Instant::now();
    while outcome.kills < kills {
        let name = format!("storm-scribbled-{}", std::process::id());
        // What failed is kept, to be looked at.
        round(&name, workers, random, &mut outcome)
            .map_err(|error| format!("{error}; the arena is {name}"))?;
        let _ = Arena::unlink_named(&name);
        outcome.rounds += 1;
        if outcome.rounds.is_multiple_of(10) {
            println!("{:.0?}: {outcome}", began.elapsed());
        }
    }
    Ok(outcome)
}

fn round(name: &str, workers: usize, random: &mut Random, outcome: &mut Outcome) -> Result {
    let locks = scribbled::create(name)?;
    let beats = Beats::create()?;
    let seed = random.below(u64::MAX);
    let text = |value: &dyn fmt::Display| value.to_string();
    let (fd, seed_text) = (text(&beats.fd()), text(&seed));
    let start = |mode: &str, rest: &[String]| {
        let fixed = [mode.to_owned(), name.to_owned(), fd.clone()];
        Process::start(&[&fixed, rest].concat(), false)
    };
    let mut scribbler = start("--scribbler", &[seed_text, locks])?;
    let mut crowd: Vec<Option<Process>> = (0..workers).map(|_| None).collect();
    let began = Instant::now();
    let mut watch = Watch::new(workers);
    while began.elapsed() < ROUND {
        for (number, place) in crowd.iter_mut().enumerate() {
            if let Some(worker) = place {
                watch.look(number, worker, &beats, seed)?;
                match worker.ended() {
                    None => continue,
                    Some(status) => gave_up(status, seed)?,
                }
                outcome.gave_up += 1;
            }
            let rest = [text(&number), text(&random.below(u64::MAX))];
            *place = Some(start("--scribbled", &rest)?);
            watch.started(number);
        }
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        if random.below(2) == 0 {
            crowd[random.below(workers as u64) as usize] = None;
            outcome.kills += 1;
        }
    }
    if let Some(status) = scribbler.ended() {
        let what = format!("the scribbler ended with status {status:#x} (seed {seed})");
        return Err(what.into());
    }
    scribbler.kill();
    crowd.clear();
    outcome.operations += beats.operations();
    outcome.errors += beats.errors();
    outcome.words += beats.words().load(Relaxed);
    inspect(start("--inspector", &[])?, seed)
}

/// A worker ends by itself when it gets nothing but errors.
fn gave_up(status: i32, seed: u64) -> Result {
    if status == (scribbled::GAVE_UP << 8) {
        return Ok(());
    }
    Err(format!("a worker ended with status {status:#x} (seed {seed})").into())
}

/// Waits for a process that looks through what is left.
fn inspect(mut inspector: Process, seed: u64) -> Result {
    let began = Instant::now();
    loop {
        match inspector.ended() {
            Some(0) => return Ok(()),
            Some(status) => {
                let what = format!("the inspector ended with status {status:#x} (seed {seed})");
                return Err(what.into());
            }
            None if began.elapsed() > HANG => {
                let where_ = inspector.whereabouts();
                return Err(format!("the inspector hangs (seed {seed}): {where_}").into());
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Since when each worker has not done anything.
struct Watch {
    last: Vec<(u64, Instant)>,
}

impl Watch {
    fn new(workers: usize) -> Self {
        Watch {
            last: vec![(0, Instant::now()); workers],
        }
    }

    fn started(&mut self, number: usize) {
        self.last[number].1 = Instant::now();
    }

    fn look(&mut self, number: usize, worker: &Process, beats: &Beats, seed: u64) -> Result {
        let now = beats.of(number).load(Relaxed);
        if now != self.last[number].0 {
            self.last[number] = (now, Instant::now());
        }
        if self.last[number].1.elapsed() > HANG {
            let what = format!(
                "worker {number} hangs (seed {seed}): {}",
                worker.whereabouts()
            );
            return Err(what.into());
        }
        Ok(())
    }
}

/// The process that scribbles, with the arguments mode, arena, counters, seed, offsets of locks.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    match scribble(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the scribbler: {error}");
            ExitCode::FAILURE
        }
    }
}

fn scribble(arguments: &[String]) -> Result {
    let [_, name, fd, seed, locks] = arguments else {
        return Err("wrong arguments".into());
    };
    let number = |text: &str| text.parse().map_err(sharena::Error::other);
    let beats = Beats::inherit(fd)?;
    let path = Arena::open_named(name)?
        .path()
        .map(std::path::Path::to_owned);
    let front = Front::map(&path.ok_or("a named arena has a path")?)?;
    let locks = locks.split(',').map(number).collect::<Result<Vec<u64>>>()?;
    let mut random = Random::new(number(seed)?);
    let mut scribbler = Scribbler {
        overwrites_lives: random.below(2) == 0,
        pause: 1 << random.below(11),
        front,
        locks,
        random,
    };
    loop {
        scribbler.write_one();
        beats.words().fetch_add(1, Relaxed);
        std::thread::sleep(Duration::from_micros(scribbler.pause));
    }
}

struct Scribbler {
    front: Front,
    locks: Vec<u64>,
    /// Lives, or else claims.
    overwrites_lives: bool,
    pause: u64,
    random: Random,
}

impl Scribbler {
    fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn write_one(&mut self) {
        match self.below(20) {
            0..8 => self.write_slot(),
            8..10 => self.write_doubt_or_process(),
            10..13 => self.write_state(),
            13..16 => self.write_bits(),
            16..18 => self.write_lock(),
            _ => self.write_hint(),
        }
    }

    fn store(&mut self, at: u64, value: u64) {
        self.front.word(at).store(value, SeqCst);
    }

    /// Any value, or one that looks like something.
    fn value(&mut self, old: u64) -> u64 {
        let any = self.below(u64::MAX);
        match self.below(10) {
            0..3 => any,
            3 => 0,
            4 => u64::MAX,
            5 => any >> 48,
            6 => any >> 32,
            _ => old ^ 1 << (any % 64),
        }
    }

    fn write_slot(&mut self) {
        let slots = self.front.slots_high().min(self.front.slots);
        let slot = self.below(slots);
        let page = self.front.slot_at(slot);
        let words = field("Slot.claim").start..field("Slot.burying").end;
        let within = match self.below(12) {
            0..4 => self.word_in(words),
            4 => self.word_in(field("Slot.immediate")),
            5 => self.word_in(field("Slot.permits")),
            6 => self.word_in(field("Slot.segments")),
            7..9 => {
                let within = field("Slot.inline").start + self.below(60) * 8;
                return self.write_entry(page + within);
            }
            9 => self.word_in(field("Slot.inline")),
            _ => self.front.page - LIFE_FROM_PAGE_END,
        };
        let is_claim = within == field("Slot.claim").start;
        let is_life = within == self.front.page - LIFE_FROM_PAGE_END;
        if is_claim && self.overwrites_lives || is_life && !self.overwrites_lives {
            return;
        }
        let old = self.front.word(page + within).load(SeqCst);
        let value = self.value(old);
        self.store(page + within, value);
    }

    /// The place of any word of a field.
    fn word_in(&mut self, field: Range<u64>) -> u64 {
        field.start + self.below((field.end - field.start) / 8) * 8
    }

    /// What looks like an entry of a journal.
    fn write_entry(&mut self, at: u64) {
        let (kind, len) = (self.below(8), self.below(600));
        let offset = self.below(self.front.maximum * 5 / 4) & !7;
        self.store(at, kind << 61 | len << 48 | offset);
    }

    fn write_doubt_or_process(&mut self) {
        let slot = self.below(self.front.slots);
        let at = match self.below(3) {
            0 => self.front.doubts_at + slot * field("Doubt").end + self.below(2) * 8,
            1 => return self.write_cell(slot),
            _ => {
                let entry = slot * field("ProcessEntry").end + self.below(2) * 8;
                self.front.processes_at + entry
            }
        };
        let value = self.value(self.front.word(at).load(SeqCst));
        self.store(at, value);
    }

    /// Somebody reads something, or does no more.
    fn write_cell(&mut self, slot: u64) {
        let at = match self.below(4) {
            0 => self.front.slot_at(slot) + self.word_in(field("Slot.reads")),
            _ => self.front.readers_at + slot * field("Readers").end + self.below(8) * 8,
        };
        let old = self.front.word(at).load(SeqCst);
        let which = self.below(self.locks.len() as u64);
        let lock = self.locks[which as usize];
        let value = match self.below(3) {
            0 => lock | self.below(4),
            _ => self.value(old),
        };
        self.store(at, value);
    }

    fn some_slab(&mut self) -> u64 {
        let committed = self.front.committed();
        let used = self.front.watermark().clamp(1, committed);
        match self.below(8) {
            0 => self.below(committed),
            _ => self.below(used),
        }
    }

    fn write_state(&mut self) {
        let at = self.front.states_at + self.some_slab() * 8;
        let old = self.front.word(at).load(SeqCst);
        let likely = self.below(11) | self.below(40) << 8 | self.below(20) << 16 | old >> 32 << 32;
        let value = match self.below(2) {
            0 => likely,
            _ => self.value(old),
        };
        self.store(at, value);
    }

    fn write_bits(&mut self) {
        let words = self.front.stride() / 8;
        let begin = self.front.bits_at + self.some_slab() * self.front.stride();
        let within = match self.below(3) {
            0 => self.below(4),
            _ => self.below(words),
        };
        let value = self.value(self.front.word(begin + within * 8).load(SeqCst));
        self.store(begin + within * 8, value);
    }

    /// A lock that names a living thread in its present generation is that thread's, and stays so:
    /// only what is certainly nobody's is written. For a moment: otherwise nothing but errors would
    /// come of it.
    fn write_lock(&mut self) {
        let which = self.below(self.locks.len() as u64);
        let at = self.locks[which as usize];
        let value = match self.below(4) {
            0 => u64::MAX - self.below(2),
            // As after a death, of a slot that may be there.
            1 => 1 << 62 | self.below(40) << 1,
            _ => self.below(u64::MAX) | 1 << 62,
        };
        self.store(at, value);
        std::thread::sleep(Duration::from_micros(self.pause));
        self.store(at, 0);
    }

    /// Counts in the header that are hints, the watermark, the heads of the lists of roots.
    fn write_hint(&mut self) {
        const HINTS: [&str; 5] = [
            "Header.watermark",
            "Header.freed",
            "Header.abandoned",
            "Header.slots_high",
            "Header.next_root",
        ];
        let at = match self.below(4) {
            0 => self.word_in(field("Header.buckets")),
            _ => field(HINTS[self.below(5) as usize]).start,
        };
        let value = self.value(self.front.word(at).load(SeqCst));
        self.store(at, value);
    }
}
