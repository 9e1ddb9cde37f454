//! Faults of the machine: whatever the kernel refuses, and whenever, it is an error, never a panic, a
//! signal or a hang; and the arena is whole, and can be used once the fault is gone.
//!
//! The first part makes each system call of a scenario fail in turn: a tracer lets the kernel refuse
//! the k-th call of a kind, for k = 1, 2, ... until the scenario has no k-th one.
// System calls are refused on x86-64 only.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports))]

mod common;

use common::{Forked, Scratch};
use sharena::{
    Arena, Error, Options, Result, Root, Share,
    collections::{HashMap, String, Vec},
    sync::{Mutex, Semaphore},
};
use std::{fs, path::Path};

const WORD: &str = "a word of more than a few letters";

/// A list with its sum beside it, and words.
#[derive(Share, Default)]
#[repr(C)]
struct Book {
    numbers: Vec<u64>,
    sum: u64,
    words: HashMap<u64, String>,
}

impl Book {
    fn add(&mut self, number: u64) -> Result {
        self.numbers.push(number)?;
        self.sum += number;
        let word = self.words.entry(number).or_default()?;
        if word.is_empty() {
            word.push_str(WORD)?;
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        let sum: u64 = self.numbers.iter().sum();
        let known = |word: &String| word.is_empty() || word == WORD;
        self.sum == sum && self.words.values().all(known)
    }
}

/// Roots that every scenario uses.
struct Roots {
    book: Root<Mutex<Book>>,
    permits: Root<Semaphore>,
}

impl Roots {
    fn of(arena: &Arena) -> Result<Roots> {
        Ok(Roots {
            book: arena.root("book")?,
            permits: arena.root_with("permits", |permits: &mut Semaphore| {
                *permits = Semaphore::new(1);
                Ok(())
            })?,
        })
    }

    fn write(&self, count: u64) -> Result {
        let _permit = self.permits.try_acquire()?;
        let mut book = self.book.lock()?;
        for number in 0..count {
            book.add(number)?;
        }
        Ok(())
    }
}

fn options() -> Options {
    let mut options = Arena::options();
    options.max_size(16 << 20).slots(8);
    options
}

/// Creates, grows, names, unnames, closes and opens again.
fn life(path: &Path) -> Result {
    // SAFETY: only this test uses the file.
    let arena = unsafe { options().create(path) }?;
    let roots = Roots::of(&arena)?;
    roots.write(3000)?;
    let other = arena.root::<Mutex<Vec<u64>>>("other")?;
    other.lock()?.try_extend(0..100_000)?;
    arena.remove("other")?;
    drop((other, roots, arena));
    // SAFETY: as above.
    let arena = unsafe { Arena::open(path) }?;
    Roots::of(&arena)?.write(10)
}

/// The same without a name.
fn short_life() -> Result {
    let arena = options().anonymous()?;
    let roots = Roots::of(&arena)?;
    roots.write(2000)?;
    let private = Arena::options().max_size(1 << 20).in_memory()?;
    Roots::of(&private)?.write(10)
}

/// What must hold once the fault is gone.
fn is_usable(path: &Path) -> Result {
    // SAFETY: only this test uses the file.
    let arena = match unsafe { Arena::open(path) } {
        // SAFETY: as above.
        Err(Error::Missing { .. }) => unsafe { options().create(path) }?,
        found => found?,
    };
    arena.reap()?;
    let report = arena.check();
    if !report.is_clean() {
        return Err(format!("the arena is not in order: {report}").into());
    }
    let roots = Roots::of(&arena)?;
    if roots.permits.available() != 1 {
        return Err("a permit is lost".into());
    }
    let before = roots.book.lock()?.numbers.len();
    roots.write(100)?;
    let book = roots.book.lock()?;
    let whole = book.is_whole() && book.numbers.len() == before + 100;
    whole.then_some(()).ok_or_else(|| "the book is torn".into())
}

/// Runs `f` in a child, which may change its limits and what it has mounted.
fn in_a_child(f: impl FnOnce() -> Result) {
    let mut child = Forked::run(|| match f() {
        Ok(()) => 0,
        Err(Error::Missing { .. }) => SKIPPED,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    });
    let status = child.wait();
    if status == SKIPPED << 8 {
        eprintln!("not permitted here: skipped");
        return;
    }
    assert_eq!(status, 0, "{status:#x}");
}

const SKIPPED: i32 = 77;

fn expect(what: &str, holds: bool) -> Result {
    holds.then_some(()).ok_or_else(|| what.into())
}

fn is_no_space<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::NoSpace { .. }))
}

/// Mounts a tmpfs of a megabyte, which only this process sees.
fn small_file_system(at: &Path) -> bool {
    let target = std::ffi::CString::new(at.to_str().unwrap()).unwrap();
    // SAFETY: valid strings; what is mounted goes with the process.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                c"none".as_ptr(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
            && libc::mount(
                c"tmpfs".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=1m".as_ptr().cast(),
            ) == 0
    }
}

