//! Deaths that the kernel marks, and those that it does not: by forked children.

use std::{
    cell::UnsafeCell, fs::File, mem::MaybeUninit, os::fd::AsFd, sync::atomic::Ordering::Acquire,
    thread, time::Duration,
};

use super::*;
use crate::os::{
    file,
    testing::{Child, eventually, sleep_for_ever},
};

const PAGE: usize = 4096;

/// A file of slots, as the arena's own mapping shows it.
struct Slots {
    file: File,
    start: *mut u8,
    count: usize,
}

impl Slots {
    fn new(count: usize) -> Slots {
        assert_eq!(memory::page_size(), PAGE, "the tests assume pages of 4 KiB");
        let file = file::memfd("slots").unwrap();
        file.set_len((count * PAGE) as u64).unwrap();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let len = count * PAGE;
        // SAFETY: the kernel chooses a free range; unmapped by drop only.
        let start =
            unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, &file, 0) }.unwrap();
        Slots {
            file,
            start: start.cast(),
            count,
        }
    }

    fn at<T>(&self, slot: usize, offset: usize) -> &T {
        // SAFETY: inside the mapping; the tests ask for atomics and mutexes, at places that
        // are aligned for them.
        unsafe { &*self.start.add(slot * PAGE + offset).cast::<T>() }
    }

    fn word(&self, slot: usize) -> &AtomicU32 {
        self.at(slot, PAGE - WORD_FROM_PAGE_END)
    }

    fn died(&self, slot: usize) -> bool {
        self.word(slot).load(Acquire) & !WAITERS == OWNER_DIED
    }

    fn link(&self, slot: usize) -> io::Result<LifeNode> {
        // SAFETY: each test gives a slot to one thread at a time.
        unsafe { LifeNode::link(self.file.as_fd(), (slot * PAGE) as u64, PAGE) }
    }

    /// Links a slot until the calling thread ends.
    fn link_for_good(&self, slot: usize) {
        let _linked = self.link(slot).unwrap();
    }

    /// Forks a child that runs `f` and sleeps; returns when it does.
    fn fork_and_sleep(&self, f: impl FnOnce()) -> Child {
        self.fork_until_ready(|ready| {
            f();
            ready.store(1, SeqCst);
            sleep_for_ever()
        })
    }

    /// Forks a child that runs `f`; returns when `f` has stored 1.
    fn fork_until_ready(&self, f: impl FnOnce(&AtomicU32)) -> Child {
        let ready: &AtomicU32 = self.at(0, 0);
        ready.store(0, SeqCst);
        let child = Child::fork(|| f(ready));
        eventually("the child is ready", || ready.load(SeqCst) == 1);
        child
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: our own mapping, borrowed by nobody.
        let _ = unsafe { munmap(self.start.cast(), self.count * PAGE) };
    }
}

// SAFETY: the tests reach what is in the slots as atomics and pthread mutexes only.
unsafe impl Sync for Slots {}

/// Unlinks a node that the calling thread linked.
fn unlink(node: LifeNode) {
    // SAFETY: the tests call it in the linking thread, or to see that it refuses.
    unsafe { node.unlink() }
}

#[test]
fn every_death_is_marked() {
    let slots = Slots::new(2);
    for _ in 0..50 {
        slots.word(1).store(0, SeqCst);
        let child = slots.fork_and_sleep(|| slots.link_for_good(1));
        assert_eq!(slots.word(1).load(Acquire), child.pid as u32);
        child.kill();
        assert!(slots.died(1));
    }
}

#[test]
fn an_unlinked_word_is_zero_and_is_not_marked() {
    let slots = Slots::new(2);
    Child::fork(|| unlink(slots.link(1).unwrap())).succeed();
    assert_eq!(slots.word(1).load(Acquire), 0);
    slots
        .fork_and_sleep(|| unlink(slots.link(1).unwrap()))
        .kill();
    assert_eq!(slots.word(1).load(Acquire), 0);
}

#[test]
fn one_takes_the_place_of_a_dead_thread() {
    let slots = Slots::new(2);
    let link_over = |mark| {
        // SAFETY: the slot is that of a dead child.
        unsafe { LifeNode::link_over(slots.file.as_fd(), PAGE as u64, PAGE, mark) }.unwrap()
    };
    slots.fork_and_sleep(|| slots.link_for_good(1)).kill();
    assert!(slots.died(1));
    let mark = slots.word(1).load(Acquire);
    let child = slots.fork_and_sleep(|| {
        link_over(mark).unwrap();
    });
    assert_eq!(slots.word(1).load(Acquire), child.pid as u32);
    assert!(link_over(mark).is_none());
    assert_eq!(slots.word(1).load(Acquire), child.pid as u32);
    child.kill();
    assert!(slots.died(1));
    unlink(link_over(slots.word(1).load(Acquire)).unwrap());
    assert_eq!(slots.word(1).load(Acquire), 0);
}

