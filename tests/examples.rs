//! The examples do what they say. Cargo builds them before the tests, next to these.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

fn program(example: &str) -> Command {
    let test = env::current_exe().unwrap();
    // target/<profile>/deps/<test>, and target/<profile>/examples/<example>
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples").join(example);
    assert!(
        path.exists(),
        "there is no {}: `cargo build --examples` makes it",
        path.display()
    );
    Command::new(path)
}

/// What an example that succeeds prints.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    succeeded(&command.output().unwrap())
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    assert_eq!(errors, "");
    printed
}

/// The message of an example that fails as it should: with exit code 1, one line, no panic.
#[track_caller]
fn fail(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[track_caller]
fn assert_last(printed: &str, expected: &str) {
    assert_eq!(printed.lines().last(), Some(expected), "{printed}");
}

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("sharena-examples-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The numbers in the last line of `wordcount`.
#[track_caller]
fn counted(printed: &str) -> [u64; 4] {
    let last = printed.lines().last().unwrap_or_default();
    let parts: Vec<_> = last.split([' ', ',']).filter(|s| !s.is_empty()).collect();
    let [
        "ok:",
        words,
        "words",
        distinct,
        "distinct",
        processes,
        "processes",
        bases,
        "bases",
    ] = parts[..]
    else {
        panic!("{printed}");
    };
    [words, distinct, processes, bases].map(|number| number.parse().unwrap())
}

#[test]
fn wordcount_of_the_project_grows() {
    let printed = succeed(&mut program("wordcount"));
    let [words, distinct, processes, bases] = counted(&printed);
    assert!(words > 50_000 && distinct > 1_000, "{printed}");
    assert_eq!((processes, bases), (6, 6));
    let line = printed
        .lines()
        .find(|line| line.contains("bytes of memory"));
    let sizes: Vec<u64> = line
        .unwrap()
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(sizes[1] > sizes[0], "{printed}");
}

#[test]
fn wordcount_of_a_file() {
    let folder = Folder::new();
    let text = "to be, or NOT to be:\nthat's Ärger, ärger; 2x日本 日本\u{a0}x";
    let printed = succeed(program("wordcount").arg(folder.file("a text", text)));
    // to be or not to be that s ärger ärger 2x日本 日本 x
    assert_last(&printed, "ok: 13 words, 10 distinct, 6 processes, 6 bases");
    assert!(printed.contains("        2 ärger\n"), "{printed}");
}

#[test]
fn wordcount_cuts_no_word() {
    // Words of many lengths across the borders of the parts, one longer than several parts, bytes
    // that are not UTF-8.
    let folder = Folder::new();
    let mut text = Vec::new();
    for length in 0..60_000usize {
        text.extend(
            std::iter::repeat_n("aé日"[..1 + length % 6 / 3 * 2].bytes(), 1 + length % 9).flatten(),
        );
        text.push([b' ', b'\n', 0xff, b'.'][length % 4]);
    }
    text.extend([b'x'; 300_000]);
    let path = folder.file("long", text);
    // The example itself compares with a count of its own.
    let printed = succeed(program("wordcount").arg(&path).arg(&path));
    assert_eq!(counted(&printed)[0], 2 * 60_001);
}

#[test]
fn wordcount_of_nothing() {
    let folder = Folder::new();
    let printed = succeed(program("wordcount").arg(folder.file("empty", "")));
    assert_last(&printed, "ok: 0 words, 0 distinct, 6 processes, 6 bases");
}

#[test]
fn wordcount_without_the_file() {
    let folder = Folder::new();
    let missing = folder.0.join("missing");
    let message = fail(program("wordcount").arg(&missing));
    assert!(message.contains(missing.to_str().unwrap()), "{message}");
    assert!(message.contains("No such file"), "{message}");
    let message = fail(program("wordcount").arg(&folder.0));
    assert!(message.contains("not a file"), "{message}");
}

#[test]
fn wordcount_twice_at_once() {
    let folder = Folder::new();
    let files = [folder.file("a", "one two"), folder.file("b", "three")];
    let start = |path: &PathBuf| -> Child {
        let mut command = program("wordcount");
        command.arg(path).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let running = files.each_ref().map(start);
    let printed = running.map(|child| succeeded(&child.wait_with_output().unwrap()));
    assert_eq!(counted(&printed[0])[..2], [2, 2]);
    assert_eq!(counted(&printed[1])[..2], [1, 1]);
}

#[test]
fn people_outlive_their_writer() {
    let folder = Folder::new();
    let path = folder.0.join("people");
    fail(program("people_reader").arg(&path));

    let mut writer = program("people_writer")
        .args(["3"])
        .arg(&path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_ready(&path) {
        assert!(Instant::now() < deadline, "nobody wrote people");
        thread::sleep(Duration::from_millis(20));
    }
    // While the writer runs, and when it has gone, through one mapping.
    let both = succeed(program("people_reader").arg(&path));
    assert!(writer.wait().unwrap().success());
    assert_eq!(both.matches("10 people").count(), 2, "{both}");
    assert_eq!(both.matches("Katherine  101").count(), 2, "{both}");
    // By one that comes later.
    let after = succeed(program("people_reader").arg(&path));
    assert!(
        after.contains("10 people, after the writer has gone"),
        "{after}"
    );
    assert_eq!(after.matches("Grace       85").count(), 1, "{after}");

    let message = fail(program("people_writer").args(["0"]).arg(&path));
    assert!(message.contains("already"), "{message}");
    fail(program("people_writer").arg("soon"));
}

/// Whether the writer has got as far as to let others find its roots, of which the list is the last.
fn is_ready(path: &Path) -> bool {
    // SAFETY: the example changes the file through sharena only.
    let Ok(arena) = (unsafe { sharena::Arena::open(path) }) else {
        return false;
    };
    arena.roots().is_ok_and(|roots| roots.len() == 2)
}

#[test]
fn a_killed_writer_lets_the_reader_go_on() {
    let folder = Folder::new();
    let path = folder.0.join("people");
    let mut writer = program("people_writer")
        .args(["60"])
        .arg(&path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !is_ready(&path) {
        thread::sleep(Duration::from_millis(20));
    }
    let mut reader = program("people_reader");
    let reader = reader.arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    thread::sleep(Duration::from_millis(300));
    writer.kill().unwrap();
    let printed = reader.wait_with_output().unwrap();
    writer.wait().unwrap();
    let printed = String::from_utf8_lossy(&printed.stdout);
    assert!(printed.contains("after the writer has gone"), "{printed}");
}

#[test]
fn pointer() {
    let printed = succeed(&mut program("pointer"));
    assert_last(
        &printed,
        "ok: a raw pointer fails in another process, a RelPtr works",
    );
    let bases = printed
        .lines()
        .filter(|line| line.contains(" has the arena at 0x"));
    assert_eq!(bases.count(), 2, "{printed}");
}

#[test]
fn fork() {
    let printed = succeed(&mut program("fork"));
    assert!(printed.contains("in the arena: [1, 2, 3]\n"), "{printed}");
    assert_last(&printed, "ok: what the child wrote is there");
}

#[test]
fn access() {
    let printed = succeed(&mut program("access"));
    for pages in ["rw-s", "r--s", "rw-p"] {
        assert!(
            printed.lines().any(|line| line.ends_with(pages)),
            "{printed}"
        );
    }
    assert!(
        printed.lines().last().unwrap().starts_with("ok: "),
        "{printed}"
    );
}

#[test]
fn page_edges() {
    let printed = succeed(&mut program("page_edges"));
    assert!(printed.contains("killed by signal"), "{printed}");
    assert_eq!(printed.matches("refused: ").count(), 7, "{printed}");
    assert_last(&printed, "ok: nothing of this can go wrong in safe code");
}

#[test]
fn mutex_and_semaphore() {
    let printed = succeed(&mut program("mutex_and_semaphore"));
    assert!(printed.contains("counted to 8000\n"), "{printed}");
    assert_last(&printed, "ok: mutex and semaphore work across processes");
}

#[test]
fn growth() {
    let printed = succeed(&mut program("growth"));
    assert_eq!(printed.matches("B sees").count(), 8, "{printed}");
    assert!(printed.contains("the arena is full"), "{printed}");
}

#[test]
fn bank() {
    let printed = succeed(program("bank").arg("1"));
    assert_last(&printed, "ok: the sum is still 2000000");
    fail(program("bank").arg("forever"));
}
