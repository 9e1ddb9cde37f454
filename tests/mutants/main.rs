//! Negative controls: each rule that can be broken (`src/mutant.rs`) makes a proof fail, which
//! passes with the rule kept.
//!
//! ```text
//! cargo test --release --features mutants --test mutants [-- part of a name]
//! ```
//!
//! A proof runs in a process of its own: this program, started with the name of the proof. What
//! is left to races is left to none here: *scenes* stop a thread between two steps, let others act,
//! and then look at what a death at this instant leaves.

// What operations are stepped through by: the rooms of `tests/crash_step`.
#![allow(clippy::unit_arg)]

#[path = "../crash_step/cases/mod.rs"]
mod cases;
#[path = "../crash_step/image.rs"]
mod image;
#[path = "../model/mutant.rs"]
#[allow(dead_code)]
mod model;
#[path = "../crash_step/plan.rs"]
#[allow(dead_code)]
mod plan;
mod proofs;
#[path = "../crash_step/prove.rs"]
#[allow(dead_code)]
mod prove;
mod scenes;
#[path = "../crash_step/start.rs"]
mod start;
#[path = "../crash_step/stepper/mod.rs"]
#[allow(dead_code)]
mod stepper;
mod steps;
#[path = "../crash_step/subject.rs"]
#[allow(dead_code)]
mod subject;
#[path = "../crash_step/survivor.rs"]
mod survivor;

