//! One operation from one start state.

use crate::{
    image::{Images, Sparse},
    plan::Plan,
    start::{Condition, in_a_thread, relieve, small, spares_are_sound},
    stepper::{self, IN_PLACE, Pace},
    subject::Subject,
    survivor::{First, act_first, unless_full},
};
use sharena::Arena;
use std::fmt::{self, Debug};

/// Kills of recoverers of killed recoverers and so on, at most: a back-stop, since the list of
/// states that are really different ends by itself.
const DEEPEST: usize = 12;

/// Of recoveries that leave more new states than this, as they put back long ranges, only some are
/// stepped through: each is much like the one before, and all of them together take hours.
const LONG_RECOVERY: usize = 100;

/// The same where all recoveries together left so many.
const MANY_IMAGES: usize = 40_000;

/// New states that such recoveries may leave from there on, about.
const LONG_IMAGES: usize = 10_000;

/// What was done, in numbers.
#[derive(Default, Debug, Clone, Copy)]
pub(crate) struct Tally {
    /// Instruction boundaries at which something was stopped,
    pub(crate) boundaries: usize,
    /// and boundaries behind stores, where the others were left out.
    pub(crate) stores: usize,
    pub(crate) images: usize,
    /// Of these, those of the operation itself.
    pub(crate) outer: usize,
    /// Recoveries that were stepped through.
    pub(crate) nested: usize,
    /// Images at which a survivor acted first.
    pub(crate) survived: usize,
    /// Images that were seen, and not looked at.
    pub(crate) skipped: usize,
    pub(crate) violations: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        let sums = self.to_numbers().into_iter().zip(other.to_numbers());
        *self = Tally::from_numbers(sums.map(|(one, another)| one + another));
    }

    /// All of it, for [`from_numbers`](Self::from_numbers).
    pub(crate) fn to_numbers(self) -> [usize; 8] {
        [
            self.boundaries,
            self.stores,
            self.images,
            self.outer,
            self.nested,
            self.survived,
            self.skipped,
            self.violations,
        ]
    }

    pub(crate) fn from_numbers(numbers: impl Iterator<Item = usize>) -> Self {
        let numbers: Vec<usize> = numbers.collect();
        let &[
            boundaries,
            stores,
            images,
            outer,
            nested,
            survived,
            skipped,
            violations,
        ] = &numbers[..]
        else {
            panic!("eight numbers, not {}", numbers.len());
        };
        Tally {
            boundaries,
            stores,
            images,
            outer,
            nested,
            survived,
            skipped,
            violations,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "boundaries: {} and {} behind stores, images: {} (of operations {}, recoveries stepped {}, \
             survivors first {}) violations: {}",
            self.boundaries,
            self.stores,
            self.images,
            self.outer,
            self.nested,
            self.survived,
            self.violations
        )
    }
}

/// One operation from one start state, while it is proved.
struct Proof<'s, S: 'static> {
    subject: &'s Subject<S>,
    name: String,
    /// What may be seen after a death.
    allowed: Vec<S>,
    tally: Tally,
}

/// Steps through an operation, and proves that every kill leaves what was before or what came after.
pub(crate) fn prove<S: PartialEq + Debug + Send>(
    subject: &Subject<S>,
    (operation, start): (usize, usize),
    plan: &Plan,
) -> Tally {
    let (operation, start) = (&subject.operations[operation], &subject.starts[start]);
    let (recording, alive) = in_a_thread(|| {
        let arena = start.make();
        let touched = start.condition != Condition::Unattached;
        let before = touched.then(|| (subject.observe)(&arena));
        let recording = stepper::step(arena.base(), arena.addresses(), subject.pace, || {
            run(operation.run, &arena)
        });
        let after = IN_PLACE.then(|| (subject.observe)(&arena));
        (recording, [before, after])
    });
    let mut allowed = vec![
        recovered(subject, recording.first()),
        recovered(subject, &recording.last()),
    ];
    if subject.outlives {
        for (alive, recovered) in alive.iter().zip(&allowed) {
            let same = alive.as_ref().is_none_or(|alive| alive == recovered);
            assert!(same, "{alive:?} came out as {recovered:?}");
        }
    }
    allowed.extend(operation.parts.iter().map(|part| {
        let image = in_a_thread(|| {
            let arena = start.make();
            run(*part, &arena);
            arena.image()
        });
        recovered(subject, &image)
    }));
    let mut proof = Proof {
        subject,
        name: format!("{}: {}, {}", subject.name, operation.name, start.name),
        allowed,
        tally: Tally::default(),
    };
    match subject.pace {
        Pace::Instructions => proof.tally.boundaries = recording.boundaries,
        Pace::Stores => proof.tally.stores = recording.boundaries,
    }
    proof.work(&recording, plan);
    proof.tally
}

