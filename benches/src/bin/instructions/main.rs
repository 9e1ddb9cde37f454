//! Counts the instructions of sharena's hottest operations, and the loads among them that wait for a
//! store. It fails where there are more of them than `instructions.txt` says: times differ from run to
//! run, counts hardly (where a hash map's seed decides).
//!
//! `cargo run --release -p sharena-bench --no-default-features --bin instructions [-- --update]`
//!
//! With `-- --profile OPERATION` it says from which source files those of one operation come.
//!
//! Valgrind runs this program again for each operation: callgrind counts the instructions inside
//! [`counted`](operations::counted), and lackey lists what they load and store.

mod operations;
mod profile;
mod waits;

use operations::OPERATIONS;
use std::{
    collections::BTreeMap,
    error::Error,
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};
use waits::Waits;

/// How often each operation is done where its instructions are counted, and where its loads are looked at.
const TIMES: u64 = 20_000;
const TIMES_TRACED: u64 = 500;

/// The counts are kept here.
const FILE: &str = "instructions.txt";
/// Instructions may rise to so many times those of before, and loads that wait for a part by this number.
const TOLERANCE: f64 = 1.03;
const PART_TOLERANCE: f64 = 0.2;
/// Where much memory is touched, some places are the same by chance: then loads may rise to so many times
/// those of before, and by one more in two operations.
const PLACE_TOLERANCE: (f64, f64) = (1.5, 0.5);

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--update"] => update(),
        ["--profile", name] => profile::print(name),
        ["--count", name] => operations::run(name, TIMES),
        ["--trace", name] => operations::run(name, TIMES_TRACED),
        _ => Err("usage: instructions [--update | --profile OPERATION]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What is counted of one operation.
#[derive(Clone, Copy)]
struct Counts {
    instructions: f64,
    waits: Waits,
}

impl Counts {
    fn now(name: &str) -> Result<Counts> {
        Ok(Counts {
            instructions: count(name)?,
            waits: waits::look(name, TIMES_TRACED)?,
        })
    }

    /// What there is more of than before.
    fn more_than(&self, before: &Counts) -> Option<&'static str> {
        if self.instructions > before.instructions * TOLERANCE {
            return Some("more instructions");
        }
        if self.waits.for_part > before.waits.for_part + PART_TOLERANCE {
            return Some("more loads that wait for a part");
        }
        let (times, by) = PLACE_TOLERANCE;
        let more = self.waits.for_place > before.waits.for_place * times + by;
        more.then_some("more loads that wait for a place")
    }

    fn parse(line: &str) -> Option<(&str, Counts)> {
        let mut fields = line.trim().splitn(4, "  ").map(str::trim);
        let mut number = || fields.next()?.parse().ok();
        let counts = Counts {
            instructions: number()?,
            waits: Waits {
                for_part: number()?,
                for_place: number()?,
            },
        };
        Some((fields.next()?, counts))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Waits {
            for_part,
            for_place,
        } = self.waits;
        write!(
            f,
            "{:7.1}  {for_part:.1}  {for_place:.1}",
            self.instructions
        )
    }
}

/// Counts everything, and says what became more.
fn compare() -> Result {
    let path = file();
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("could not read {}: {error}", path.display()))?;
    let before = parse(&text)?;
    let mut risen = Vec::new();
    for (name, now) in count_all()? {
        let Some(before) = before.get(name) else {
            return Err(format!("{FILE} does not know {name:?}: run with --update").into());
        };
        let verdict = match now.more_than(before) {
            Some(what) => what,
            None if before.more_than(&now).is_some() => "less: run with --update",
            None => "",
        };
        println!("{now}  was {before}  {name}  {verdict}");
        risen.extend(now.more_than(before).map(|what| format!("{name}: {what}")));
    }
    if risen.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} ({}; {FILE} was made by {})",
        risen.join("; "),
        compiler()?,
        text.lines()
            .nth(2)
            .unwrap_or_default()
            .trim_start_matches("# "),
    )
    .into())
}

/// Counts everything, and keeps the counts.
fn update() -> Result {
    let mut text = format!(
        "# Of each operation: its instructions, as callgrind counts them; its loads that wait for a part of\n\
         # what they load, and for a store to the same place of a page: see src/bin/instructions.\n\
         # {}\n",
        compiler()?
    );
    for (name, now) in count_all()? {
        writeln!(text, "{now}  {name}")?;
    }
    print!("{text}");
    Ok(std::fs::write(file(), text)?)
}

/// Counts all operations, as many at a time as there are processors: valgrind has its own idea of time.
fn count_all() -> Result<Vec<(&'static str, Counts)>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut counted = Vec::new();
        while let Some((name, _)) = OPERATIONS.get(next.fetch_add(1, Relaxed)) {
            let counts = Counts::now(name).map_err(|error| error.to_string());
            counted.push((*name, counts));
        }
        counted
    };
    let workers = thread::available_parallelism()?.get();
    let mut counted = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let counted = workers.into_iter().map(|worker| worker.join());
        counted
            .map(|done| done.expect("it does not panic"))
            .collect::<Vec<_>>()
            .concat()
    });
    let place = |name: &str| OPERATIONS.iter().position(|(known, _)| *known == name);
    counted.sort_by_key(|(name, _)| place(name));
    counted
        .into_iter()
        .map(|(name, counts)| Ok((name, counts?)))
        .collect()
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)
}

fn parse(text: &str) -> Result<BTreeMap<&str, Counts>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line| Counts::parse(line).ok_or_else(|| format!("{FILE}: not counts: {line}"));
    Ok(lines.map(parse).collect::<std::result::Result<_, _>>()?)
}

/// Counts differ between compilers too.
fn compiler() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Instructions of one operation: by this program in callgrind.
fn count(name: &str) -> Result<f64> {
    let said = callgrind(name, &["--callgrind-out-file=/dev/null"])?;
    let collected = said.lines().find_map(|line| {
        let (_, count) = line.split_once("Collected :")?;
        count.trim().parse::<u64>().ok()
    });
    match collected {
        Some(collected) => Ok(collected as f64 / TIMES as f64),
        None => Err(format!("callgrind did not count {name:?}:\n{said}").into()),
    }
}

/// Runs this program in callgrind, which collects what is inside [`counted`](operations::counted). What it said.
fn callgrind(name: &str, options: &[&str]) -> Result<String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=counted")
        .args(options)
        .arg(std::env::current_exe()?)
        .args(["--count", name])
        .output()
        .map_err(|error| format!("could not start valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(format!("callgrind did not count {name:?}:\n{said}").into()),
    }
}