/// Writes until the file system is full.
fn take_all(path: &Path) -> std::io::Result<fs::File> {
    use std::io::Write;
    let mut file = fs::File::create(path)?;
    while file.write_all(&[7; 4096]).is_ok() {}
    while file.write_all(&[7]).is_ok() {}
    Ok(file)
}

#[test]
fn another_file_takes_the_space() {
    let scratch = Scratch::new("faults-space");
    in_a_child(|| {
        if !small_file_system(&scratch.0) {
            return Err(Error::Missing {
                path: scratch.0.clone(),
            });
        }
        let (path, other) = (scratch.0.join("arena"), scratch.0.join("other"));
        // SAFETY: nobody else uses the file.
        let arena = unsafe { options().create(&path) }?;
        let roots = Roots::of(&arena)?;
        roots.write(100)?;
        for round in 0..3 {
            take_all(&other)?;
            let written = roots.write(100_000);
            expect("no space for a container", is_no_space(&written))?;
            let root = arena.root::<Mutex<[[u64; 32]; 32]>>(&format!("large {round}"));
            expect(
                "room for a small root, or an error",
                root.is_ok() || is_no_space(&root),
            )?;
            drop(root);
            let block = std::alloc::Layout::new::<[u8; 200_000]>();
            expect("no space for a span", is_no_space(&arena.alloc(block)))?;
            // A thread that comes now finds its slot, and what was written can be read and changed.
            std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    roots.book.lock()?.sum += 0;
                    expect("the book is torn", roots.book.lock()?.is_whole())
                });
                other.join().unwrap()
            })?;
            // A section whose journal has nowhere to grow to is an error or a panic, and no signal.
            let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut book = roots.book.lock()?;
                book.numbers.iter_mut().for_each(|number| *number += 0);
                Ok::<_, Error>(())
            }));
            if changed.is_err() {
                roots.book.clear_poison()?;
            }
            // SAFETY: as above.
            let second = unsafe { options().create(scratch.0.join("second")) };
            expect("no space for another arena", is_no_space(&second))?;
            fs::remove_file(&other)?;
            is_usable(&path)?;
        }
        drop((roots, arena));
        take_all(&other)?;
        // SAFETY: as above.
        let full = unsafe { Arena::open(&path) }?;
        expect("a full disk harms nobody", full.check().is_clean())?;
        drop(full);
        fs::remove_file(&other)?;
        is_usable(&path)
    });
}

fn limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid limit.
    unsafe { libc::setrlimit(resource, &limit) };
}

/// The kernel would end the process by a signal where it outgrows this limit.
#[test]
fn files_must_stay_small() {
    let scratch = Scratch::new("faults-fsize");
    in_a_child(|| {
        let path = scratch.0.join("arena");
        // SAFETY: nobody else uses the file.
        let arena = unsafe { options().create(&path) }?;
        let roots = Roots::of(&arena)?;
        roots.write(100)?;
        let size = fs::metadata(&path)?.len();
        limit(libc::RLIMIT_FSIZE, size + (1 << 20));
        expect("an error", is_no_space(&roots.write(1_000_000)))?;
        expect(
            "no more than that",
            fs::metadata(&path)?.len() <= size + (1 << 20),
        )?;
        limit(libc::RLIMIT_FSIZE, 4096);
        expect("an error", is_no_space(&roots.write(1_000_000)))?;
        expect("no arena", is_no_space(&options().anonymous()))?;
        // SAFETY: as above.
        let second = unsafe { options().create(scratch.0.join("second")) };
        expect("no arena", is_no_space(&second))?;
        limit(libc::RLIMIT_FSIZE, libc::RLIM_INFINITY);
        drop((roots, arena));
        is_usable(&path)
    });
}

/// Each opener maps all that an arena may ever use.
#[test]
fn addresses_are_few() {
    let scratch = Scratch::new("faults-addresses");
    in_a_child(|| {
        let path = scratch.0.join("arena");
        // SAFETY: nobody else uses the file.
        let create = || unsafe { options().max_size(1 << 34).create(&path) };
        drop(create()?);
        let pages = fs::read_to_string("/proc/self/statm")?;
        let pages: u64 = pages
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        for spare in [0, 1 << 20, 1 << 30] {
            limit(libc::RLIMIT_AS, pages * 4096 + spare);
            // SAFETY: as above.
            let opened = unsafe { Arena::open(&path) };
            let refused = matches!(opened, Err(Error::NoAddressSpace { .. } | Error::Os { .. }));
            expect("no addresses", refused)?;
        }
        limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
        is_usable(&path)
    });
}

