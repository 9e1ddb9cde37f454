//! A breakpoint behind an instruction: much cheaper than the trap flag where a hypervisor emulates
//! debug exceptions.
//!
//! How long an instruction is tells the trap flag, the first time that one is met: the next one
//! begins where it traps. Instructions that repeat are left to the trap flag, which stops each
//! repetition.

use std::{
    cell::UnsafeCell,
    ptr,
    sync::atomic::{AtomicUsize, Ordering::*},
};

const PAGE: usize = 4096;
/// The one-byte instruction that traps.
const INT3: u8 = 0xcc;
/// No instruction is longer.
const LONGEST: usize = 15;
/// Instructions of which the length can be kept: some hundred store into an arena.
const PLACES: usize = 1 << 14;

/// The one breakpoint of the process, which is there for one instruction: who wants it waits.
static PLACED: AtomicUsize = AtomicUsize::new(0);

/// What a breakpoint replaced. Belongs to the thread that placed the breakpoint.
struct Replaced(UnsafeCell<u8>);

// SAFETY: used by whoever holds `PLACED` only.
unsafe impl Sync for Replaced {}

static REPLACED: Replaced = Replaced(UnsafeCell::new(0));

/// What follows each instruction that was met. Handlers look it up.
pub(super) struct Followers {
    /// An instruction and the one behind it, or 0.
    pairs: Box<[(usize, usize)]>,
}

impl Followers {
    pub(super) fn new() -> Self {
        Followers {
            pairs: vec![(0, 0); PLACES].into(),
        }
    }

    fn place(at: usize) -> usize {
        (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % PLACES
    }

    /// Learns that `next` comes behind the instruction at `at`, if a breakpoint can be put there.
    pub(super) fn learn(&mut self, at: usize, next: usize) {
        let place = &mut self.pairs[Self::place(at)];
        let is_behind = (1..=LONGEST).contains(&next.wrapping_sub(at));
        if place.0 == 0 && is_behind && !repeats(at) && make_writable(next) {
            *place = (at, next);
        }
    }

    /// The instruction behind that at `at`, if it is known.
    pub(super) fn get(&self, at: usize) -> Option<usize> {
        let (known, next) = self.pairs[Self::place(at)];
        (known == at && at != 0).then_some(next)
    }
}

/// Whether it is a string instruction, which may have a prefix that repeats it.
fn repeats(at: usize) -> bool {
    let byte = |index: usize| {
        // SAFETY: at a store, which is at least two bytes long where it has a prefix; what is read
        // behind it is code, or the padding behind code.
        unsafe { ptr::with_exposed_provenance::<u8>(at + index).read_volatile() }
    };
    let is_prefix = |byte: u8| matches!(byte, 0x40..=0x4f | 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3);
    let mut index = 0;
    while index < LONGEST && is_prefix(byte(index)) {
        index += 1;
    }
    matches!(byte(index), 0xa4 | 0xa5 | 0xaa | 0xab)
}

/// Makes the code at `at` writable, in this process only.
fn make_writable(at: usize) -> bool {
    let page = ptr::with_exposed_provenance_mut(at & !(PAGE - 1));
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: code stays what it is.
    unsafe { libc::mprotect(page, PAGE, all) == 0 }
}

fn write_code(at: usize, byte: u8) {
    // SAFETY: `make_writable` was called for it. One byte is written at once; whoever runs there
    // meanwhile meets the old instruction or the trap, and `went_over` tells it to try again.
    unsafe { ptr::with_exposed_provenance_mut::<u8>(at).write_volatile(byte) };
}

/// Places the breakpoint at an instruction that [`Followers::get`] gave, which the calling thread
/// comes to next.
pub(super) fn place(at: usize) {
    while PLACED.compare_exchange(0, at, Acquire, Relaxed).is_err() {
        // SAFETY: gives way to the thread that holds it.
        unsafe { libc::sched_yield() };
    }
    // SAFETY: this thread holds `PLACED`; the code can be read.
    unsafe { *REPLACED.0.get() = ptr::with_exposed_provenance::<u8>(at).read_volatile() };
    write_code(at, INT3);
}

/// Takes away the breakpoint that the calling thread placed.
pub(super) fn take_away(at: usize) {
    // SAFETY: this thread holds `PLACED`.
    write_code(at, unsafe { *REPLACED.0.get() });
    PLACED.store(0, Release);
}