#[test]
fn leaving_and_exec_are_deaths_too() {
    let slots = Slots::new(2);
    Child::fork(|| slots.link_for_good(1)).succeed();
    assert!(slots.died(1));
    let child = Child::fork(|| {
        slots.link_for_good(1);
        let arguments = [c"sleep".as_ptr(), c"100".as_ptr(), ptr::null()];
        // SAFETY: literals, ended by null.
        unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
    });
    eventually("exec marks", || slots.died(1));
    child.kill();
}

#[test]
fn the_end_of_a_thread_is_marked_while_its_process_lives() {
    let slots = Slots::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let node = slots.link(1).unwrap();
            assert_eq!(node.word().load(Relaxed), process::thread_id());
            assert_eq!(slots.word(1).load(Relaxed), process::thread_id());
        });
    });
    eventually("the thread is marked", || slots.died(1));
}

#[test]
fn two_nodes_in_two_files_are_both_marked() {
    let (one, two) = (Slots::new(2), Slots::new(3));
    let child = one.fork_and_sleep(|| {
        one.link_for_good(1);
        two.link_for_good(2);
    });
    child.kill();
    assert!(one.died(1) && two.died(2));
}

#[test]
fn a_forked_child_neither_marks_nor_unlinks() {
    let slots = Slots::new(4);
    let nodes = [1, 2, 3].map(|slot| slots.link(slot).unwrap());
    let tid = process::thread_id();
    let intact = || (1..4).all(|slot| slots.word(slot).load(Acquire) == tid);
    Child::fork(|| sleep_for_ever()).kill();
    assert!(intact());
    // SAFETY: moved in the child's copy of the memory only; this process keeps its own.
    let copies = || unsafe { ptr::read(&nodes) };
    Child::fork(|| {
        let [first, second, _forgotten] = copies();
        first.abandon();
        unlink(second);
        // The child's own node works, in a slot of its own.
        let node = slots.link(0).unwrap();
        unlink(node);
    })
    .succeed();
    assert!(intact());
    nodes.into_iter().for_each(unlink);
    assert!((1..4).all(|slot| slots.word(slot).load(Acquire) == 0));
}

#[test]
fn a_raw_clone_child_is_refused() {
    let slots = Slots::new(3);
    let node = slots.link(1).unwrap();
    // SAFETY: a plain fork by another name; the child makes system calls and leaves.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let refused = slots
            .link(2)
            .is_err_and(|e| e.kind() == io::ErrorKind::Unsupported);
        unlink(node);
        // SAFETY: leaves at once.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 1;
    // SAFETY: our own child.
    unsafe { libc::waitpid(pid as i32, &mut status, 0) };
    assert_eq!(status, 0);
    assert_eq!(slots.word(1).load(Acquire), process::thread_id());
    unlink(node);
}

#[test]
fn unlinking_elsewhere_changes_nothing() {
    struct Sent(LifeNode);
    // SAFETY: to show what happens when it is.
    unsafe impl Send for Sent {}
    impl Sent {
        fn unlink(self) {
            unlink(self.0);
        }
    }
    let slots = Slots::new(3);
    let (one, two) = (slots.link(1).unwrap(), slots.link(2).unwrap());
    let tid = process::thread_id();
    let sent = Sent(one);
    thread::scope(|scope| {
        scope.spawn(move || sent.unlink());
    });
    two.abandon();
    assert!((1..3).all(|slot| slots.word(slot).load(Acquire) == tid));
    // Both are still linked, so the list works on.
    let again = Slots::new(1);
    unlink(again.link(0).unwrap());
}

#[test]
fn no_pointer_lies_in_the_shared_page() {
    let slots = Slots::new(2);
    let node = slots.link(1).unwrap();
    let words = (PAGE - WORD_FROM_PAGE_END) / 4;
    let others = (0..words).chain([words + 1]);
    for word in others {
        assert_eq!(slots.at::<AtomicU32>(1, 4 * word).load(Relaxed), 0);
    }
    unlink(node);
}

#[test]
fn a_scribbling_peer_does_not_stop_the_mark() {
    let slots = Slots::new(3);
    for _ in 0..20 {
        let child = slots.fork_and_sleep(|| {
            [1, 2].iter().for_each(|&slot| slots.link_for_good(slot));
        });
        for slot in [1, 2] {
            for word in (0..PAGE / 4).filter(|word| 4 * word != PAGE - WORD_FROM_PAGE_END) {
                slots
                    .at::<AtomicU32>(slot, 4 * word)
                    .store(u32::MAX, Relaxed);
            }
        }
        child.kill();
        assert!(slots.died(1) && slots.died(2));
    }
}