use model::Mutant as Model;
use std::{
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// A proof that lasts longer has failed: somebody waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// A rule that can be broken, and what notices.
struct Control {
    mutant: &'static str,
    proof: &'static str,
    /// The rule in the models of `tests/model`, which assert that they notice too.
    model: Option<Model>,
}

const fn control(mutant: &'static str, proof: &'static str, model: Option<Model>) -> Control {
    Control {
        mutant,
        proof,
        model,
    }
}

const CONTROLS: &[Control] = &[
    control(
        "no_journal",
        "step: section: two locks",
        Some(Model::NoJournal),
    ),
    control(
        "no_record",
        "step: section: two locks",
        Some(Model::RecordLate),
    ),
    control("fill_unrecorded", "step: map: replace all", None),
    control(
        "fill_unrecorded",
        "step: plain map: remove and put back another value",
        None,
    ),
    control("publish_first", "step: vec: push", Some(Model::SpanUnnamed)),
    control("permits_kept", "step: semaphore", Some(Model::PermitsKept)),
    control("no_redo", "step: semaphore", Some(Model::NoRedo)),
    control(
        "free_before_commit",
        "step: vec: remove",
        Some(Model::FreeFirst),
    ),
    control("drops_unnoted", "step: overflow: record and drop", None),
    control(
        "release_first",
        "scene: the end of a section",
        Some(Model::ReleaseFirst),
    ),
    control(
        "section_releases_early",
        "scene: the midst of a scope",
        Some(Model::ReleaseEarly),
    ),
    control(
        "snapshot_permits",
        "scene: a snapshot while others take permits",
        None,
    ),
    control(
        "snapshot_unlocked",
        "scene: a snapshot while others write",
        None,
    ),
    control(
        "reads_released_early",
        "scene: the midst of a scope that reads",
        None,
    ),
    control(
        "reader_looks_once",
        "scene: a slow reader",
        Some(Model::ReaderLooksOnce),
    ),
    control("stamps_start_again", "scene: a slot's second owner", None),
    control(
        "no_doubt",
        "scene: a free that is repeated",
        Some(Model::NoDoubt),
    ),
    control(
        "no_doubt_check",
        "scene: a free that is repeated",
        Some(Model::NoDoubtCheck),
    ),
    control("no_done", "scene: two frees", Some(Model::DoneLate)),
    control(
        "done_kept",
        "scene: frees in two sections",
        Some(Model::DoneKept),
    ),
    control(
        "claim_keeps_done",
        "scene: a slot's next owner frees",
        Some(Model::ClaimKeepsDone),
    ),
    control(
        "free_any_span",
        "scene: a span's free that is repeated",
        Some(Model::FreeAnySpan),
    ),
    control(
        "generation_first",
        "scene: the midst of a recovery",
        Some(Model::GenerationFirst),
    ),
    control(
        "reap_living",
        "scene: a slow claimant",
        Some(Model::ReapLiving),
    ),
    control("claim_before_life", "scene: a successor at work", None),
    control("no_generation", "step: section: two locks", None),
    control(
        "no_second_look",
        "scene: a late recoverer",
        Some(Model::NoSecondLook),
    ),
    control(
        "keep_log",
        "scene: recoverers that are killed",
        Some(Model::KeepLog),
    ),
    control(
        "slabs_last",
        "scene: a quick successor",
        Some(Model::ClaimFirst),
    ),
    control(
        "no_life_word",
        "scene: a holder that is killed",
        Some(Model::NoLifeWord),
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, proof] = arguments.as_slice()
        && mode == "--prove"
    {
        proofs::run(proof);
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.iter().find(|one| !one.starts_with('-'));
    let failures = run_all(|control| wanted.is_none_or(|part| control.mutant.contains(part)));
    println!("\nmutants: {} failures", failures);
    ExitCode::from(u8::from(failures != 0))
}

/// Runs the controls that are wanted. Gives how many of them, or of the proofs, are not as they
/// should be.
fn run_all(is_wanted: impl Fn(&Control) -> bool) -> usize {
    let wanted: Vec<_> = CONTROLS.iter().filter(|one| is_wanted(one)).collect();
    let mut proofs: Vec<_> = wanted.iter().map(|control| control.proof).collect();
    proofs.sort_unstable();
    proofs.dedup();
    let mut failures = missing();
    for proof in proofs {
        let outcome = prove(proof, None);
        println!("{:24} {proof:34} {}", "(all rules kept)", outcome.text());
        failures += usize::from(!outcome.passed);
    }
    for control in wanted {
        let outcome = prove(control.proof, Some(control.mutant));
        let model = control
            .model
            .map_or(String::new(), |model| format!(" [model: {model:?}]"));
        println!(
            "{:24} {:34} {}{model}",
            control.mutant,
            control.proof,
            outcome.text()
        );
        failures += usize::from(outcome.passed);
    }
    failures
}

/// Mutants that no control is about.
fn missing() -> usize {
    let is_here = |name: &&str| CONTROLS.iter().any(|control| control.mutant == *name);
    let missing = sharena::mutant::names()
        .iter()
        .filter(|name| !is_here(name));
    missing
        .inspect(|name| println!("{name:24} no proof is said to notice"))
        .count()
}

struct Outcome {
    passed: bool,
    /// What the proof said last.
    said: String,
    time: Duration,
}

impl Outcome {
    fn text(&self) -> String {
        let verdict = if self.passed { "passes" } else { "FAILS" };
        let said: String = self.said.chars().take(100).collect();
        format!("{verdict} in {:.1} s: {said}", self.time.as_secs_f32())
    }
}

/// Runs a proof in another process, with a rule broken or not.
fn prove(proof: &str, mutant: Option<&str>) -> Outcome {
    let began = Instant::now();
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command
        .args(["--prove", proof])
        .env_remove("SHARENA_MUTANT")
        .env_remove("SHARENA_STEP")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(mutant) = mutant {
        command.env("SHARENA_MUTANT", mutant);
    }
    let mut child = command.spawn().expect("a proof starts");
    let pid = child.id() as i32;
    let mut stderr = child.stderr.take().expect("a pipe");
    let reader = std::thread::spawn(move || std::io::read_to_string(&mut stderr));
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            // SAFETY: a child of ours that was not waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = reader.join().ok().and_then(Result::ok).unwrap_or_default();
    Outcome {
        passed: status.is_some_and(|status| status.success()),
        said: match status {
            Some(_) => telling_line(&said).to_owned(),
            None => "it does not end".to_owned(),
        },
        time: began.elapsed(),
    }
}

/// The line that says most: what follows a panic's place, or else the last.
fn telling_line(text: &str) -> &str {
    let mut lines = text.lines();
    let panicked = lines.by_ref().find(|line| line.contains("panicked at"));
    match panicked {
        Some(_) => lines.next().unwrap_or(""),
        None => text.lines().last().unwrap_or(""),
    }
}
