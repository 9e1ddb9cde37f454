//! Roots: names, types, handles, and removal as `unlink` does it, across processes and deaths.

use sharena::{
    Access, Arena, Error, Options, Share,
    collections::{Box, HashMap, String, Vec},
    sync::{Mutex, RwLock},
};
use std::{
    io::{BufRead, BufReader, Write},
    panic,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

type Number = Mutex<u64>;
type Words = Mutex<HashMap<String, Vec<String>>>;

fn small() -> Options {
    let mut options = Arena::options();
    options.max_size(1 << 20);
    options
}

/// An arena in a file of its own, for unrelated processes; the file goes with it.
struct Filed {
    path: PathBuf,
    arena: Arena,
}

impl Filed {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sharena-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        // SAFETY: only the processes of this test know the file.
        let arena = unsafe { small().create(&path) }.unwrap();
        Filed { path, arena }
    }
}

impl Drop for Filed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[track_caller]
fn assert_clean(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

/// That nothing is left in the arena, once the dead are recovered.
#[track_caller]
fn assert_empty(arena: &Arena) {
    arena.reap().unwrap();
    let report = arena.check();
    assert!(report.is_clean() && report.blocks() == 0, "{report}");
}

fn fill(words: &mut Words) -> sharena::Result {
    let words = words.get_mut()?;
    for key in ["one", "two", "three"] {
        let list = words.entry(key).or_default()?;
        for _ in 0..10 {
            list.push_from("a text of its own that is longer than nothing")?;
        }
    }
    Ok(())
}

fn count(words: &Words) -> usize {
    let words = words.lock().unwrap();
    words.values().map(|list| list.len()).sum()
}

#[test]
fn a_root_is_made_once() {
    let arena = small().in_memory().unwrap();
    let words = arena.root_with("words", fill).unwrap();
    let again = arena
        .root_with::<Words>("words", |_| unreachable!("it exists"))
        .unwrap();
    assert_eq!(words.rel_ptr(), again.rel_ptr());
    assert_eq!((count(&words), count(&again)), (30, 30));
    assert_eq!(
        arena.find::<Words>("words").unwrap().rel_ptr(),
        words.rel_ptr()
    );
    let unknown = arena.find::<Words>("other").map(|_| ()).unwrap_err();
    assert!(matches!(&unknown, Error::UnknownRoot { name } if name == "other"));
    assert!(unknown.to_string().contains("other"));
    assert_clean(&arena);
}

#[test]
fn what_cannot_be_filled_is_not_made() {
    let arena = small().in_memory().unwrap();
    let failed = arena.root_with::<Words>("words", |words| {
        fill(words)?;
        Err(Error::other("no more"))
    });
    assert!(matches!(failed, Err(Error::Other(_))));
    assert_eq!(arena.check().blocks(), 0, "{}", arena.check());
    let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        arena.root_with::<Words>("words", |words| {
            fill(words).unwrap();
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    assert_empty(&arena);
    arena.root_with("words", fill).unwrap();
}

#[test]
fn names() {
    let arena = small().in_memory().unwrap();
    let long = "x".repeat(256);
    for bad in ["", long.as_str()] {
        for error in [
            arena.root::<Number>(bad).map(|_| ()).unwrap_err(),
            arena.find::<Number>(bad).map(|_| ()).unwrap_err(),
            arena.remove(bad).unwrap_err(),
        ] {
            assert!(matches!(&error, Error::BadName { name, .. } if name == bad));
        }
    }
    let names = ["x", &long[1..], "ä / ö \u{1f980}", "two words", " "];
    for (number, name) in names.iter().enumerate() {
        *arena.root::<Number>(name).unwrap().lock().unwrap() = number as u64;
    }
    for (number, name) in names.iter().enumerate() {
        let found = arena.find::<Number>(name).unwrap();
        assert_eq!(*found.lock().unwrap(), number as u64);
    }
    let listed: std::vec::Vec<_> = arena.roots().unwrap();
    assert!(listed.iter().map(|root| root.name.as_str()).eq(names));
    assert!(listed.iter().all(|root| root.type_name == "Mutex<u64>"));
    assert!(listed.is_sorted_by_key(|root| root.number));
    assert_clean(&arena);
}

#[derive(Share, Default)]
#[repr(C)]
struct Before {
    price: f64,
    name: String,
}

mod later {
    use sharena::{Share, collections::String};

    #[derive(Share, Default)]
    #[repr(C)]
    pub(super) struct Before {
        pub(super) price: f64,
        pub(super) name: String,
    }

    #[derive(Share, Default)]
    #[repr(C)]
    pub(super) struct After {
        pub(super) price: f64,
        pub(super) title: String,
    }
}

#[test]
fn types_are_compared_by_what_they_are() {
    let arena = small().in_memory().unwrap();
    arena.root::<Mutex<Vec<Before>>>("book").unwrap();
    arena.find::<Mutex<Vec<later::Before>>>("book").unwrap();
    for result in [
        arena.root::<Mutex<Vec<later::After>>>("book").map(|_| ()),
        arena.find::<Mutex<Vec<later::After>>>("book").map(|_| ()),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::TypeMismatch { .. }));
        let text = error.to_string();
        for part in [
            "\"book\"",
            "Vec<Before>",
            "Vec<After>",
            "name: String",
            "title: String",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    assert!(arena.root::<Vec<Before>>("book").is_err());
    assert_clean(&arena);
}

#[test]
fn not_while_a_section_is_open() {
    let arena = small().in_memory().unwrap();
    let number = arena.root::<Number>("number").unwrap();
    let in_section = |result: sharena::Result| assert!(matches!(result, Err(Error::InSection)));
    {
        let _guard = number.lock().unwrap();
        in_section(arena.root::<Number>("new").map(|_| ()));
        in_section(arena.remove("number"));
        // Nothing changes for others by these.
        arena.find::<Number>("number").unwrap();
        arena.root::<Number>("number").unwrap();
        assert!(matches!(
            arena.find::<Number>("new"),
            Err(Error::UnknownRoot { .. })
        ));
        assert_eq!(arena.roots().unwrap().len(), 1);
    }
    arena
        .section(|| {
            in_section(arena.root::<Number>("new").map(|_| ()));
            Ok(())
        })
        .unwrap();
    let nested = arena.root_with::<Number>("outer", |_| {
        arena.find::<Number>("number")?;
        arena.root::<Number>("inner").map(|_| ())
    });
    in_section(nested.map(|_| ()));
    assert_eq!(arena.roots().unwrap().len(), 1);
    assert_clean(&arena);
}

#[test]
fn a_removed_root_stays_for_its_handles() {
    let arena = small().in_memory().unwrap();
    let first = arena.root_with("words", fill).unwrap();
    let second = first.clone();
    let third = arena.find::<Words>("words").unwrap();
    arena.remove("words").unwrap();
    assert!(matches!(
        arena.remove("words"),
        Err(Error::UnknownRoot { .. })
    ));
    assert!(arena.find::<Words>("words").is_err());
    assert!(arena.roots().unwrap().is_empty());
    // The name is free for another.
    let other = arena.root::<Number>("words").unwrap();
    assert_eq!(
        (arena.check().roots(), arena.check().removed_roots()),
        (1, 1)
    );
    assert_clean(&arena);
    drop(first);
    assert_eq!(count(&second), 30);
    thread::scope(|scope| {
        scope.spawn(move || drop(third)).join().unwrap();
    });
    assert_eq!(count(&second), 30);
    assert_eq!(arena.check().removed_roots(), 1);
    drop(second);
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.removed_roots(), report.blocks()), (0, 3));
    drop(other);
    arena.remove("words").unwrap();
    assert_empty(&arena);
}

#[test]
fn a_handle_dropped_in_a_section_leaves_the_rest_to_others() {
    let arena = small().in_memory().unwrap();
    let number = arena.root::<Number>("number").unwrap();
    let words = arena.root_with("words", fill).unwrap();
    arena.remove("words").unwrap();
    {
        let _guard = number.lock().unwrap();
        drop(words);
        assert_eq!(arena.check().removed_roots(), 1);
    }
    assert_clean(&arena);
    arena.reap().unwrap();
    assert_eq!(arena.check().removed_roots(), 0);
    assert_clean(&arena);
}

#[test]
fn many_roots() {
    let arena = Arena::in_memory().unwrap();
    for number in 0..1000u64 {
        *arena
            .root::<Number>(&number.to_string())
            .unwrap()
            .lock()
            .unwrap() = number;
    }
    assert_eq!(arena.roots().unwrap().len(), 1000);
    for number in (0..1000u64).rev() {
        let root = arena.find::<Number>(&number.to_string()).unwrap();
        assert_eq!(*root.lock().unwrap(), number);
        arena.remove(&number.to_string()).unwrap();
    }
    assert_empty(&arena);
}

/// Whatever is missing when a root is made, nothing is left of it.
#[test]
fn a_full_arena_gets_no_half_root() {
    assert!(until_there_is_room(|arena| arena.root_with("words", fill).map(|_| ())) > 10);
    assert!(until_there_is_room(|arena| arena.root::<Number>("number").map(|_| ())) > 1);
}

/// Makes room in a full arena, bit by bit, until there is enough. Says how often it was not.
fn until_there_is_room(make: impl Fn(&Arena) -> sharena::Result) -> u64 {
    let arena = Arena::options().max_size(1 << 18).in_memory().unwrap();
    let mut blocks = std::vec::Vec::new();
    for size in [2048, 1000, 400, 200, 100, 64, 48, 32, 16] {
        let layout = std::alloc::Layout::from_size_align(size, 8).unwrap();
        while let Ok(block) = arena.alloc(layout) {
            blocks.push(block.into_raw().unwrap());
        }
    }
    let full = blocks.len() as u64;
    assert_eq!(arena.check().blocks(), full);
    let mut failures = 0;
    // From the smallest on, in an order in which whole slabs become free late.
    while let Err(error) = make(&arena) {
        assert!(matches!(error, Error::Full { .. }), "{error}");
        let report = arena.check();
        assert!(report.is_ok(), "{report}");
        assert_eq!(report.blocks(), full - failures, "{report}");
        let block = blocks.swap_remove(blocks.len() * 7 / 8 * failures as usize % blocks.len());
        // SAFETY: allocated above, and used by nobody.
        unsafe { arena.dealloc(block).unwrap() };
        failures += 1;
    }
    assert_eq!(arena.check().unowned().len(), blocks.len());
    failures
}

/// Another program: this one, started anew, in which [`other_program`] does what it is told.
struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Other {
    fn start(path: &Path, role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "other_program", "--nocapture"])
            .env("SHARENA_TEST_PATH", path)
            .env("SHARENA_TEST_ROLE", role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut other = Other {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        other.wait_for("ready");
        other
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = std::string::String::new();
        while !line.contains(word) {
            line.clear();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(read > 0, "the other program ended before it was {word}");
        }
    }

    fn go_on(&mut self) {
        writeln!(self.input).unwrap();
    }

    fn end(mut self) {
        self.go_on();
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn step(word: &str) {
    println!("{word}");
    let mut line = std::string::String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// Not a test by itself: see [`Other`].
#[test]
fn other_program() {
    let Some(path) = std::env::var_os("SHARENA_TEST_PATH") else {
        return;
    };
    let role = std::env::var("SHARENA_TEST_ROLE").unwrap();
    let mut options = small();
    if role == "read" {
        options.access(Access::ReadOnly);
    }
    // SAFETY: only this test's processes know the file.
    let arena = unsafe { options.open(path) }.unwrap();
    match role.as_str() {
        "hold" => {
            let words = arena.find::<Words>("words").unwrap();
            step("ready");
            assert_eq!(count(&words), 30);
        }
        "change" => {
            let words = arena.find::<Words>("words").unwrap();
            let mut guard = words.lock().unwrap();
            guard.remove("two").unwrap();
            guard.insert("four", Vec::new()).unwrap();
            step("ready");
        }
        "read" => {
            let words = arena.find::<Words>("words").unwrap();
            step("ready");
            let inside = words.frozen().unwrap();
            assert_eq!(inside.values().map(|list| list.len()).sum::<usize>(), 30);
        }
        "remove" => {
            for root in arena.roots().unwrap() {
                arena.remove(&root.name).unwrap();
            }
            step("ready");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_removed_root_stays_for_other_programs() {
    for killed in [false, true] {
        let filed = Filed::new("held");
        let arena = &filed.arena;
        drop(arena.root_with("words", fill).unwrap());
        let other = Other::start(&filed.path, "hold");
        arena.remove("words").unwrap();
        arena.reap().unwrap();
        assert_eq!(arena.check().removed_roots(), 1);
        assert_clean(arena);
        if killed {
            other.kill();
            assert_empty(arena);
        } else {
            other.end();
            // Its last handle took the root away.
            let report = arena.check();
            assert!(report.is_clean() && report.blocks() == 0, "{report}");
        }
    }
}

#[test]
fn a_removed_root_goes_with_a_program_that_was_killed_in_the_middle() {
    let filed = Filed::new("changed");
    let arena = &filed.arena;
    drop(arena.root_with("words", fill).unwrap());
    let other = Other::start(&filed.path, "change");
    arena.remove("words").unwrap();
    other.kill();
    assert_empty(arena);
}

#[test]
fn a_program_that_does_not_know_a_type_can_remove_it() {
    #[derive(Share, Default)]
    #[repr(C)]
    struct Deep {
        names: HashMap<String, Vec<String>>,
        list: Box<Deep>,
        locks: [Mutex<Vec<u64>>; 2],
        kind: Kind,
    }

    #[derive(Share, Default)]
    #[repr(u8)]
    enum Kind {
        #[default]
        None,
        Some(String, Vec<Vec<u8>>),
    }

    let filed = Filed::new("deep");
    let arena = &filed.arena;
    let deep = arena
        .root_with::<Mutex<Deep>>("deep", |deep| {
            let mut deep = deep.get_mut()?;
            for number in 0..300 {
                let list = deep.names.entry(number.to_string().as_str()).or_default()?;
                list.push_from("something that needs a block")?;
                deep.locks[number % 2].get_mut()?.push(number as u64)?;
                let bytes = Vec::new();
                deep.kind = Kind::Some(String::new(), Vec::new());
                if let Kind::Some(name, list) = &mut deep.kind {
                    name.push_str("a kind that needs a block")?;
                    list.push(bytes)?;
                    list[0].push(7)?;
                }
                deep = deep.list.set(Deep::default())?;
            }
            Ok(())
        })
        .unwrap();
    drop(deep);
    assert_clean(arena);
    assert!(arena.check().blocks() > 1500);
    Other::start(&filed.path, "remove").end();
    let report = arena.check();
    assert!(report.is_clean() && report.blocks() == 0, "{report}");
}

/// Who cannot write cannot count handles; so nothing is freed while such a program is there.
#[test]
fn a_removed_root_stays_for_readers() {
    for killed in [false, true] {
        let filed = Filed::new("read");
        let arena = &filed.arena;
        let words = arena.root_with("words", fill).unwrap();
        words.freeze().unwrap();
        let other = Other::start(&filed.path, "read");
        drop(words);
        arena.remove("words").unwrap();
        arena.reap().unwrap();
        assert_eq!(arena.check().removed_roots(), 1);
        if killed {
            other.kill();
        } else {
            other.end();
        }
        assert_empty(arena);
    }
}

/// A removed root is freed when no section reads a lock of it any more.
#[test]
fn what_a_section_reads_is_not_freed() {
    let arena = Arena::in_memory().unwrap();
    let used = arena.stats().used;
    let root = arena.root::<RwLock<u64>>("lock").unwrap();
    let mut root = Some(root);
    arena
        .section(|| {
            drop(root.as_ref().unwrap().read()?);
            drop(root.take());
            thread::scope(|scope| {
                scope
                    .spawn(|| arena.remove("lock").unwrap())
                    .join()
                    .unwrap()
            });
            assert_ne!(arena.stats().used, used);
            Ok(())
        })
        .unwrap();
    let last = arena.root::<RwLock<u64>>("lock").unwrap();
    arena.remove("lock").unwrap();
    drop(last);
    assert_eq!(arena.stats().used, used);
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_value_without_a_default_is_made_once() {
    let arena = Arena::in_memory().unwrap();
    let make = |number: u8| move || Mutex::new([number; 4096]);
    let table = arena.root_or_init("table", make(7)).unwrap();
    table.lock().unwrap()[1] = 1;
    let again = arena.root_or_init::<Mutex<[u8; 4096]>>("table", || panic!("it is there"));
    assert_eq!(again.unwrap().lock().unwrap()[..3], [7, 1, 7]);
    let other = arena.root_or_init("table", || Mutex::new(0u64)).map(drop);
    assert!(matches!(other, Err(sharena::Error::TypeMismatch { .. })));
    let guard = table.lock().unwrap();
    let inside = arena.root_or_init("other", make(8)).map(drop);
    assert!(matches!(inside, Err(sharena::Error::InSection)));
    drop(guard);
    let panicked = std::panic::catch_unwind(|| {
        let _ = arena.root_or_init::<Mutex<u64>>("third", || panic!("on purpose"));
    });
    assert!(panicked.is_err());
    assert!(arena.find::<Mutex<u64>>("third").is_err());
    assert!(arena.check().is_clean());
}
