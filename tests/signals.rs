//! Signal handlers that enter sharena: at every instruction of an operation one does so.
//!
//! The processor's trap flag raises a signal behind each instruction; the handler takes locks, reads
//! and writes. What it may not do now it is told; what it did is there; and what it interrupted goes
//! on as if nothing had been. Nobody is killed here.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use sharena::{
    Arena, Error, Result, Root, Share,
    collections::{HashMap, Vec as Shared},
    sync::{Mutex, RwLock, Semaphore},
};
use std::{
    arch::asm,
    cell::Cell,
    mem, ptr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::*},
};

/// What the handler enters.
struct Targets {
    /// That of the operation.
    own: Root<Mutex<HashMap<u64, Shared<u64>>>>,
    other: Root<Mutex<Counter>>,
    shared: Root<RwLock<u64>>,
    /// Also the operation's.
    permits: Root<Semaphore>,
}

const PERMITS: u32 = 3;

#[derive(Share, Default)]
#[repr(C)]
struct Counter {
    count: u64,
    twin: u64,
}

/// What handlers found.
#[derive(Default, Debug, Clone, Copy)]
struct Found {
    signals: usize,
    written: u64,
    read: usize,
    refused: usize,
    permits: usize,
    posts: u32,
    /// The operation's own lock was taken, since the operation did not have it,
    own_taken: usize,
    /// or was refused.
    own_refused: usize,
    /// Something else: counted here, as a handler must not panic.
    wrong: usize,
}

thread_local! {
    static TARGETS: Cell<*const Targets> = const { Cell::new(ptr::null()) };
    static FOUND: Cell<Found> = const { Cell::new(Found {
        signals: 0, written: 0, read: 0, refused: 0, permits: 0, posts: 0, own_taken: 0, own_refused: 0, wrong: 0,
    }) };
}

/// Whether a handler runs.
static IN_HANDLER: AtomicBool = AtomicBool::new(false);
static ALLOCATED_IN_HANDLER: AtomicUsize = AtomicUsize::new(0);

/// Notes what handlers allocate: they may have interrupted the allocator.
struct Watched;

// SAFETY: hands all on to the system's.
unsafe impl std::alloc::GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        if IN_HANDLER.load(Relaxed) {
            ALLOCATED_IN_HANDLER.fetch_add(1, Relaxed);
        }
        // SAFETY: by contract.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: by contract.
        unsafe { std::alloc::System.dealloc(place, layout) }
    }
}

#[global_allocator]
static WATCHED: Watched = Watched;

extern "C" fn trapped(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: set by this thread while it steps.
    let Some(targets) = (unsafe { TARGETS.get().as_ref() }) else {
        return;
    };
    IN_HANDLER.store(true, Relaxed);
    let mut found = FOUND.get();
    found.signals += 1;
    match targets.other.lock() {
        Ok(mut counter) => {
            if counter.count != counter.twin || counter.count != found.written {
                found.wrong += 1;
            }
            counter.count += 1;
            counter.twin += 1;
            found.written += 1;
        }
        Err(Error::Reentered | Error::NeedsSection) => found.refused += 1,
        Err(_) => found.wrong += 1,
    }
    match targets.shared.read() {
        Ok(number) => {
            found.read += 1;
            found.wrong += usize::from(*number != 17);
        }
        Err(Error::Reentered | Error::WouldDeadlock) => found.refused += 1,
        Err(_) => found.wrong += 1,
    }
    match targets.permits.try_acquire() {
        Ok(permit) => {
            found.permits += 1;
            drop(permit);
        }
        Err(Error::Reentered | Error::InSection) => found.refused += 1,
        Err(_) => found.wrong += 1,
    }
    match targets.permits.post() {
        Ok(()) => found.posts += 1,
        Err(Error::Reentered) => found.refused += 1,
        Err(_) => found.wrong += 1,
    }
    match targets.own.lock() {
        Ok(map) => {
            found.own_taken += 1;
            // Not in the middle of a change: all operations write a key's own number.
            let whole = map
                .iter()
                .all(|(key, list)| list.iter().all(|number| number == key));
            found.wrong += usize::from(!whole);
        }
        Err(Error::Reentered | Error::NeedsSection | Error::WouldDeadlock) => {
            found.own_refused += 1;
        }
        Err(_) => found.wrong += 1,
    }
    FOUND.set(found);
    IN_HANDLER.store(false, Relaxed);
}

