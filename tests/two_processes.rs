//! Two processes at different bases take turns at the same containers; a model of `std` says what
//! must be there after each turn.

use proptest::prelude::*;
use sharena::{
    Arena, Share,
    collections::{HashMap, String, Vec},
    sync::Mutex,
};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Set in the other process: the name of the arena.
const ROLE: &str = "SHARENA_TWO_PROCESSES";

#[derive(Share, Default)]
#[repr(C)]
struct Shared {
    words: Vec<String>,
    counts: HashMap<String, u64>,
    lists: HashMap<u64, Vec<u64>>,
}

#[derive(Default, Debug, PartialEq)]
struct Model {
    words: std::vec::Vec<std::string::String>,
    counts: BTreeMap<std::string::String, u64>,
    lists: BTreeMap<u64, std::vec::Vec<u64>>,
}

/// One turn; as a line of text between the processes.
#[derive(Clone, Copy, Debug)]
enum Turn {
    PushWord(u32),
    PopWord,
    GrowWord(u32),
    SwapWords(u32, u32),
    SortWords,
    Count(u32),
    Uncount(u32),
    Append(u64, u64),
    RemoveList(u64),
    MoveList(u64, u64),
    Clear,
}

fn word(n: u32) -> std::string::String {
    "word ".repeat(n as usize % 7) + &n.to_string()
}

impl Turn {
    fn to_line(self) -> std::string::String {
        let [code, a, b] = match self {
            Turn::PushWord(a) => [0, a.into(), 0],
            Turn::PopWord => [1, 0, 0],
            Turn::GrowWord(a) => [2, a.into(), 0],
            Turn::SwapWords(a, b) => [3, a.into(), b.into()],
            Turn::SortWords => [4, 0, 0],
            Turn::Count(a) => [5, a.into(), 0],
            Turn::Uncount(a) => [6, a.into(), 0],
            Turn::Append(a, b) => [7, a, b],
            Turn::RemoveList(a) => [8, a, 0],
            Turn::MoveList(a, b) => [9, a, b],
            Turn::Clear => [10, 0, 0],
        };
        format!("{code} {a} {b}\n")
    }

    fn from_line(line: &str) -> Self {
        let numbers: std::vec::Vec<u64> = line
            .split_whitespace()
            .map(|number| number.parse().expect("a number"))
            .collect();
        let (a, b) = (numbers[1], numbers[2]);
        match numbers[0] {
            0 => Turn::PushWord(a as u32),
            1 => Turn::PopWord,
            2 => Turn::GrowWord(a as u32),
            3 => Turn::SwapWords(a as u32, b as u32),
            4 => Turn::SortWords,
            5 => Turn::Count(a as u32),
            6 => Turn::Uncount(a as u32),
            7 => Turn::Append(a, b),
            8 => Turn::RemoveList(a),
            9 => Turn::MoveList(a, b),
            _ => Turn::Clear,
        }
    }

    fn play(self, shared: &mut Shared) -> sharena::Result {
        match self {
            Turn::PushWord(n) => shared.words.push_from(word(n).as_str())?,
            Turn::PopWord => drop(shared.words.pop()),
            Turn::GrowWord(n) => {
                if let Some(last) = shared.words.last_mut() {
                    last.push_str(&word(n))?;
                }
            }
            Turn::SwapWords(a, b) => {
                let len = shared.words.len();
                if len > 0 {
                    shared.words.swap(a as usize % len, b as usize % len);
                }
            }
            Turn::SortWords => shared.words.sort(),
            Turn::Count(n) => *shared.counts.entry(word(n).as_str()).or_default()? += 1,
            Turn::Uncount(n) => drop(shared.counts.remove(word(n).as_str())),
            Turn::Append(key, n) => shared.lists.entry(key).or_default()?.push(n)?,
            Turn::RemoveList(key) => drop(shared.lists.remove(&key)),
            Turn::MoveList(from, to) => {
                let taken = shared.lists.get_mut(&from).map(std::mem::take);
                if let Some(taken) = taken {
                    *shared.lists.entry(to).or_default()? = taken;
                }
            }
            Turn::Clear => *shared = Shared::default(),
        }
        Ok(())
    }

