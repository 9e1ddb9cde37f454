//! The workers, as their parent sees them: started, killed, stopped, watched.

use crate::{
    Random,
    front::{Front, Word},
    world::World,
};
use sharena::Result;
use std::{
    ffi::CString,
    io,
    time::{Duration, Instant},
};

/// Survivors that make no progress for so long are stuck. Far above what is promised, since the
/// machine may be busy with other things.
const STUCK: Duration = Duration::from_secs(20);

/// For so long somebody with a long journal is looked for, and somebody with any.
const LONG_ENOUGH: Duration = Duration::from_millis(5);
const TOO_LONG: Duration = Duration::from_millis(20);

/// A child process that runs this program again.
pub(crate) struct Process {
    pid: i32,
    status: Option<i32>,
}

impl Process {
    /// Starts this program with other arguments; if `alone`, as the first process of a PID namespace
    /// of its own.
    pub(crate) fn start(arguments: &[String], alone: bool) -> io::Result<Process> {
        let own = std::env::current_exe()?;
        let whole = std::iter::once(own.to_string_lossy().into_owned());
        let whole: Vec<CString> = whole
            .chain(arguments.iter().cloned())
            .map(|argument| CString::new(argument).expect("no zeroes in arguments"))
            .collect();
        let mut pointers: Vec<_> = whole.iter().map(|argument| argument.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let pid = match alone {
            false => clone(0),
            true => clone(libc::CLONE_NEWPID)
                .or_else(|_| clone(libc::CLONE_NEWPID | libc::CLONE_NEWUSER)),
        }?;
        if pid == 0 {
            // SAFETY: strings that end and a list that ends; the child does nothing else. It dies
            // with its parent.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::execv(pointers[0], pointers.as_ptr());
                libc::_exit(127)
            }
        }
        Ok(Process { pid, status: None })
    }

    pub(crate) fn signal(&self, signal: i32) {
        if self.status.is_none() {
            // SAFETY: a signal to a child of ours that was not waited for.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    pub(crate) fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.wait(0);
    }

    /// The raw status, if the process has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.wait(libc::WNOHANG);
        self.status
    }

    /// What the kernel says of where the process is.
    pub(crate) fn whereabouts(&self) -> String {
        let read = |what| std::fs::read_to_string(format!("/proc/{}/{what}", self.pid));
        ["wchan", "syscall", "stack", "stat"]
            .map(|what| read(what).unwrap_or_default())
            .join("; ")
    }

    fn wait(&mut self, how: i32) {
        if self.status.is_some() {
            return;
        }
        let mut status = 0;
        // SAFETY: waits for a child of ours.
        if unsafe { libc::waitpid(self.pid, &raw mut status, how) } == self.pid {
            self.status = Some(status);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A fork, into new namespaces if the flags say so.
fn clone(flags: i32) -> io::Result<i32> {
    let flags = i64::from(flags | libc::SIGCHLD);
    // SAFETY: without a stack this is a fork; the parent has one thread.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid as i32),
    }
}

/// Whether processes may have PID namespaces of their own here.
pub(crate) fn namespaces_are_permitted() -> bool {
    let arguments = ["--nothing".to_owned()];
    Process::start(&arguments, true).is_ok_and(|mut process| {
        process.wait(0);
        process.status == Some(0)
    })
}

/// The workers.
pub(crate) struct Crowd<'n> {
    name: &'n str,
    alone: bool,
    workers: Vec<Option<Process>>,
}

impl<'n> Crowd<'n> {
    pub(crate) fn new(name: &'n str, size: usize, alone: bool) -> Self {
        let workers = (0..size).map(|_| None).collect();
        Crowd {
            name,
            alone,
            workers,
        }
    }