/// Steps through an operation and a recovery in all ways, from the same bytes, and compares the crash
/// states.
#[cfg(target_arch = "x86_64")]
pub(crate) fn compare<S>(subject: &Subject<S>, (operation, start): (usize, usize)) {
    let operation = &subject.operations[operation];
    let image = in_a_thread(|| subject.starts[start].make().image());
    let recordings = in_all_ways(&image, false, &|arena| run(operation.run, arena));
    let what = format!("{}: {}", subject.name, operation.name);
    must_agree(&what, &recordings);
    let middle = recordings[0].half_way();
    let recordings = in_all_ways(&middle, true, &|arena| {
        arena.reap().expect("the dead are recovered");
    });
    must_agree(&format!("recovery of {what}"), &recordings);
}

#[cfg(target_arch = "x86_64")]
fn in_all_ways(
    image: &[u8],
    leave_the_dead: bool,
    f: &(dyn Fn(&Arena) + Sync),
) -> [stepper::Recording; 3] {
    let by = |step: fn(&Arena, Pace, &dyn Fn()) -> stepper::Recording, pace: Pace| {
        let once = || {
            let mut options = small();
            options.leave_the_dead(leave_the_dead);
            let arena = options.from_image(image).expect("an image opens");
            step(&arena, pace, &|| f(&arena))
        };
        if pace == Pace::Stores {
            // For a first time, so that it is known where breakpoints go.
            in_a_thread(once);
        }
        in_a_thread(once)
    };
    let by_flag = |arena: &Arena, pace, f: &dyn Fn()| {
        stepper::trap_flag::step(arena.base(), arena.addresses(), pace, f)
    };
    let by_ptrace = |arena: &Arena, pace, f: &dyn Fn()| {
        stepper::ptrace::step(arena.base(), arena.addresses(), pace, f)
    };
    [
        by(by_flag, Pace::Instructions),
        by(by_flag, Pace::Stores),
        by(by_ptrace, Pace::Instructions),
    ]
}

#[cfg(target_arch = "x86_64")]
fn must_agree(what: &str, recordings: &[stepper::Recording; 3]) {
    let [flag, stores, ptrace] = recordings.each_ref().map(|recording| {
        let mut images = Images::new(recording.first());
        images.for_each_new(recording, |_| ());
        images.names()
    });
    println!(
        "{what}: images: {} at each instruction, {} behind stores, {} by ptrace",
        flag.len(),
        stores.len(),
        ptrace.len()
    );
    assert!(flag.len() > 1);
    assert!(flag == stores && flag == ptrace, "the same crash states");
}

/// Runs an operation. There may be no room for it: then it did as much as it did.
fn run(operation: crate::subject::Act, arena: &Arena) {
    unless_full(operation(arena)).expect("an operation fails only where there is no room");
}

fn recovered<S>(subject: &Subject<S>, image: &[u8]) -> S {
    let arena = small().from_image(image).expect("an image opens");
    (subject.observe)(&arena)
}