fn install() {
    type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    // SAFETY: a handler that does what this test is about.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO;
        action.sa_sigaction = trapped as Handler as usize;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut()), 0);
    }
}

/// Runs `f` with a signal behind each instruction.
fn interrupted<R>(targets: &Targets, f: impl FnOnce() -> R) -> (R, Found) {
    // What the first lock of a thread allocates is there before.
    drop(targets.other.lock().unwrap());
    drop(targets.shared.read().unwrap());
    drop(targets.permits.acquire().unwrap());
    FOUND.set(Found {
        written: targets.other.lock().unwrap().count,
        ..Found::default()
    });
    TARGETS.set(targets);
    // SAFETY: sets the trap flag, and clears it.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    let done = f();
    // SAFETY: as above.
    unsafe { asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
    TARGETS.set(ptr::null());
    (done, FOUND.get())
}

fn arena() -> (Arena, Targets) {
    let mut options = Arena::options();
    options.max_size(64 << 20);
    let arena = options.in_memory().unwrap();
    let targets = Targets {
        own: arena.root("own").unwrap(),
        other: arena.root("other").unwrap(),
        shared: arena.root("shared").unwrap(),
        permits: arena.root("permits").unwrap(),
    };
    targets.permits.post_many(PERMITS).unwrap();
    *targets.shared.write().unwrap() = 17;
    (arena, targets)
}

/// Interrupts an operation, and looks at what is there afterwards.
fn try_out(name: &str, operation: impl Fn(&Arena, &Targets) -> Result) {
    let (arena, targets) = arena();
    let mut permits = PERMITS;
    // Once as the thread's first of that kind, and once as a later one.
    for time in ["first", "second"] {
        let (done, found) = interrupted(&targets, || operation(&arena, &targets));
        println!("{name}, {time} time: {found:?}");
        done.unwrap();
        assert_eq!(found.wrong, 0, "{name}: {found:?}");
        assert!(found.signals > 50, "{name}: every instruction");
        assert!(found.refused > 0 && found.own_refused > 0, "{name}: inside");
        let counter = targets.other.lock().unwrap();
        assert_eq!(
            (counter.count, counter.twin),
            (found.written, found.written)
        );
        drop(counter);
        permits += found.posts;
        assert_eq!(targets.permits.available(), permits, "{name}: {found:?}");
        assert!(found.permits > 0 && found.posts > 0, "{name}: permits");
        assert!(arena.check().is_clean(), "{name}: {}", arena.check());
    }
    assert_eq!(ALLOCATED_IN_HANDLER.load(Relaxed), 0, "{name}");
}

/// One test: what a handler does, it does in the whole process.
#[test]
fn handlers_enter_at_every_instruction() {
    install();
    try_out("lock and unlock", |_, targets| targets.own.lock().map(drop));
    try_out("read and unlock", |_, targets| {
        drop(targets.own.lock()?);
        targets.shared.read().map(drop)
    });
    try_out("write and unlock", |_, targets| {
        drop(targets.own.lock()?);
        *targets.shared.write()? = 17;
        Ok(())
    });
    try_out("insert and grow", |_, targets| {
        let mut map = targets.own.lock()?;
        for key in 0..40 {
            map.entry(key).or_default()?.push(key)?;
        }
        for key in 0..20 {
            map.remove(&key);
        }
        Ok(())
    });
    try_out("short sections", |_, targets| {
        for key in 0..5 {
            targets.own.lock()?.insert(key, Shared::new())?;
            targets.own.lock()?.remove(&key);
        }
        Ok(())
    });
    // Here the handler's lock is the section's, too: what it wrote would be lost or kept with it, and in
    // the midst of an entry that is written its own could be overwritten. Only who lives is looked at.
    try_out("a section over two locks", |arena, targets| {
        arena.section(|| {
            let mut map = targets.own.lock()?;
            map.entry(1).or_default()?.push(1)?;
            *targets.shared.write()? = 17;
            Ok(())
        })
    });
    try_out("permits", |_, targets| {
        drop(targets.own.lock()?);
        let permits = [targets.permits.acquire()?, targets.permits.acquire()?];
        drop(permits);
        // Taken away, and put back.
        targets.permits.acquire()?.forget();
        targets.permits.post()
    });
    try_out("commit in the middle", |_, targets| {
        let mut map = targets.own.lock()?;
        map.entry(1).or_default()?.push(1)?;
        map.commit()?;
        map.remove(&1);
        Ok(())
    });
}
