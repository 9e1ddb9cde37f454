//! The trap flag: the processor raises a trap behind each instruction, and the handler compares the
//! arena with what it was one instruction before.
//!
//! All pages of the arena are read-only to begin with. The first store to one faults: from then on
//! the page is *hot*, writable and compared behind each instruction, until others take its place.
//!
//! Instructions that store nothing into the arena leave no new crash state: so it is enough to stop
//! when a store faults, behind that one instruction ([`Pace::Stores`]): by the flag, or, once it is
//! known where the next instruction begins, by a breakpoint there.

use super::{
    Change, Pace, Recording,
    breakpoint::{self, Followers},
    compare,
};
use std::{
    arch::asm,
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

const PAGE: usize = 4096;
const MOST_CHANGES: usize = 4 << 20;
/// Pages that are writable at a time.
const HOT: usize = 6;

const TRAP_FLAG: i64 = 0x100;

/// What the handlers of a thread that steps work on.
struct Watch {
    base: *mut u8,
    len: usize,
    pace: Pace,
    /// The arena as it was at the last boundary.
    shadow: *mut u8,
    /// Where the hot pages begin, from `base`.
    hot: [usize; HOT],
    hot_count: usize,
    /// Which of them goes next.
    oldest: usize,
    /// The instruction that faulted, which the flag stops behind; 0 for none.
    stepped: usize,
    /// Where a breakpoint is; 0 for nowhere.
    breakpoint: usize,
    followers: *mut Followers,
    changes: *mut Change,
    count: usize,
    steps: usize,
    overflow: bool,
}

/// What follows the instructions that were met, unless some thread steps with it.
static FOLLOWERS: Mutex<Option<Box<Followers>>> = Mutex::new(None);

thread_local! {
    // Without a destructor and made at compile time: handlers may read it.
    static WATCH: Cell<*mut Watch> = const { Cell::new(ptr::null_mut()) };
}

impl Watch {
    /// Notes what changed in a page since the last boundary.
    fn look_at(&mut self, page: usize) {
        // SAFETY: both are a page long there, and only this thread writes to them.
        unsafe {
            let (now, before) = (self.base.add(page), self.shadow.add(page));
            if libc::memcmp(now.cast(), before.cast(), PAGE) == 0 {
                return;
            }
            compare(now, before, PAGE, |word, value| {
                before.cast::<u64>().add(word).write(value);
                self.note(page / 8 + word, value);
            });
        }
    }

    fn note(&mut self, word: usize, value: u64) {
        if self.count == MOST_CHANGES {
            self.overflow = true;
            return;
        }
        let change = Change {
            step: self.steps as u32,
            word: word as u32,
            value,
        };
        // SAFETY: the buffer holds `MOST_CHANGES`.
        unsafe { self.changes.add(self.count).write(change) };
        self.count += 1;
    }

    /// Makes a page hot. `false` if it is none of the arena's, or hot already.
    fn heat(&mut self, address: usize) -> bool {
        let within = address.wrapping_sub(self.base.addr());
        let page = within & !(PAGE - 1);
        if within >= self.len || self.hot[..self.hot_count].contains(&page) {
            return false;
        }
        let place = if self.hot_count < HOT {
            self.hot_count += 1;
            self.hot_count - 1
        } else {
            let place = self.oldest;
            self.oldest = (self.oldest + 1) % HOT;
            self.protect(self.hot[place], PAGE, libc::PROT_READ);
            place
        };
        self.hot[place] = page;
        self.protect(page, PAGE, libc::PROT_READ | libc::PROT_WRITE);
        true
    }

    fn protect(&self, from: usize, len: usize, protection: i32) {
        // SAFETY: pages of the arena's memory, which stay readable.
        let done = unsafe { libc::mprotect(self.base.add(from).cast(), len, protection) };
        if done != 0 {
            // SAFETY: ends the process; nothing could be proved any more.
            unsafe { libc::abort() };
        }
    }

    /// Behind an instruction.
    fn look(&mut self) {
        for index in 0..self.hot_count {
            self.look_at(self.hot[index]);
        }
        self.steps += 1;
    }

    fn followers(&mut self) -> &mut Followers {
        // SAFETY: set for as long as this is, and used by one handler at a time.
        unsafe { &mut *self.followers }
    }

    /// Sees to it that the thread stops behind the instruction at `at`, which faulted.
    fn stop_behind(&mut self, at: usize, flags: &mut i64) {
        if self.breakpoint != 0 {
            // It faults for a second time, at its second page.
            return;
        }
        match self.followers().get(at) {
            Some(next) if self.pace == Pace::Stores => {
                self.breakpoint = next;
                breakpoint::place(next);
            }
            _ => {
                self.stepped = at;
                *flags |= TRAP_FLAG;
            }
        }
    }

    /// Sees to it that the next store faults.
    fn cool(&mut self) {
        for index in 0..self.hot_count {
            self.protect(self.hot[index], PAGE, libc::PROT_READ);
        }
        self.hot_count = 0;
    }
}

/// A register of the interrupted code.
///
/// # Safety
///
/// `context` is what the kernel gave a handler.
unsafe fn register<'c>(context: *mut libc::c_void, which: i32) -> &'c mut i64 {
    // SAFETY: by contract.
    unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[which as usize] }
}