    /// Starts a worker in each empty place.
    pub(crate) fn fill(&mut self, random: &mut Random) -> Result {
        for (number, place) in self.workers.iter_mut().enumerate() {
            if place.is_none() {
                let mode = if self.alone { "--alone" } else { "--worker" };
                let seed = random.below(u64::MAX).to_string();
                let arguments = [mode, self.name, &number.to_string(), &seed].map(str::to_owned);
                *place = Some(Process::start(&arguments, self.alone)?);
            }
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self, number: usize) {
        self.workers[number] = None;
    }

    pub(crate) fn kill_all(&mut self) {
        self.workers.iter().flatten().for_each(|worker| {
            worker.signal(libc::SIGKILL);
        });
        self.workers.iter_mut().for_each(|place| *place = None);
    }

    fn living(&self) -> usize {
        self.workers.iter().flatten().count()
    }

    /// Waits until every living worker has done something; says how long the slowest took.
    pub(crate) fn await_progress(&mut self, world: &World) -> Result<Duration> {
        let before: Vec<u64> = (0..self.workers.len()).map(|n| world.progress(n)).collect();
        let began = Instant::now();
        for (number, &before) in before.iter().enumerate() {
            while let Some(worker) = &mut self.workers[number]
                && world.progress(number) == before
            {
                if let Some(status) = worker.ended() {
                    return Err(format!("worker {number} ended by itself: {status:#x}").into());
                }
                if began.elapsed() > STUCK {
                    return Err(format!("worker {number} makes no progress").into());
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        Ok(began.elapsed())
    }

    /// Kills somebody in the midst of a section, then whoever recovers it, and whoever recovers
    /// that one. Says how many were killed, and how many recoveries were cut.
    pub(crate) fn kill_recoverers(&mut self, front: &Front, random: &mut Random) -> (u64, u64) {
        let victim = self
            .in_a_section(front, random)
            .unwrap_or_else(|| random.below(self.workers.len() as u64) as usize);
        let mut dead = vec![victim];
        let mut cut = 0;
        if let Some(worker) = &self.workers[victim] {
            worker.signal(libc::SIGKILL);
        }
        while self.living() > dead.len() + 1 {
            let Some((slot, by, number)) = self.somebody_recovers(front, &dead) else {
                break;
            };
            if let Some(worker) = &mut self.workers[number] {
                worker.kill();
            }
            cut += u64::from(front.was_cut(slot, by));
            dead.push(number);
        }
        dead.iter().for_each(|&number| self.kill(number));
        (dead.len() as u64, cut)
    }

    /// A worker in whose journal something is; if one comes by, one with a long journal.
    fn in_a_section(&self, front: &Front, random: &mut Random) -> Option<usize> {
        let slots = front.slots_high();
        let first = random.below(slots);
        let began = Instant::now();
        let mut looks = (first..).map(|n| (n % slots, front.slot(n % slots, Word::Log)));
        let (slot, _) = looks.find(|&(_, log)| {
            let is_long = log >> 56 & 0x7f > 4;
            is_long || log != 0 && began.elapsed() > LONG_ENOUGH || began.elapsed() > TOO_LONG
        })?;
        self.worker_in(front, slot)
    }

    fn worker_in(&self, front: &Front, slot: u64) -> Option<usize> {
        let thread = front.thread_in(slot)? as i32;
        let is_it = |worker: &Option<Process>| worker.as_ref().is_some_and(|w| w.pid == thread);
        self.workers.iter().position(is_it)
    }

    /// Waits a moment for a recovery: the dead slot, the recoverer's, and which worker that is.
    fn somebody_recovers(&self, front: &Front, dead: &[usize]) -> Option<(u64, u64, usize)> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(3) {
            if let Some((slot, by)) = front.recovery()
                && let Some(number) = self.worker_in(front, by)
                && !dead.contains(&number)
            {
                return Some((slot, by, number));
            }
        }
        None
    }

    /// Stops a worker for a while, in a section if one is found there. It may hold a lock: then
    /// others wait, and must not take it. Says whether it was in a section.
    pub(crate) fn stop_one(&mut self, front: &Front, random: &mut Random) -> Result<bool> {
        let found = self.in_a_section(front, random);
        let number = found.unwrap_or(0);
        let Some(worker) = &self.workers[number] else {
            return Ok(false);
        };
        worker.signal(libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(2));
        let slot = front.slot_of_thread(worker.pid as u32);
        let picture = |slot| {
            let words = [Word::Claim, Word::Generation, Word::Log];
            let thread = front.thread_in(slot);
            (thread, words.map(|word| front.slot(slot, word)))
        };
        let before = slot.map(picture);
        std::thread::sleep(Duration::from_millis(1000 + random.below(1500)));
        let after = slot.map(picture);
        worker.signal(libc::SIGCONT);
        if before != after {
            let what =
                format!("a stopped process was taken for dead: {before:x?}, then {after:x?}");
            return Err(what.into());
        }
        Ok(before.is_some_and(|(_, [.., log])| log != 0))
    }
}
