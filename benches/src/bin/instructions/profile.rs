//! Where the instructions of an operation come from: by source file, of whatever was inlined where.
//!
//! Callgrind counts each instruction, and `addr2line` says from which lines it was inlined; what `std` has
//! in between goes to who called it.

use crate::{Result, TIMES, callgrind};
use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// What is called the same in the table, since it is neither sharena's nor the operation's.
const ELSEWHERE: &str = "std and libc";

/// Prints a line for each source file that an operation has instructions of.
pub(crate) fn print(name: &str) -> Result {
    let counts = Counts::of(name)?;
    let mut files: BTreeMap<String, u64> = BTreeMap::new();
    for (address, file) in files_of(&counts.0)? {
        *files.entry(file).or_default() += counts.0[&address];
    }
    let mut files: Vec<(String, u64)> = files.into_iter().collect();
    files.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let each = |count: u64| count as f64 / TIMES as f64;
    let all = files.iter().map(|(_, count)| count).sum();
    println!("{:7.1}  {name}", each(all));
    for (file, count) in files.into_iter().filter(|&(_, count)| count * 2 >= TIMES) {
        println!("{:7.1}  {file}", each(count));
    }
    Ok(())
}

/// How often each instruction of this program was carried out, by its address in the file.
struct Counts(BTreeMap<u64, u64>);

impl Counts {
    fn of(name: &str) -> Result<Counts> {
        let file = std::env::temp_dir().join(format!("instructions-{}.out", std::process::id()));
        let to = format!("--callgrind-out-file={}", file.display());
        let options = ["--dump-instr=yes", "--dump-line=no"];
        let plain = ["--compress-strings=no", "--compress-pos=no", &to];
        let said = callgrind(name, &[&options[..], &plain].concat());
        let text = std::fs::read_to_string(&file);
        let _ = std::fs::remove_file(&file);
        said?;
        Ok(Counts(parse(&text?, &std::env::current_exe()?)))
    }
}

/// Callgrind's list: an object (`ob=`) is followed by its lines of an address and a count. Behind
/// `calls=` there is one line of what was called, which is counted elsewhere.
fn parse(text: &str, program: &Path) -> BTreeMap<u64, u64> {
    let (mut counts, mut ours, mut called) = (BTreeMap::new(), false, false);
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = Path::new(object) == program;
        } else if line.starts_with("calls=") {
            called = true;
        } else if let Some((address, count)) = address_and_count(line)
            && !std::mem::take(&mut called)
        {
            // What is not of this program has no address in it.
            *counts.entry(if ours { address } else { 0 }).or_default() += count;
        }
    }
    counts
}

fn address_and_count(line: &str) -> Option<(u64, u64)> {
    let (address, count) = line.strip_prefix("0x")?.split_once(' ')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    Some((address, count.trim().parse().ok()?))
}

/// The source file of each address: the innermost one that is neither `std`'s nor another crate's.
fn files_of(counts: &BTreeMap<u64, u64>) -> Result<Vec<(u64, String)>> {
    let mut lines = Command::new("addr2line")
        .args(["--inlines", "--addresses", "--exe"])
        .arg(std::env::current_exe()?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("could not start addr2line (of binutils): {error}"))?;
    let mut asked = lines.stdin.take().expect("it is piped");
    let addresses: Vec<u64> = counts.keys().copied().collect();
    let ask = thread::spawn(move || {
        addresses
            .iter()
            .try_for_each(|address| writeln!(asked, "{address:#x}"))
    });
    let output = lines.wait_with_output()?;
    ask.join().expect("it does not panic")?;
    let mut files = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        if let Some(address) = line.strip_prefix("0x") {
            files.push((u64::from_str_radix(address, 16)?, ELSEWHERE.to_owned()));
        } else if let Some((_, file)) = files.last_mut()
            && file == ELSEWHERE
            && let Some(own) = own_file(line)
        {
            *file = own;
        }
    }
    Ok(files)
}

/// The file of a line like `/where/it/is/src/section/end.rs:52`, if it is this workspace's.
fn own_file(line: &str) -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let (file, _) = line.rsplit_once(':')?;
    let file = Path::new(file).strip_prefix(workspace).ok()?;
    Some(file.display().to_string())
}