    fn play_model(self, model: &mut Model) {
        match self {
            Turn::PushWord(n) => model.words.push(word(n)),
            Turn::PopWord => drop(model.words.pop()),
            Turn::GrowWord(n) => {
                if let Some(last) = model.words.last_mut() {
                    last.push_str(&word(n));
                }
            }
            Turn::SwapWords(a, b) => {
                let len = model.words.len();
                if len > 0 {
                    model.words.swap(a as usize % len, b as usize % len);
                }
            }
            Turn::SortWords => model.words.sort(),
            Turn::Count(n) => *model.counts.entry(word(n)).or_default() += 1,
            Turn::Uncount(n) => drop(model.counts.remove(&word(n))),
            Turn::Append(key, n) => model.lists.entry(key).or_default().push(n),
            Turn::RemoveList(key) => drop(model.lists.remove(&key)),
            Turn::MoveList(from, to) => {
                if let Some(taken) = model.lists.get_mut(&from).map(std::mem::take) {
                    model.lists.insert(to, taken);
                }
            }
            Turn::Clear => *model = Model::default(),
        }
    }
}

fn snapshot(shared: &Shared) -> Model {
    Model {
        words: shared.words.iter().map(|word| word.to_string()).collect(),
        counts: shared
            .counts
            .iter()
            .map(|(word, &count)| (word.to_string(), count))
            .collect(),
        lists: shared
            .lists
            .iter()
            .map(|(&key, list)| (key, list.to_vec()))
            .collect(),
    }
}

/// The other process.
struct Partner {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    base: usize,
}

impl Partner {
    fn start(name: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("own path"))
            .args(["partner", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the other process starts");
        let to = process.stdin.take().expect("piped");
        let mut from = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = std::string::String::new();
        while !line.contains("base=") {
            line.clear();
            assert!(from.read_line(&mut line).expect("it answers") > 0);
        }
        let base = line.trim().rsplit('=').next().expect("a base");
        let base = base.parse().expect("a number");
        Partner {
            process,
            to,
            from,
            base,
        }
    }

    fn play(&mut self, turn: Turn) {
        self.to
            .write_all(turn.to_line().as_bytes())
            .expect("it listens");
        let mut line = std::string::String::new();
        self.from.read_line(&mut line).expect("it answers");
        assert_eq!(line, "done\n");
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the other process does; nothing when it is run as an ordinary test.
#[test]
fn partner() {
    let Ok(name) = std::env::var(ROLE) else {
        return;
    };
    // So that the arena surely lies elsewhere than in the first process.
    let _room = std::hint::black_box(std::vec![0u8; 64 << 20]);
    let arena = Arena::named(&name).expect("the arena opens");
    let root = arena.root::<Mutex<Shared>>("shared").expect("the root");
    println!("\nbase={}", arena.base().addr());
    for line in std::io::stdin().lines() {
        let turn = Turn::from_line(&line.expect("a line"));
        turn.play(&mut root.lock().expect("the lock"))
            .expect("room");
        println!("done");
    }
}

fn turns() -> impl Strategy<Value = std::vec::Vec<(bool, Turn)>> {
    let turn = prop_oneof![
        4 => (0u32..40).prop_map(Turn::PushWord),
        2 => Just(Turn::PopWord),
        3 => (0u32..40).prop_map(Turn::GrowWord),
        2 => (any::<u32>(), any::<u32>()).prop_map(|(a, b)| Turn::SwapWords(a, b)),
        1 => Just(Turn::SortWords),
        4 => (0u32..60).prop_map(Turn::Count),
        2 => (0u32..60).prop_map(Turn::Uncount),
        5 => (0u64..12, any::<u64>()).prop_map(|(key, n)| Turn::Append(key, n)),
        2 => (0u64..12).prop_map(Turn::RemoveList),
        1 => (0u64..12, 0u64..12).prop_map(|(a, b)| Turn::MoveList(a, b)),
    ];
    proptest::collection::vec((any::<bool>(), turn), 1..120)
}

#[test]
fn taking_turns_at_different_bases() {
    let name = format!("two-processes-{}", std::process::id());
    let arena = Arena::named(&name).expect("the arena opens");
    let root = arena.root::<Mutex<Shared>>("shared").expect("the root");
    let mut partner = Partner::start(&name);
    assert_ne!(arena.base().addr(), partner.base, "both at the same base");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let partner = std::cell::RefCell::new(&mut partner);
    let outcome = runner.run(&turns(), |turns| {
        let mut model = Model::default();
        Turn::Clear.play(&mut root.lock().unwrap()).unwrap();
        for (mine, turn) in turns {
            turn.play_model(&mut model);
            if mine {
                turn.play(&mut root.lock().unwrap()).unwrap();
            } else {
                partner.borrow_mut().play(turn);
            }
            prop_assert_eq!(&snapshot(&root.lock().unwrap()), &model);
        }
        let report = arena.check();
        prop_assert!(report.is_clean(), "{}", report);
        Ok(())
    });
    Arena::unlink_named(&name).expect("the arena goes");
    outcome.unwrap();
}