impl<S: PartialEq + Debug> Proof<'_, S> {
    /// Handles crash states until none is new.
    fn work(&mut self, recording: &stepper::Recording, plan: &Plan) {
        let mut images = Images::new(recording.first());
        let mut list: Vec<(usize, Sparse)> = Vec::new();
        images.for_each_new(recording, |sparse| list.push((0, sparse)));
        self.tally.outer = list.len();
        let stride = list.len().div_ceil(plan.images_most);
        let seen = list.len();
        list = list.into_iter().step_by(stride).collect();
        self.tally.skipped = seen - list.len();
        let mut nested_most = match self.subject.pace {
            Pace::Instructions => plan.nested_most,
            Pace::Stores => plan.long_nested_most,
        };
        // Of many, not the last ones only.
        let mut nested_every = plan.nested_every.max(match self.subject.pace {
            Pace::Instructions => 1,
            Pace::Stores => list.len() / nested_most,
        });
        let mut long = false;
        while let Some((depth, sparse)) = list.pop() {
            let image = images.apply(&sparse);
            let at = self.tally.images;
            self.tally.images += 1;
            self.note(at, "recovered", self.judge(&image));
            if at.is_multiple_of(plan.survivors_every) {
                self.survive(at, depth, &image);
            }
            let nested = depth < DEEPEST && at.is_multiple_of(nested_every);
            if nested && self.tally.nested < nested_most {
                let nested = recovery(&image, Pace::Stores);
                self.tally.nested += 1;
                self.tally.stores += nested.boundaries;
                let before = list.len();
                images.for_each_new(&nested, |sparse| list.push((depth + 1, sparse)));
                let new = list.len() - before;
                let many = self.tally.images + list.len() > MANY_IMAGES;
                if (new > LONG_RECOVERY || many) && !long {
                    long = true;
                    let more = (LONG_IMAGES / new.max(1)).clamp(1, plan.long_nested_most);
                    nested_most = nested_most.min(self.tally.nested + more);
                    nested_every = nested_every.max(list.len() / more);
                }
            }
        }
    }

    fn note(&mut self, at: usize, how: &str, judged: Result<(), String>) {
        if let Err(why) = judged {
            self.tally.violations += 1;
            if self.tally.violations <= 3 {
                eprintln!("VIOLATION: {}: image {at}, {how}: {why}", self.name);
            }
        }
    }

    /// Recovers at once.
    fn judge(&self, image: &[u8]) -> Result<(), String> {
        let arena = small().from_image(image).map_err(say)?;
        self.is_right(&arena)
    }

    /// Lets survivors act first: in both ways at what an operation leaves, in turns at what a recovery
    /// does.
    fn survive(&mut self, at: usize, depth: usize, image: &[u8]) {
        let observe = self.subject.observe;
        self.tally.survived += 1;
        let ways = match (depth, at % 8 < 4) {
            (0, _) => &[First::Beside, First::Lock][..],
            (_, true) => &[First::Beside],
            (_, false) => &[First::Lock],
        };
        for &first in ways {
            let touch = move |arena: &Arena| drop(observe(arena));
            let judged = act_first(image, first, touch)
                .map_err(say)
                .and_then(|arena| {
                    arena.reap().map_err(say)?;
                    self.is_right(&arena)
                });
            self.note(at, &format!("a survivor first: {first:?}"), judged);
        }
    }

    /// Whether all is in order, as it was before or came after; and whether it can be used.
    fn is_right(&self, arena: &Arena) -> Result<(), String> {
        check(arena)?;
        let found = (self.subject.observe)(arena);
        if !self.allowed.contains(&found) {
            return Err(format!(
                "neither before nor after:\n allowed {:?}\n found   {found:?}",
                self.allowed
            ));
        }
        relieve(arena).map_err(say)?;
        (self.subject.go_on)(arena).map_err(say)?;
        if !spares_are_sound(arena).map_err(say)? {
            return Err("spare blocks were overwritten".into());
        }
        check(arena)
    }
}

/// The recovery of a crash state, stepped through.
fn recovery(image: &[u8], pace: Pace) -> stepper::Recording {
    let arena = small()
        .leave_the_dead(true)
        .from_image(image)
        .expect("an image opens");
    stepper::step(arena.base(), arena.addresses(), pace, || {
        arena.reap().expect("the dead are recovered");
    })
}

fn say(error: sharena::Error) -> String {
    error.to_string()
}

fn check(arena: &Arena) -> Result<(), String> {
    let report = arena.check();
    if !report.is_clean() {
        return Err(report.to_string());
    }
    Ok(())
}