#[test]
fn sleepers_are_woken_by_death_and_by_unlinking() {
    let slots = Slots::new(2);
    for unlinks in [false, true] {
        let mut child = slots.fork_until_ready(|ready| {
            let node = slots.link(1).unwrap();
            ready.store(1, SeqCst);
            let waiting = || node.word().load(Acquire) & WAITERS != 0;
            eventually("somebody waits", waiting);
            thread::sleep(Duration::from_millis(20));
            if unlinks {
                unlink(node);
                sleep_for_ever();
            }
        });
        let word = slots.word(1).fetch_or(WAITERS, SeqCst) | WAITERS;
        let end = futex::wait(slots.word(1), word, Some(Duration::from_secs(10)));
        assert_eq!(end, futex::Wake::Woken);
        let expected = if unlinks { 0 } else { OWNER_DIED | WAITERS };
        assert_eq!(slots.word(1).load(Acquire), expected);
        child.signal(libc::SIGKILL);
        child.wait();
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    assert_eq!(node_place(-32, 4096), Some(4096 + 24));
    assert_eq!(node_place(-32, 65536), Some(65536 + 24));
    // musl: the node would not be aligned.
    assert_eq!(node_place(-28, 4096), None);
    // The back pointer, the node, or both in a shared page or nowhere.
    for offset in [0, 8, 4096, -8, -4104, -8192, isize::MIN, isize::MAX] {
        assert_eq!(node_place(offset, 4096), None, "{offset}");
    }
    assert_eq!(node_place(-16, 4096), Some(4096 + 8));
    assert_eq!(node_place(-4096, 4096), Some(8192 - 8));
    assert_eq!(node_place(-32, 0), None);
    assert_eq!(unfitting().kind(), io::ErrorKind::Unsupported);
}

#[test]
fn bad_pages_are_errors_and_leave_the_list_alone() {
    let slots = Slots::new(2);
    let link = |offset, page_size| {
        // SAFETY: the slots belong to this thread.
        unsafe { LifeNode::link(slots.file.as_fd(), offset, page_size) }
            .err()
            .unwrap()
    };
    assert_eq!(link(100, PAGE).kind(), io::ErrorKind::InvalidInput);
    assert_eq!(link(0, 100).kind(), io::ErrorKind::InvalidInput);
    // Behind the end of the file: not SIGBUS.
    assert_eq!(
        link(8 * PAGE as u64, PAGE).raw_os_error(),
        Some(libc::EFAULT)
    );
    unlink(slots.link(1).unwrap());
}

/// A robust mutex in shared memory.
#[repr(transparent)]
struct Robust(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

impl Robust {
    fn init(&self) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: initialises the attributes, then the mutex with them.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), 1);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), 1);
            libc::pthread_mutex_init(self.0.get().cast(), attributes.as_ptr());
        }
    }

    fn lock(&self) -> i32 {
        // SAFETY: initialised before.
        unsafe { libc::pthread_mutex_lock(self.0.get().cast()) }
    }

    fn unlock(&self) {
        // SAFETY: held by this thread.
        let error = unsafe { libc::pthread_mutex_unlock(self.0.get().cast()) };
        assert_eq!(error, 0);
    }
}

/// Links and unlinks three words and locks and unlocks three mutexes in an order drawn from
/// `seed`; returns which are linked and which are held in the end.
fn shuffle(slots: &Slots, mut seed: u64, act: bool) -> ([bool; 3], [bool; 3]) {
    let mut nodes = [const { None }; 3];
    let (mut linked, mut held) = ([false; 3], [false; 3]);
    for _ in 0..40 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (kind, i) = (seed >> 60 & 1, (seed >> 33) as usize % 3);
        let mutex: &Robust = slots.at(0, 64 * (i + 1));
        match (kind, linked[i], held[i]) {
            (0, false, _) if act => nodes[i] = Some(slots.link(i + 1).unwrap()),
            (0, true, _) if act => unlink(nodes[i].take().unwrap()),
            (1, _, false) if act => assert_eq!(mutex.lock(), 0),
            (1, _, true) if act => mutex.unlock(),
            _ => {}
        }
        if kind == 0 {
            linked[i] = !linked[i];
        } else {
            held[i] = !held[i];
        }
    }
    (linked, held)
}

#[test]
fn life_words_and_robust_mutexes_share_the_list() {
    let slots = Slots::new(4);
    for seed in 0..200 {
        let mutexes = [1, 2, 3].map(|i| slots.at::<Robust>(0, 64 * i));
        mutexes.iter().for_each(|mutex| mutex.init());
        (1..4).for_each(|slot| slots.word(slot).store(0, SeqCst));
        let run = || {
            shuffle(&slots, seed, true);
        };
        slots.fork_and_sleep(run).kill();
        let (linked, held) = shuffle(&slots, seed, false);
        for i in 0..3 {
            let word = slots.word(i + 1).load(Acquire);
            assert_eq!(word, if linked[i] { OWNER_DIED } else { 0 }, "seed {seed}");
            let died = mutexes[i].lock() == libc::EOWNERDEAD;
            assert_eq!(died, held[i], "seed {seed}");
            // Not made consistent: the next round initialises it anew.
            mutexes[i].unlock();
        }
    }
}

