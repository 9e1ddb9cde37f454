//! Storms of the example that is called so: `examples/storm`. Cargo builds it before the tests.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    sync::Mutex,
};

/// One storm at a time: they measure how long survivors wait.
static ONE: Mutex<()> = Mutex::new(());

/// Runs the example, which must succeed; gives its last line.
#[track_caller]
fn storm(arguments: &str) -> String {
    let _one = ONE.lock();
    let test = env::current_exe().unwrap();
    // target/<profile>/deps/<test>, and target/<profile>/examples/<example>
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples").join("storm");
    assert!(
        path.exists(),
        "there is no {}: `cargo build --examples` makes it",
        path.display()
    );
    let mut command = Command::new(path);
    command.args(arguments.split(' ')).stdin(Stdio::null());
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {printed}\n{errors}");
    let last = printed.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("ok: "), "{printed}");
    println!("{last}");
    last
}

#[test]
fn killed_and_stopped() {
    let last = storm("--kills 300 --stop");
    assert!(last.contains("none taken for dead"), "{last}");
    assert!(!last.contains("(0 in a section)"), "{last}");
}

#[test]
fn in_namespaces() {
    storm("--kills 100 --namespaces");
}

#[test]
fn recoverers_are_killed() {
    let last = storm("--kills 100 --recoverers --workers 6");
    let cut = last
        .split(", ")
        .find_map(|part| part.strip_suffix(" recoveries cut"));
    assert!(cut.is_some_and(|cut| cut != "0"), "{last}");
}

#[test]
fn scribbled_over() {
    let last = storm("--kills 100 --scribble");
    let words = last.split_once(" scribbled over by ").map(|(_, rest)| rest);
    let words: Option<u64> = words.and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(words.is_some_and(|words| words > 1000), "{last}");
}
