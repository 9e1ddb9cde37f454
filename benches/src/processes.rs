//! Work that other processes do: this program again, with a part to play.
//!
//! A worker is started once for all rounds. It reads a line for each thing it is to do, does it, and
//! answers with a line of numbers.

use std::{
    io::{BufRead, BufReader, Write, stdin},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// What a worker is told first.
pub(crate) const WORKER: &str = "--worker";

/// Another process, on a core of its own.
pub(crate) struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a process that plays a part: see `workloads::play`.
    pub(crate) fn start(core: usize, part: &str, arguments: &[&str]) -> Worker {
        let program = std::env::current_exe().expect("this program has a file");
        let mut child = Command::new(program)
            .args([WORKER, &core.to_string(), part])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process can be started");
        let orders = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Worker {
            child,
            orders,
            answers,
        }
    }

    /// Has it do something so many times; it begins at once.
    pub(crate) fn order(&mut self, count: usize) {
        writeln!(self.orders, "{count}").expect("the worker reads");
        self.orders.flush().expect("the worker reads");
    }

    /// What it measured.
    pub(crate) fn answer(&mut self) -> f64 {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        line.trim().parse().expect("it answers with a number")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It would end by itself when there are no more orders, but the arena's last user may be
        // about to measure something else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker does for its life: gives each order to `work`, and its result back.
pub(crate) fn obey(mut work: impl FnMut(usize) -> f64) {
    for order in stdin().lines() {
        let order = order.expect("orders are lines");
        let count = order.parse().expect("orders are numbers");
        println!("{}", work(count));
    }
}
