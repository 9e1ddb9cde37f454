//! What the examples share: starting several processes that each play a part.
//!
//! An example starts its own program again, as separate processes that inherit no memory: they find
//! the arena by its name, as unrelated programs would. Nothing in here is about shared memory.

#![allow(dead_code)] // Each example uses some of it.

use sharena::Arena;
use std::{
    env,
    error::Error,
    ffi::OsStr,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitCode, ExitStatus},
    time::{SystemTime, UNIX_EPOCH},
};

/// What an example can fail with: anything that has a message.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// The environment variable that tells a process its part.
const PART: &str = "SHARENA_EXAMPLE_PART";

/// Runs an example: `play` gets the part of this process, or `None` in the one that the user
/// started. An error is printed, and is exit code 1.
pub(crate) fn run(play: fn(Option<&str>) -> Result) -> ExitCode {
    let part = env::var(PART).ok();
    match play(part.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The error for a part that the example does not have.
pub(crate) fn unknown_part(part: &str) -> Result {
    Err(format!("{PART} is {part:?}, which this example does not know: unset it").into())
}

/// A process of this example. It is killed if it is dropped before it was waited for.
pub(crate) struct Process {
    child: Child,
    part: String,
}

impl Process {
    /// Starts this program again to play `part`, with these arguments.
    pub(crate) fn start<S: AsRef<OsStr>>(part: &str, arguments: &[S]) -> Result<Process> {
        let program = env::current_exe()
            .map_err(|error| format!("could not find out which program this is: {error}"))?;
        let mut command = Command::new(program);
        command.args(arguments).env(PART, part);
        // SAFETY: between `fork` and `exec` this makes one system call, and allocates nothing.
        unsafe { command.pre_exec(die_with_the_parent) };
        match command.spawn() {
            Ok(child) => Ok(Process {
                child,
                part: part.to_owned(),
            }),
            Err(error) => Err(format!("could not start the {part}: {error}").into()),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the process has ended. That it ended well is part of what the example shows.
    pub(crate) fn finish(mut self) -> Result {
        let status = self.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!(
            "the {} (process {}) failed: {status}",
            self.part,
            self.pid()
        )
        .into())
    }

    /// Sends SIGKILL, which no process can catch: it stops between two instructions.
    pub(crate) fn kill(mut self) -> Result {
        self.child.kill()?;
        match self.wait()?.signal() {
            Some(libc::SIGKILL) => Ok(()),
            _ => Err(format!("the {} ended before it was killed", self.part).into()),
        }
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let wait = self.child.wait();
        wait.map_err(|error| format!("could not wait for the {}: {error}", self.part).into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both do nothing where the process was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks the kernel to kill this process when the one that started it dies, so that an example which
/// is interrupted leaves no process behind.
fn die_with_the_parent() -> io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The name of an arena that no other run of the example has. The arena's file is removed when this
/// is dropped.
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn new(example: &str) -> Name {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = time.map_or(0, |time| time.as_nanos());
        Name(format!("{example}-{}-{nanos:x}", std::process::id()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Arena::unlink_named(&self.0);
    }
}

/// The argument at `index`, counted from 1.
pub(crate) fn argument(index: usize) -> Result<String> {
    let argument = env::args_os().nth(index);
    let argument = argument.ok_or_else(|| format!("argument {index} is missing"))?;
    let text = argument.into_string();
    text.map_err(|argument| format!("the argument {argument:?} is not UTF-8").into())
}
