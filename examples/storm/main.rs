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

mod worker;
mod world;

use sharena::Arena;
use std::{
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};
use world::World;

/// Kills between two checks of the whole arena.
const ROUND: u64 = 50;
/// Survivors that make no progress for so long are stuck. Far above what is promised, since the
/// machine may be busy with other things.
const STUCK: Duration = Duration::from_secs(10);

/// What to do, from the command line.
#[derive(Clone, Copy)]
struct Plan {
    kills: u64,
    workers: usize,
    seed: u64,
    /// Stop a worker for some seconds now and then: it must not be taken for dead.
    stop: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, name, number, seed] = arguments.as_slice()
        && mode == "--worker"
    {
        return worker::run(name, number, seed);
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

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let mut plan = Plan {
        kills: 500,
        workers: 4,
        seed: u64::from(std::process::id()),
        stop: false,
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
            _ => {
                return Err(format!(
                    "unknown argument {argument}: expected --kills N, --workers W, --seed S, --stop"
                ));
            }
        }
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

fn storm(name: &str, plan: Plan) -> sharena::Result<String> {
    let arena = Arena::options().max_size(1 << 30).slots(64).named(name)?;
    let world = World::create(&arena)?;
    let mut random = Random::new(plan.seed);
    let mut crowd = Crowd::new(name, plan);
    let (mut killed, mut worst) = (0, Duration::ZERO);
    let started = Instant::now();
    while killed < plan.kills {
        crowd.fill(&mut random);
        crowd.await_progress(&world)?;
        for _ in 0..ROUND.min(plan.kills - killed) {
            std::thread::sleep(Duration::from_micros(random.below(3000)));
            crowd.kill(random.below(plan.workers as u64) as usize);
            killed += 1;
            worst = worst.max(crowd.await_progress(&world)?);
            if plan.stop && random.below(25) == 0 {
                worst = worst.max(crowd.stop_one(&mut random, &world)?);
            }
            crowd.fill(&mut random);
        }
        crowd.kill_all();
        await_solitude(&arena)?;
        world.verify(&arena)?;
        println!("{killed} kills, worst wait of survivors {worst:.1?}, arena in order");
    }
    Ok(format!(
        "ok: {killed} kills of {} workers, {} operations, worst wait {worst:.1?}, {:.1?} in all",
        plan.workers,
        world.operations(),
        started.elapsed()
    ))
}

/// Waits until the children that killed workers had forked are dead too.
fn await_solitude(arena: &Arena) -> sharena::Result {
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
        if began.elapsed() > STUCK {
            return Err("children of killed workers do not end".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The workers.
struct Crowd<'n> {
    name: &'n str,
    workers: Vec<Option<Child>>,
}

impl<'n> Crowd<'n> {
    fn new(name: &'n str, plan: Plan) -> Self {
        let workers = (0..plan.workers).map(|_| None).collect();
        Crowd { name, workers }
    }

    /// Starts a worker in each empty place.
    fn fill(&mut self, random: &mut Random) {
        for (number, place) in self.workers.iter_mut().enumerate() {
            if place.is_some() {
                continue;
            }
            let seed = random.below(u64::MAX);
            let child = Command::new(std::env::current_exe().expect("own path"))
                .args([
                    "--worker",
                    self.name,
                    &number.to_string(),
                    &seed.to_string(),
                ])
                .stdin(Stdio::null())
                .spawn();
            *place = Some(child.expect("a worker starts"));
        }
    }

    fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.workers[number].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn kill_all(&mut self) {
        for number in 0..self.workers.len() {
            self.kill(number);
        }
    }

    /// Waits until every living worker has done something; says how long the slowest took.
    fn await_progress(&mut self, world: &World) -> sharena::Result<Duration> {
        let before: Vec<u64> = (0..self.workers.len()).map(|n| world.progress(n)).collect();
        let began = Instant::now();
        for (number, &before) in before.iter().enumerate() {
            while self.workers[number].is_some() && world.progress(number) == before {
                if let Some(child) = &mut self.workers[number]
                    && let Ok(Some(status)) = child.try_wait()
                {
                    return Err(format!("worker {number} ended by itself: {status}").into());
                }
                if began.elapsed() > STUCK {
                    return Err(format!("worker {number} makes no progress").into());
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(began.elapsed())
    }

    /// Stops a worker for a while. It may hold a lock: then others wait, and must not take it.
    fn stop_one(&mut self, random: &mut Random, world: &World) -> sharena::Result<Duration> {
        let number = random.below(self.workers.len() as u64) as usize;
        if let Some(child) = &self.workers[number] {
            let pid = child.id() as i32;
            // SAFETY: signals to a child of ours that was not waited for.
            unsafe { libc::kill(pid, libc::SIGSTOP) };
            std::thread::sleep(Duration::from_secs(1));
            // SAFETY: as above.
            unsafe { libc::kill(pid, libc::SIGCONT) };
        }
        self.await_progress(world)
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        self.kill_all();
    }
}