/// Kills at every instruction, by single steps.
#[cfg(target_arch = "x86_64")]
mod stepped {
    use super::*;

    /// Runs `act` up to the end of its first `gettid`, then `steps` instructions, then kills.
    /// Returns whether `act` was over by then; `None` where tracing is forbidden.
    fn kill_after(steps: usize, before: impl Fn(), act: impl Fn()) -> Option<bool> {
        let mut child = Child::fork(|| {
            before();
            // SAFETY: asks to be traced by the parent, and stops until it looks.
            let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            assert_eq!(traced, 0);
            stop();
            act();
            stop();
        });
        if !libc::WIFSTOPPED(child.wait_for_stop()) {
            return None;
        }
        run_to_gettid(&mut child);
        let over = (0..steps).any(|_| {
            trace(&child, libc::PTRACE_SINGLESTEP);
            libc::WSTOPSIG(child.wait_for_stop()) == libc::SIGSTOP
        });
        child.kill();
        Some(over)
    }

    /// Every step where the code is short; without optimisation it takes half a minute.
    fn stride() -> usize {
        let every = std::env::var_os("SHARENA_EVERY_STEP").is_some();
        if every || !cfg!(debug_assertions) {
            1
        } else {
            7
        }
    }

    fn stop() {
        // SAFETY: stops this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
    }

    fn trace(child: &Child, request: libc::c_uint) {
        // SAFETY: the child is stopped and traced by this thread.
        assert_eq!(unsafe { libc::ptrace(request, child.pid, 0, 0) }, 0);
    }

    fn run_to_gettid(child: &mut Child) {
        // Twice: entering and leaving.
        for _ in 0..2 {
            while {
                trace(child, libc::PTRACE_SYSCALL);
                let status = child.wait_for_stop();
                assert!(libc::WIFSTOPPED(status), "ended before gettid: {status:#x}");
                system_call(child) != libc::SYS_gettid
            } {}
        }
    }

    fn system_call(child: &Child) -> i64 {
        let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
        // SAFETY: the child is stopped, and the kernel fills the local.
        unsafe {
            libc::ptrace(libc::PTRACE_GETREGS, child.pid, 0, registers.as_mut_ptr());
            registers.assume_init().orig_rax as i64
        }
    }

    /// Kills at each step of `act` on slot 2 while 1 is (and 3 may be) linked. `first` and
    /// then `last` is what the word of slot 2 must be.
    fn kill_at_each(
        act: impl Fn(&Slots, &mut [Option<LifeNode>; 4]),
        linked: &[usize],
    ) -> (usize, usize) {
        let slots = Slots::new(4);
        let other: &[usize] = if linked.contains(&3) { &[1, 3] } else { &[1] };
        let nodes = UnsafeCell::new([const { None }; 4]);
        let (last, mut switched) = (if linked.contains(&2) { 0 } else { OWNER_DIED }, 0);
        for steps in (0..).step_by(stride()) {
            (1..4).for_each(|slot| slots.word(slot).store(0, SeqCst));
            let before = || {
                for &slot in linked {
                    // SAFETY: in the child, by its only thread.
                    unsafe { (*nodes.get())[slot] = Some(slots.link(slot).unwrap()) };
                }
            };
            // SAFETY: as above.
            let over = kill_after(steps, before, || act(&slots, unsafe { &mut *nodes.get() }));
            let Some(over) = over else { return (0, 0) };
            for &slot in other {
                assert!(
                    slots.died(slot),
                    "slot {slot} is not marked after step {steps}"
                );
            }
            let word = slots.word(2).load(Acquire);
            assert!(
                word == 0 || word == OWNER_DIED,
                "word {word:#x} after step {steps}"
            );
            match word == last {
                true if switched == 0 => switched = steps,
                false => assert_eq!(switched, 0, "went back at step {steps}"),
                _ => {}
            }
            if over {
                assert_eq!(word, last);
                return (switched, steps);
            }
        }
        unreachable!()
    }

    #[test]
    fn a_kill_anywhere_in_link() {
        let act = |slots: &Slots, _: &mut _| slots.link_for_good(2);
        eprintln!("link: {:?}", kill_at_each(act, &[1]));
    }

    #[test]
    fn a_kill_anywhere_in_unlink() {
        let act = |_: &Slots, nodes: &mut [Option<LifeNode>; 4]| {
            unlink(nodes[2].take().unwrap());
        };
        eprintln!("unlink: {:?}", kill_at_each(act, &[1, 2, 3]));
    }
}
