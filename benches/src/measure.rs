//! How the contests are run: in turns, and what is taken of the times.
//!
//! All entrants of a contest run in one process, one after the other, round by round (A B C, A B C,
//! ...): what slows the machine down for a while slows down all of them. Of the rounds the medians
//! are taken. Each turn begins with a run that does not count: in the first, memory is touched for
//! the first time, and in others the caches are full of what belongs to the entrant before. Not so
//! where the work itself begins with new memory or a new process.

use crate::{settings::Settings, table::Report};
use std::time::Duration;

/// What sharena is called in tables.
pub(crate) const OURS: &str = "sharena";

/// What a number is to be compared with.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// At most so many times the number of a rival.
    Times(&'static str, f64),
    /// Less than the number of a rival.
    Below(&'static str),
    /// At most this number.
    AtMost(f64),
}

/// One line of a table: the numbers of all entrants.
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) unit: &'static str,
    pub(crate) bars: Vec<Bar>,
    /// One for each entrant that has one.
    pub(crate) results: Vec<(&'static str, f64)>,
}

impl Row {
    pub(crate) fn new(workload: impl Into<String>, bars: &[Bar]) -> Row {
        Row {
            workload: workload.into(),
            unit: "ns",
            bars: bars.to_vec(),
            results: Vec::new(),
        }
    }

    pub(crate) fn in_unit(mut self, unit: &'static str) -> Row {
        self.unit = unit;
        self
    }

    pub(crate) fn result(&self, system: &str) -> Option<f64> {
        let found = self.results.iter().find(|(name, _)| *name == system);
        found.map(|(_, number)| *number)
    }
}

/// What rows are called.
pub(crate) fn names(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.workload.as_str()).collect()
}

/// Runs one round, and gives a number for each row: NaN where it has none.
type Round<'a> = Box<dyn FnMut() -> Vec<f64> + 'a>;

/// Several systems that do the same work.
pub(crate) struct Contest<'a> {
    rows: Vec<Row>,
    entrants: Vec<(&'static str, Round<'a>)>,
    rounds: usize,
    /// Whether each turn begins with a run that does not count, or the first one only.
    warm: bool,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(settings: &Settings, rows: Vec<Row>) -> Contest<'a> {
        Contest {
            rows,
            entrants: Vec::new(),
            rounds: settings.rounds,
            warm: true,
        }
    }

    /// For work that takes long: so many rounds.
    pub(crate) fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// For work that begins with new memory, or a new process, each time: only the very first run does
    /// not count.
    pub(crate) fn cold(mut self) -> Self {
        self.warm = false;
        self
    }

    /// Adds a system. Sharena comes first.
    pub(crate) fn entrant(
        &mut self,
        system: &'static str,
        round: impl FnMut() -> Vec<f64> + 'a,
    ) -> &mut Self {
        self.entrants.push((system, Box::new(round)));
        self
    }

    /// Runs all rounds, and puts the rows into the report.
    pub(crate) fn run(self, report: &mut Report) {
        report.add(self.measure());
    }

    /// Runs all rounds, and gives the rows.
    pub(crate) fn measure(mut self) -> Vec<Row> {
        let mut numbers = vec![vec![Vec::new(); self.rows.len()]; self.entrants.len()];
        if !self.warm {
            for (_, run) in &mut self.entrants {
                run();
            }
        }
        for _ in 0..self.rounds {
            for ((_, run), numbers) in self.entrants.iter_mut().zip(&mut numbers) {
                if self.warm {
                    run();
                }
                for (result, numbers) in run().into_iter().zip(numbers) {
                    numbers.push(result);
                }
            }
        }
        for (entrant, (system, _)) in self.entrants.iter().enumerate() {
            for (row, numbers) in self.rows.iter_mut().zip(&mut numbers[entrant]) {
                if let Some(median) = median(numbers) {
                    row.results.push((system, median));
                }
            }
        }
        self.rows
    }
}

fn median(numbers: &mut Vec<f64>) -> Option<f64> {
    numbers.retain(|number| !number.is_nan());
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

/// The processor time of the calling thread: other programs that get the processor in between do not
/// count. For work that does not wait.
fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a clock that every thread has, and a place for its time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds of processor time for each of `count` operations that `work` does.
pub(crate) fn per_operation<R>(count: usize, work: impl FnOnce() -> R) -> f64 {
    let start = thread_time();
    std::hint::black_box(work());
    (thread_time() - start).as_nanos() as f64 / count as f64
}

/// The same by the clock on the wall: for work that waits.
pub(crate) fn per_operation_waiting<R>(count: usize, work: impl FnOnce() -> R) -> f64 {
    let start = std::time::Instant::now();
    std::hint::black_box(work());
    start.elapsed().as_nanos() as f64 / count as f64
}

/// Bytes of memory in the whole system, as a line of `/proc/meminfo` has them; 0 if there is no such line.
pub(crate) fn memory(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|all| all.strip_prefix(line));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Keeps the calling thread on a core of those that this program may use, counted from the last.
pub(crate) fn pin(core: usize) {
    // SAFETY: sets of processors are plain bits, and zero is the empty one; both calls get one.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(libc::getpid(), size_of::<libc::cpu_set_t>(), &mut allowed);
        let cores: Vec<usize> = (0..libc::CPU_SETSIZE as usize)
            .filter(|&core| libc::CPU_ISSET(core, &allowed))
            .collect();
        let mut chosen: libc::cpu_set_t = std::mem::zeroed();
        let Some(&core) = cores.iter().rev().cycle().nth(core) else {
            return;
        };
        libc::CPU_SET(core, &mut chosen);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &chosen);
    }
}

/// Numbers that look random and are always the same.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    #[inline]
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// The size of a block: 16 to `largest` bytes.
    #[inline]
    pub(crate) fn size(&mut self, largest: usize) -> usize {
        16 + self.below(largest - 15)
    }

    /// The numbers below `count`, in some order.
    pub(crate) fn order(&mut self, count: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count as u32).collect();
        for place in (1..count).rev() {
            order.swap(place, self.below(place + 1));
        }
        order
    }
}