extern "C" fn trapped(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: set by this thread while it steps, and used by its handlers only meanwhile; the rest is
    // from the kernel.
    let (watch, at, flags, by_flag) = unsafe {
        (
            WATCH.get().as_mut(),
            register(context, libc::REG_RIP),
            register(context, libc::REG_EFL),
            (*info).si_code != libc::SI_KERNEL,
        )
    };
    if !by_flag {
        // Behind the breakpoint: its instruction is still to be run.
        *at -= 1;
    }
    let Some(watch) = watch else { return };
    match watch.pace {
        Pace::Instructions => watch.look(),
        Pace::Stores if by_flag => {
            let stepped = watch.stepped;
            watch.followers().learn(stepped, *at as usize);
            *flags &= !TRAP_FLAG;
            watch.look();
            watch.cool();
        }
        Pace::Stores if watch.breakpoint == *at as usize => {
            breakpoint::take_away(watch.breakpoint);
            watch.breakpoint = 0;
            watch.look();
            watch.cool();
        }
        // Another thread's, which is gone by now or soon.
        Pace::Stores => {}
    }
}

extern "C" fn faulted(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: as in `trapped`; the kernel says where the fault was.
    let (watch, address) = unsafe { (WATCH.get().as_mut(), (*info).si_addr().addr()) };
    if let Some(watch) = watch
        && watch.heat(address)
    {
        // SAFETY: from the kernel.
        let (at, flags) = unsafe {
            (
                *register(context, libc::REG_RIP) as usize,
                register(context, libc::REG_EFL),
            )
        };
        watch.stop_behind(at, flags);
        return;
    }
    // A real one: the instruction is repeated, and ends the process.
    // SAFETY: resets a handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // What a panic prints is not stepped through.
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            clear_trap_flag();
            hook(info);
        }));
        // SAFETY: handlers that only touch memory set aside for them.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_flags = libc::SA_SIGINFO;
            action.sa_sigaction = trapped as Handler as usize;
            libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut());
            action.sa_sigaction = faulted as Handler as usize;
            libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut());
        }
    });
}

/// Runs `f`, stopping at every instruction or behind every store, and notes how the `len` bytes at
/// `base` change. Other threads may step through other arenas meanwhile.
pub(crate) fn step(base: *const u8, len: usize, pace: Pace, f: impl FnOnce()) -> Recording {
    install();
    assert!(len.is_multiple_of(PAGE) && base.addr().is_multiple_of(PAGE));
    // SAFETY: the caller names an arena's memory, all of it mapped.
    let first = unsafe { std::slice::from_raw_parts(base, len) }.to_vec();
    // Of words, for their alignment.
    let mut shadow = vec![0u64; len / 8];
    // SAFETY: both are `len` bytes long.
    unsafe { ptr::copy_nonoverlapping(first.as_ptr(), shadow.as_mut_ptr().cast(), len) };
    let mut changes: Vec<Change> = Vec::with_capacity(MOST_CHANGES);
    let mut followers = followers_at_hand()
        .take()
        .unwrap_or_else(|| Box::new(Followers::new()));
    let watch: *mut Watch = &mut Watch {
        base: base.cast_mut(),
        len,
        pace,
        shadow: shadow.as_mut_ptr().cast(),
        hot: [0; HOT],
        hot_count: 0,
        oldest: 0,
        stepped: 0,
        breakpoint: 0,
        followers: &mut *followers,
        changes: changes.as_mut_ptr(),
        count: 0,
        steps: 0,
        overflow: false,
    };
    // SAFETY: made above; only the handlers of this thread use it until it is taken away.
    unsafe { (*watch).protect(0, len, libc::PROT_READ) };
    WATCH.set(watch);
    let done = catch_unwind(AssertUnwindSafe(|| {
        if pace == Pace::Instructions {
            set_trap_flag();
        }
        f();
        clear_trap_flag();
    }));
    clear_trap_flag();
    WATCH.set(ptr::null_mut());
    // SAFETY: no handler uses it any more.
    let watch = unsafe { &*watch };
    watch.protect(0, len, libc::PROT_READ | libc::PROT_WRITE);
    *followers_at_hand() = Some(followers);
    if let Err(panic) = done {
        resume_unwind(panic);
    }
    assert!(!watch.overflow, "more changes than there is room for");
    // SAFETY: the handler wrote so many.
    unsafe { changes.set_len(watch.count) };
    Recording {
        first,
        changes: changes.as_slice().to_vec(),
        boundaries: watch.steps,
    }
}

fn followers_at_hand() -> MutexGuard<'static, Option<Box<Followers>>> {
    FOLLOWERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_trap_flag() {
    // SAFETY: sets the trap flag; the handler is installed.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
}

fn clear_trap_flag() {
    // SAFETY: clears the trap flag.
    unsafe { asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
}
