//! The explorer: every state that a model can reach, breadth first.
//!
//! States are told apart by 64 bits of hash; of 10 million states, two share theirs with a
//! probability of about 1 in 400,000. A state costs some 20 bytes, and its whole only while it
//! waits for its turn. What is kept of the way is each state's parent: a trace is found by taking
//! the steps again. Breadth first makes it a shortest one.

use std::{
    collections::VecDeque,
    fmt::Debug,
    hash::{Hash, Hasher},
};

/// A protocol: where it begins, what can happen next, and what must hold.
pub(crate) trait Model {
    type State: Clone + Hash + Debug;

    fn initial(&self) -> Self::State;

    /// Everything that can happen next. Nothing means that the state is terminal.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self::State>);

    /// What holds in every state.
    fn check(&self, state: &Self::State) -> Result<(), String>;

    /// What holds in a terminal state: above all, that nobody waits for ever.
    fn check_end(&self, state: &Self::State) -> Result<(), String>;
}

/// What can happen next in a state.
pub(crate) struct Steps<S> {
    list: Vec<Step<S>>,
}

struct Step<S> {
    actor: usize,
    name: &'static str,
    to: S,
    /// A rule that the step itself breaks.
    broken: Option<&'static str>,
}

impl<S> Steps<S> {
    /// A step of a thread.
    pub(crate) fn add(&mut self, actor: usize, name: &'static str, to: S) {
        self.list.push(Step {
            actor,
            name,
            to,
            broken: None,
        });
    }

    /// A step that breaks a rule, unless `broken` is `None`.
    pub(crate) fn judge(
        &mut self,
        actor: usize,
        name: &'static str,
        to: S,
        broken: Option<&'static str>,
    ) {
        self.list.push(Step {
            actor,
            name,
            to,
            broken,
        });
    }
}

/// What an exploration found.
pub(crate) struct Found {
    pub(crate) states: usize,
    /// States in which nothing can happen any more.
    pub(crate) ends: usize,
    /// What was broken first, and the steps that lead there.
    pub(crate) violation: Option<Violation>,
}

pub(crate) struct Violation {
    pub(crate) what: String,
    pub(crate) trace: String,
}

/// States beyond which an exploration gives up: a back-stop for models that grow by mistake.
const MOST_STATES: usize = 200_000_000;

/// Explores a model to its end, or to the first violation.
pub(crate) fn explore<M: Model>(model: &M) -> Found {
    let mut seen = Seen::new();
    let mut queue = VecDeque::new();
    let mut steps = Steps { list: Vec::new() };
    let mut ends = 0;
    let first = model.initial();
    seen.insert(fingerprint(&first), 0);
    queue.push_back(first);
    let mut number = 0;
    while let Some(state) = queue.pop_front() {
        model.steps(&state, &mut steps);
        let mut broken = None;
        if steps.list.is_empty() {
            ends += 1;
            broken = model.check_end(&state).err().map(|what| (what, None));
        }
        for step in steps.list.drain(..) {
            if broken.is_some() {
                break;
            }
            if let Some(what) = step.broken {
                broken = Some((what.to_owned(), Some((step.actor, step.name))));
            } else if seen.insert(fingerprint(&step.to), number) {
                match model.check(&step.to) {
                    Ok(()) => queue.push_back(step.to),
                    Err(what) => broken = Some((what, Some((step.actor, step.name)))),
                }
            }
        }
        if let Some((what, last)) = broken {
            let violation = Violation {
                what,
                trace: trace(model, &seen.way_to(number), last),
            };
            return Found {
                states: seen.len(),
                ends,
                violation: Some(violation),
            };
        }
        number += 1;
        assert!(seen.len() < MOST_STATES, "the model does not end");
    }
    Found {
        states: seen.len(),
        ends,
        violation: None,
    }
}

/// Takes the steps again whose states have these fingerprints.
fn trace<M: Model>(model: &M, way: &[u64], last: Option<(usize, &str)>) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let mut state = model.initial();
    let mut steps = Steps { list: Vec::new() };
    for &next in &way[1..] {
        model.steps(&state, &mut steps);
        let step = steps
            .list
            .drain(..)
            .find(|step| fingerprint(&step.to) == next)
            .expect("the steps of a model depend on nothing but the state");
        let _ = writeln!(text, "  {} {}", name_of(step.actor), step.name);
        state = step.to;
    }
    if let Some((actor, name)) = last {
        let _ = writeln!(text, "  {} {name}   <- here", name_of(actor));
    }
    let _ = write!(text, "  in the state {state:?}");
    text
}

fn name_of(actor: usize) -> char {
    char::from(b'A' + actor as u8)
}

/// The fingerprints of states, in the order in which they were found, and their parents.
struct Seen {
    prints: Vec<u64>,
    parents: Vec<u32>,
    /// Open addressing: numbers of states plus 1; 0 is empty.
    table: Vec<u32>,
}

impl Seen {
    fn new() -> Self {
        Seen {
            prints: Vec::new(),
            parents: Vec::new(),
            table: vec![0; 1 << 16],
        }
    }

    fn len(&self) -> usize {
        self.prints.len()
    }

    /// Adds a state found from the one with the number `parent`. `false` if it was known.
    fn insert(&mut self, print: u64, parent: u32) -> bool {
        if self.len() * 4 > self.table.len() * 3 {
            self.grow();
        }
        let place = self.place_of(print);
        if self.table[place] != 0 {
            return false;
        }
        self.prints.push(print);
        self.parents.push(parent);
        self.table[place] = self.len() as u32;
        true
    }

    /// Where a fingerprint is, or belongs.
    fn place_of(&self, print: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut place = print as usize & mask;
        loop {
            let number = self.table[place];
            if number == 0 || self.prints[number as usize - 1] == print {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    fn grow(&mut self) {
        self.table = vec![0; self.table.len() * 2];
        for number in 0..self.len() {
            let place = self.place_of(self.prints[number]);
            self.table[place] = number as u32 + 1;
        }
    }

    fn way_to(&self, number: u32) -> Vec<u64> {
        let mut way = vec![self.prints[number as usize]];
        let mut number = number;
        while number != 0 {
            number = self.parents[number as usize];
            way.push(self.prints[number as usize]);
        }
        way.reverse();
        way
    }
}

fn fingerprint<S: Hash>(state: &S) -> u64 {
    let mut hasher = Fold(0x243f_6a88_85a3_08d3);
    state.hash(&mut hasher);
    hasher.finish()
}

/// A hash by folded multiplication, eight bytes at a time.
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        fold(self.0, 0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, 0xa076_1d64_78bd_642f).wrapping_add(0xe703_7ed1_a0b4_28db);
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
