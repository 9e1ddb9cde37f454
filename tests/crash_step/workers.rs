//! Proves cases on all processors: with a process for each, since what is stepped changes the
//! protection of its memory all the time, which all processors of a process must be told of.
//!
//! A worker is this program, started again with the same environment. It reads which cases to prove
//! from a pipe that all workers read, and prints what it did.

use crate::{plan::Plan, prove::Tally, subject::Case};
use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{self, BufRead, BufReader, PipeReader, Read, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

/// Tells a worker its number.
const WORKER: &str = "SHARENA_STEP_WORKER";
/// The test that workers run.
const TEST: &str = "every_instruction";
/// What begins a line of results.
const DONE: &str = "proved";

/// What was done for each operation, and in all.
pub(crate) type Tallies = (BTreeMap<String, Tally>, Tally);

/// Whether this process is a worker; then it has worked.
pub(crate) fn worked(cases: &[Case], plan: &Plan) -> bool {
    let Ok(number) = env::var(WORKER) else {
        return false;
    };
    pin(number.parse().expect("a number"));
    while let Some(index) = next_index() {
        let case = &cases[index];
        say(&format!("{index}: {}, {} ...", case.operation, case.start));
        let started = Instant::now();
        let tally = (case.prove)(plan);
        say(&format!(
            "{index}: {}, {}: {tally} in {:.1?}",
            case.operation,
            case.start,
            started.elapsed()
        ));
        let numbers = tally.to_numbers().map(|number| number.to_string());
        println!("\n{DONE} {index} {}", numbers.join(" "));
    }
    true
}

/// Tells whoever waits, at once: else the lines of workers would be mixed.
fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The next case that nobody has taken.
fn next_index() -> Option<usize> {
    let mut number = [0; 4];
    // Without the buffer of `stdin`, which would take all of them. So few bytes are read at once,
    // whoever else reads: all that is written is whole.
    let mut pipe = File::from(
        io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .expect("a descriptor"),
    );
    match pipe.read(&mut number).expect("a pipe can be read") {
        0 => None,
        read => {
            assert_eq!(read, number.len());
            Some(u32::from_ne_bytes(number) as usize)
        }
    }
}

/// Keeps this process on one of the processors that it may use.
fn pin(number: usize) {
    // SAFETY: plain data, for which zeros are valid; both calls get its size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of_val(&allowed);
        if libc::sched_getaffinity(0, size, &mut allowed) != 0 {
            return;
        }
        let all = (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &allowed));
        if let Some(cpu) = all.clone().nth(number % all.count().max(1)) {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut one);
            libc::sched_setaffinity(0, size, &one);
        }
    }
}

/// Proves all cases.
pub(crate) fn prove_all(cases: &[Case]) -> Tallies {
    let count = thread::available_parallelism().map_or(1, |count| count.get());
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let mut workers: Vec<Child> = (0..count).map(|number| start(number, &reader)).collect();
    drop(reader);
    let mut tallies = Tallies::default();
    thread::scope(|scope| {
        let results: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                let output = worker.stdout.take().expect("piped");
                scope.spawn(move || results(BufReader::new(output)))
            })
            .collect();
        for index in 0..cases.len() as u32 {
            // If all workers have failed, that is said below.
            if writer.write_all(&index.to_ne_bytes()).is_err() {
                break;
            }
        }
        drop(writer);
        for result in results {
            for (index, tally) in result.join().expect("a worker's results are read") {
                let of_operation = tallies.0.entry(cases[index].operation.clone());
                of_operation.or_default().add(&tally);
                tallies.1.add(&tally);
            }
        }
    });
    for worker in &mut workers {
        assert!(
            worker.wait().expect("an own child").success(),
            "a worker failed"
        );
    }
    tallies
}

fn start(number: usize, cases: &PipeReader) -> Child {
    // This very program, even if another has taken the place of its file.
    let mut worker = Command::new("/proc/self/exe");
    worker
        .args([TEST, "--exact", "--nocapture"])
        .env(WORKER, number.to_string())
        .stdin(Stdio::from(cases.try_clone().expect("a descriptor")))
        .stdout(Stdio::piped());
    // SAFETY: one system call, which may be made between fork and exec.
    unsafe { worker.pre_exec(die_with_the_parent) };
    worker.spawn().expect("this program starts")
}

/// Asks the kernel to kill a worker when the thread that waits for it dies: it may be in the midst of an
/// hour's work.
fn die_with_the_parent() -> io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a worker printed: which cases, and what was done for each.
fn results(output: impl BufRead) -> Vec<(usize, Tally)> {
    let lines = output.lines().map(|line| line.expect("text"));
    let results = lines.filter_map(|line| {
        let numbers = line.strip_prefix(DONE)?.split_ascii_whitespace();
        let mut numbers = numbers.map(|number| number.parse().expect("a number"));
        Some((numbers.next()?, Tally::from_numbers(numbers)))
    });
    results.collect()
}