/// It may not open the file again, and uses what it inherited.
#[test]
fn a_child_gives_up_its_rights() {
    let scratch = Scratch::new("faults-rights");
    in_a_child(|| {
        let path = scratch.0.join("arena");
        // SAFETY: nobody else uses the file.
        let arena = unsafe { options().create(&path) }?;
        let roots = Roots::of(&arena)?;
        Forked::run(|| {
            // SAFETY: a child of one thread; without rights to do so nothing changes.
            unsafe { (libc::setgid(65534), libc::setuid(65534)) };
            i32::from(roots.write(100).is_err())
        })
        .succeed();
        expect(
            "what the child wrote",
            roots.book.lock()?.numbers.len() == 100,
        )?;
        drop((roots, arena));
        is_usable(&path)
    });
}

/// Makes system calls fail with `ENOSYS` in this process for ever. False if that is impossible.
fn forbid(calls: &[libc::c_long]) -> bool {
    let statement = |code: u32, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let (load, jump, answer) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut filter = vec![statement(load, 0, 0)];
    for &call in calls {
        filter.push(statement(jump, 1, call as u32));
        filter.push(statement(answer, 0, refuse));
    }
    filter.push(statement(answer, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: a valid filter, for this process only.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    }
}

/// Without the calls that newer kernels have, a waiter still gets the lock of a dead holder, and what
/// the holder did is undone.
#[test]
fn older_kernels() {
    let scratch = Scratch::new("faults-older");
    in_a_child(|| {
        if !forbid(&[
            libc::SYS_membarrier,
            libc::SYS_futex_waitv,
            libc::SYS_pidfd_open,
        ]) {
            return Err(Error::Missing {
                path: scratch.0.clone(),
            });
        }
        let path = scratch.0.join("arena");
        // SAFETY: nobody else uses the file.
        let arena = unsafe { options().create(&path) }?;
        let roots = Roots::of(&arena)?;
        roots.write(100)?;
        for _ in 0..5 {
            let (near, far) = std::os::unix::net::UnixStream::pair()?;
            let mut holder = Forked::run(|| {
                let mut book = roots.book.lock().unwrap();
                book.numbers.push(1).unwrap();
                std::io::Write::write_all(&mut &far, &[0]).unwrap();
                loop {
                    std::thread::park();
                }
            });
            std::io::Read::read_exact(&mut &near, &mut [0])?;
            let waiter = Forked::run(|| {
                let waited = roots.book.try_lock_for(common::PATIENCE);
                i32::from(!waited.is_ok_and(|book| book.is_whole() && book.numbers.len() == 100))
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            holder.kill();
            waiter.succeed();
        }
        drop((roots, arena));
        is_usable(&path)
    });
}

/// What the kernel refuses, by the tracer's hand.
#[cfg(target_arch = "x86_64")]
mod refused {
    use super::*;
    use std::time::{Duration, Instant};

    /// No system call has these numbers: from the one to the other, calls are counted.
    const BEGIN: i64 = 5001;
    const END: i64 = 5002;
    const HANG: Duration = Duration::from_secs(60);

    /// What a scenario did under a fault, as its exit code.
    const PASSED: i32 = 10;
    const FAILED: i32 = 11;

    fn mark(number: i64) {
        // SAFETY: there is no such system call: nothing happens.
        unsafe { libc::syscall(number) };
    }

    /// Runs in a child that is traced: the scenario with its fault, then what must hold afterwards.
    fn traced(path: &Path, scenario: fn(&Path) -> Result) -> i32 {
        // SAFETY: plain requests about this process.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
        mark(BEGIN);
        let done = scenario(path);
        mark(END);
        if let Err(error) = is_usable(path) {
            eprintln!("afterwards: {error} (the fault was: {done:?})");
            return 1;
        }
        match done {
            Ok(()) => PASSED,
            Err(_) => FAILED,
        }
    }

    /// How a traced child ended, and whether some call of it was refused.
    struct Traced {
        status: i32,
        refused: bool,
    }

    struct Tracer {
        pid: i32,
        call: i64,
        errno: i32,
        /// Which call is refused,
        nth: u32,
        /// and all that come later, until the scenario ends.
        for_good: bool,
        seen: u32,
        counting: bool,
        began: Instant,
    }

    impl Tracer {
        fn wait(&self) -> i32 {
            let mut status = 0;
            loop {
                // SAFETY: waits for a child of ours.
                let done = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
                if done == self.pid {
                    return status;
                }
                if self.began.elapsed() > HANG {
                    // SAFETY: a child of ours.
                    unsafe { libc::kill(self.pid, libc::SIGKILL) };
                    panic!("a scenario hangs");
                }
                std::hint::spin_loop();
            }
        }

        fn registers(&self) -> libc::user_regs_struct {
            // SAFETY: the kernel fills the local structure.
            unsafe {
                let mut registers = std::mem::zeroed();
                libc::ptrace(libc::PTRACE_GETREGS, self.pid, 0, &raw mut registers);
                registers
            }
        }

        fn set(&self, registers: &libc::user_regs_struct) {
            // SAFETY: the kernel reads the local structure.
            unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.pid, 0, registers) };
        }

        /// Lets the child run to the begin or the end of a system call, or its end.
        fn step(&self, signal: i32) -> i32 {
            // SAFETY: a stopped child of ours.
            unsafe { libc::ptrace(libc::PTRACE_SYSCALL, self.pid, 0, signal) };
            self.wait()
        }

        fn run(mut self) -> Traced {
            self.wait();
            let how = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
            // SAFETY: a stopped child of ours.
            unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, self.pid, 0, how) };
            let mut refused = false;
            let mut signal = 0;
            loop {
                let status = self.step(signal);
                if !libc::WIFSTOPPED(status) {
                    return Traced { status, refused };
                }
                signal = libc::WSTOPSIG(status);
                if signal == libc::SIGTRAP | 0x80 {
                    signal = 0;
                    if self.is_refused() {
                        refused = true;
                        self.refuse();
                        continue;
                    }
                    let status = self.step(0);
                    if !libc::WIFSTOPPED(status) {
                        return Traced { status, refused };
                    }
                }
            }
        }

        /// Whether the call that begins is the one.
        fn is_refused(&mut self) -> bool {
            let call = self.registers().orig_rax as i64;
            self.counting = match call {
                BEGIN => true,
                END => false,
                _ => self.counting,
            };
            self.seen += u32::from(self.counting && call == self.call);
            let due = self.seen == self.nth || self.for_good && self.seen > self.nth;
            self.counting && call == self.call && due
        }

        /// Makes the kernel skip the call, and the child see an error.
        fn refuse(&self) {
            let mut registers = self.registers();
            registers.orig_rax = u64::MAX;
            self.set(&registers);
            self.step(0);
            let mut registers = self.registers();
            registers.rax = i64::from(-self.errno) as u64;
            self.set(&registers);
        }
    }

    /// Makes each call of that number fail in turn, alone or with those that come later. Gives how
    /// many there were.
    fn each(
        name: &str,
        scenario: fn(&Path) -> Result,
        (call, errno): (i64, i32),
        for_good: bool,
    ) -> u32 {
        for nth in 1.. {
            let scratch = Scratch::new(&format!("faults-{name}-{call}"));
            let path = scratch.0.join("arena");
            let child = Forked::run(|| traced(&path, scenario));
            let tracer = Tracer {
                pid: child.pid(),
                call,
                errno,
                nth,
                for_good,
                seen: 0,
                counting: false,
                began: Instant::now(),
            };
            let ended = tracer.run();
            std::mem::forget(child);
            let what = format!("{name}: call {call} number {nth} fails with {errno}");
            let code = libc::WEXITSTATUS(ended.status);
            assert!(libc::WIFEXITED(ended.status), "{what}: {:#x}", ended.status);
            assert!([PASSED, FAILED].contains(&code), "{what}: {code}");
            if !ended.refused {
                assert_eq!(code, PASSED, "{what}");
                return nth - 1;
            }
        }
        0
    }

    /// What the library asks of the kernel, and what it may say.
    const CALLS: [(i64, i32); 16] = [
        (libc::SYS_mmap, libc::ENOMEM),
        (libc::SYS_munmap, libc::ENOMEM),
        (libc::SYS_madvise, libc::ENOMEM),
        (libc::SYS_fallocate, libc::ENOSPC),
        (libc::SYS_ftruncate, libc::ENOSPC),
        (libc::SYS_memfd_create, libc::EMFILE),
        (libc::SYS_linkat, libc::ENOSPC),
        (libc::SYS_openat, libc::EMFILE),
        (libc::SYS_fcntl, libc::ENOLCK),
        (libc::SYS_statx, libc::EIO),
        (libc::SYS_fchmod, libc::EPERM),
        (libc::SYS_getrandom, libc::ENOSYS),
        (libc::SYS_get_robust_list, libc::ENOSYS),
        (libc::SYS_pread64, libc::EIO),
        (libc::SYS_membarrier, libc::ENOSYS),
        (libc::SYS_futex, libc::ENOSYS),
    ];

    fn all(name: &str, scenario: fn(&Path) -> Result) {
        for call in CALLS {
            let count = each(name, scenario, call, false);
            each(name, scenario, call, true);
            println!("{name}: call {} was refused {count} times", call.0);
        }
    }

    #[test]
    fn each_call_of_a_life_fails() {
        all("life", life);
    }

    #[test]
    fn each_call_of_a_short_life_fails() {
        all("short-life", |_| short_life());
    }
}
