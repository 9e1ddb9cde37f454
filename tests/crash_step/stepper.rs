//! Stops the calling thread at every instruction, and notes how an arena's bytes change.
//!
//! The trap flag makes the processor raise a trap behind each instruction; the handler compares the
//! arena with what it was one instruction before. What a `kill -9` would leave at that boundary is
//! exactly these bytes: so each change is one crash state.

use std::{
    arch::asm,
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, Once,
        atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*},
    },
};

const PAGE: usize = 4096;
const MOST_CHANGES: usize = 4 << 20;

/// A word of the arena that got a new value at an instruction boundary.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    step: u32,
    word: u32,
    value: u64,
}

static WATCHED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static SHADOW: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LEN: AtomicUsize = AtomicUsize::new(0);
static CHANGES: AtomicPtr<Change> = AtomicPtr::new(std::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);
static STEPS: AtomicUsize = AtomicUsize::new(0);
static OVERFLOW: AtomicBool = AtomicBool::new(false);

/// What stepping through something showed.
pub(crate) struct Recording {
    first: Vec<u8>,
    changes: Vec<Change>,
    /// Instruction boundaries.
    pub(crate) boundaries: usize,
}

impl Recording {
    /// The bytes before the first instruction.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Calls `f` with each crash state that was not `seen` before (by its `name`); the first is the
    /// state before the first instruction.
    pub(crate) fn for_each_new(
        &self,
        seen: &mut HashSet<u64>,
        name: impl Fn(&[u8]) -> u64,
        mut f: impl FnMut(&[u8]),
    ) {
        let mut image = self.first.clone();
        let mut visit = |image: &[u8]| {
            if seen.insert(name(image)) {
                f(image);
            }
        };
        visit(&image);
        for (index, change) in self.changes.iter().enumerate() {
            let at = change.word as usize * 8;
            image[at..at + 8].copy_from_slice(&change.value.to_ne_bytes());
            let more = self
                .changes
                .get(index + 1)
                .is_some_and(|next| next.step == change.step);
            if !more {
                visit(&image);
            }
        }
    }
}

extern "C" fn trapped(_: i32) {
    let step = STEPS.load(Relaxed);
    STEPS.store(step + 1, Relaxed);
    let (watched, shadow) = (WATCHED.load(Relaxed), SHADOW.load(Relaxed));
    let mut page = 0;
    while page < LEN.load(Relaxed) {
        // SAFETY: both are `LEN` bytes long, and nothing else runs.
        unsafe {
            let (now, before) = (watched.add(page), shadow.add(page));
            if libc::memcmp(now.cast(), before.cast(), PAGE) != 0 {
                note_page(step, page, now.cast(), before.cast());
            }
        }
        page += PAGE;
    }
}

unsafe fn note_page(step: usize, page: usize, now: *const u64, before: *mut u64) {
    for word in 0..PAGE / 8 {
        // SAFETY: inside the page, by the caller.
        let (new, old) = unsafe { (now.add(word).read_volatile(), before.add(word).read()) };
        if new == old {
            continue;
        }
        // SAFETY: as above.
        unsafe { before.add(word).write(new) };
        let count = COUNT.load(Relaxed);
        if count == MOST_CHANGES {
            OVERFLOW.store(true, Relaxed);
            return;
        }
        COUNT.store(count + 1, Relaxed);
        let change = Change {
            step: step as u32,
            word: ((page + word * 8) / 8) as u32,
            value: new,
        };
        // SAFETY: the buffer holds `MOST_CHANGES`.
        unsafe { CHANGES.load(Relaxed).add(count).write(change) };
    }
}

/// One thread steps at a time: the handler has one set of buffers.
fn stepping() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: a handler that only touches memory set aside for it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = trapped as extern "C" fn(i32) as usize;
            libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut());
        }
    });
}

/// Runs `f`, stopping at every instruction, and notes how the `len` bytes at `base` change.
pub(crate) fn step(base: *const u8, len: usize, f: impl FnOnce()) -> Recording {
    let _one = stepping();
    install();
    assert!(len.is_multiple_of(PAGE) && base.addr().is_multiple_of(PAGE));
    // SAFETY: the caller names an arena's memory, all of it mapped.
    let first = unsafe { std::slice::from_raw_parts(base, len) }.to_vec();
    let mut shadow = first.clone();
    let mut changes: Vec<Change> = Vec::with_capacity(MOST_CHANGES);
    WATCHED.store(base.cast_mut(), Relaxed);
    SHADOW.store(shadow.as_mut_ptr(), Relaxed);
    LEN.store(len, Relaxed);
    CHANGES.store(changes.as_mut_ptr(), Relaxed);
    COUNT.store(0, Relaxed);
    STEPS.store(0, Relaxed);
    OVERFLOW.store(false, Relaxed);
    // SAFETY: sets and clears the trap flag; the handler is installed.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    f();
    // SAFETY: as above.
    unsafe { asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
    assert!(
        !OVERFLOW.load(Relaxed),
        "more changes than there is room for"
    );
    // SAFETY: the handler wrote so many.
    unsafe { changes.set_len(COUNT.load(Relaxed)) };
    Recording {
        first,
        changes: changes.as_slice().to_vec(),
        boundaries: STEPS.load(Relaxed),
    }
}
