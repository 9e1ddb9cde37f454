//! A storm: processes do everything at once in one arena and are killed at random instants. Whoever
//! survives must go on, and nothing may be torn, lost or owned twice.
//!
//! ```text
//! cargo run --release --example storm -- --kills 500 --workers 4
//! ```
//!
//! After each kill there is a quiet phase: nobody is started anew until every survivor has made
//! progress, since a storm that respawns at once hides hangs. After each round all workers are
//! killed, the arena is checked, and its contents are compared with what must hold.
//!
//! * `--stop`: now and then a worker is stopped for some seconds, and must not be taken for dead;
//! * `--namespaces`: each worker is process 1 of a PID namespace of its own;
//! * `--recoverers`: who recovers the dead is killed over it;
//! * `--scribble`: another process writes nonsense over slots, journals, lock words and the heap's
//!   tables, see `scribble.rs`.

mod crowd;
mod format;
mod front;
mod scribble;
mod scribbled;
mod worker;
mod world;

use crowd::Crowd;
use front::Front;
use sharena::{Arena, Result};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use world::World;

/// Kills between two checks of the whole arena.
const ROUND: u64 = 50;
/// For so long the children of killed workers may take to end.
const SOLITUDE: Duration = Duration::from_secs(20);

/// What to do, from the command line.
#[derive(Clone, Copy)]
struct Plan {
    kills: u64,
    workers: usize,
    seed: u64,
    stop: bool,
    namespaces: bool,
    recoverers: bool,
    scribble: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--worker" | "--alone") => return worker::run(&arguments),
        Some("--scribbler") => return scribble::run(&arguments),
        Some("--scribbled") => return scribbled::run(&arguments),
        Some("--inspector") => return scribbled::inspect(&arguments),
        Some("--nothing") => return ExitCode::SUCCESS,
        _ => {}
    }
    let outcome = plan(&arguments).and_then(|plan| {
        let name = format!("storm-{}", std::process::id());
        let outcome = storm(&name, plan);
        let _ = Arena::unlink_named(&name);
        outcome.map_err(|error| error.to_string())
    });
    match outcome {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("storm: {why}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "expected --kills N, --workers W, --seed S, and one of --stop, --namespaces, \
                     --recoverers, --scribble";

fn plan(arguments: &[String]) -> std::result::Result<Plan, String> {
    let mut plan = Plan {
        kills: 500,
        workers: 4,
        seed: u64::from(std::process::id()),
        stop: false,
        namespaces: false,
        recoverers: false,
        scribble: false,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().map(|value| value.parse());
            match value {
                Some(Ok(value)) => Ok(value),
                _ => Err(format!("{argument} needs a number")),
            }
        };
        match argument.as_str() {
            "--kills" => plan.kills = number()?,
            "--workers" => plan.workers = number()?.clamp(2, 32) as usize,
            "--seed" => plan.seed = number()?,
            "--stop" => plan.stop = true,
            "--namespaces" => plan.namespaces = true,
            "--recoverers" => plan.recoverers = true,
            "--scribble" => plan.scribble = true,
            _ => return Err(format!("unknown argument {argument}: {USAGE}")),
        }
    }
    if plan.namespaces && (plan.recoverers || plan.stop) {
        return Err("--namespaces hides which worker a slot belongs to: use it alone".into());
    }
    Ok(plan)
}

/// A small generator of random numbers (xorshift): enough to vary, the same for the same seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// What happened so far.
#[derive(Default)]
struct Score {
    kills: u64,
    checks: u64,
    worst: Duration,
    stops: u64,
    stopped_in_a_section: u64,
    cut: u64,
}

impl Score {
    fn waited(&mut self, time: Duration) {
        self.worst = self.worst.max(time);
    }

    fn text(&self, plan: Plan) -> String {
        let mut text = format!(
            "{} kills, {} checks, worst wait of survivors {:.1?}",
            self.kills, self.checks, self.worst
        );
        if plan.stop {
            text += &format!(
                ", {} stopped ({} in a section) and none taken for dead",
                self.stops, self.stopped_in_a_section
            );
        }
        if plan.recoverers {
            text += &format!(", {} recoveries cut", self.cut);
        }
        text
    }
}

fn storm(name: &str, plan: Plan) -> Result<String> {
    if plan.scribble {
        let mut random = Random::new(plan.seed);
        let outcome = scribble::storm(plan.kills, plan.workers, &mut random)?;
        return Ok(format!("ok: {outcome}"));
    }
    if plan.namespaces && !crowd::namespaces_are_permitted() {
        return Ok("ok: PID namespaces are not permitted here: nothing was done".into());
    }
    let arena = Arena::options().max_size(1 << 30).slots(64).named(name)?;
    let path = arena.path().ok_or("a named arena has a path")?;
    let front = Front::map(path)?;
    let world = World::create(&arena)?;
    let mut random = Random::new(plan.seed);
    let mut crowd = Crowd::new(name, plan.workers, plan.namespaces);
    let mut score = Score::default();
    let started = Instant::now();
    while score.kills < plan.kills {
        crowd.fill(&mut random)?;
        crowd.await_progress(&world)?;
        let end = plan.kills.min(score.kills + ROUND);
        while score.kills < end {
            std::thread::sleep(Duration::from_micros(random.below(3000)));
            one_death(plan, &mut crowd, &front, &mut random, &mut score);
            score.waited(crowd.await_progress(&world)?);
            if plan.stop && random.below(25) == 0 {
                score.stops += 1;
                let in_a_section = crowd.stop_one(&front, &mut random)?;
                score.stopped_in_a_section += u64::from(in_a_section);
                score.waited(crowd.await_progress(&world)?);
            }
            crowd.fill(&mut random)?;
        }
        crowd.kill_all();
        await_solitude(&arena, &front)?;
        world.verify(&arena)?;
        score.checks += 1;
        println!("{}", score.text(plan));
    }
    Ok(format!(
        "ok: {}, {} workers, {} operations, {:.1?} in all",
        score.text(plan),
        plan.workers,
        world.operations(),
        started.elapsed()
    ))
}

fn one_death(
    plan: Plan,
    crowd: &mut Crowd<'_>,
    front: &Front,
    random: &mut Random,
    score: &mut Score,
) {
    if plan.recoverers {
        let (kills, cut) = crowd.kill_recoverers(front, random);
        score.kills += kills;
        score.cut += cut;
    } else {
        crowd.kill(random.below(plan.workers as u64) as usize);
        score.kills += 1;
    }
}

/// Waits until the children that killed workers had forked are dead too.
fn await_solitude(arena: &Arena, front: &Front) -> Result {
    let began = Instant::now();
    loop {
        arena.reap()?;
        if arena.stats().slots_attached <= 1 {
            // One that was killed a moment ago may still be about to attach.
            std::thread::sleep(Duration::from_millis(2));
            if arena.reap()? == 0 && arena.stats().slots_attached <= 1 {
                return Ok(());
            }
        }
        if began.elapsed() > SOLITUDE {
            let taken = front.taken_slots();
            return Err(format!("children of killed workers do not end:{taken}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
