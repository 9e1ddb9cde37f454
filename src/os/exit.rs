//! What runs when a thread or the process ends in order.
//!
//! A thread's functions run from the destructor of one pthread key, which glibc runs after the
//! destructors of Rust (and C++) thread-locals: what the user's own thread-locals still hold has
//! been dropped by then. Only a thread that returns or calls `pthread_exit` gets there; the main
//! thread usually ends in `exit`, where only the process's function runs.
//!
//! No lock is held at any point, so that a child forked meanwhile by another thread never waits.

use std::{
    ffi::c_void,
    io, mem, ptr,
    sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU64,
        Ordering::{AcqRel, Acquire, Release},
    },
};

/// What a thread runs at its end, newest first.
struct Entry {
    data: *mut c_void,
    run: unsafe extern "C" fn(*mut c_void),
    next: *mut Entry,
}

/// The key of this process plus one; 0 before there is one.
static KEY: AtomicU64 = AtomicU64::new(0);

/// The function of [`at_process_exit`], until it runs.
static PROCESS_EXIT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Whether the C library knows of [`run_process_exit`].
static PROCESS_EXIT_REGISTERED: AtomicBool = AtomicBool::new(false);

/// Runs `f(data)` when the calling thread ends, after the destructors of its thread-locals.
///
/// Functions of one thread run newest first. `f` may register again: that runs too, a few times.
///
/// # Safety
///
/// `f(data)` must be sound to call at the end of this thread, when no Rust thread-local with a
/// destructor can be used any more, and must not unwind.
pub(crate) unsafe fn at_thread_exit(
    data: *mut c_void,
    f: unsafe extern "C" fn(*mut c_void),
) -> io::Result<()> {
    let key = key()?;
    // SAFETY: the key lives for ever, and its values are null or lists made below.
    let next = unsafe { libc::pthread_getspecific(key) }.cast::<Entry>();
    let entry = Box::into_raw(Box::new(Entry { data, run: f, next }));
    // SAFETY: as above.
    let error = unsafe { libc::pthread_setspecific(key, entry.cast()) };
    if error != 0 {
        // SAFETY: made above and given to nobody.
        drop(unsafe { Box::from_raw(entry) });
        return Err(io::Error::from_raw_os_error(error));
    }
    Ok(())
}

/// The destructor of the key. The C library has set the thread's value to null already.
unsafe extern "C" fn run_thread_exit(list: *mut c_void) {
    let mut next = list.cast::<Entry>();
    while !next.is_null() {
        // SAFETY: each entry came from a box in `at_thread_exit` and is taken once.
        let entry = unsafe { Box::from_raw(next) };
        next = entry.next;
        // SAFETY: promised by the caller of `at_thread_exit`.
        unsafe { (entry.run)(entry.data) };
    }
}

fn key() -> io::Result<libc::pthread_key_t> {
    match KEY.load(Acquire) {
        0 => key_slow(),
        known => Ok(unpack(known)),
    }
}

/// Makes the key. Of several threads that try at once one wins, and the others delete theirs.
#[cold]
fn key_slow() -> io::Result<libc::pthread_key_t> {
    let mut made = 0;
    // SAFETY: the destructor accepts what `at_thread_exit` stores.
    let error = unsafe { libc::pthread_key_create(&mut made, Some(run_thread_exit)) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    match KEY.compare_exchange(0, u64::from(made) + 1, AcqRel, Acquire) {
        Ok(_) => Ok(made),
        Err(known) => {
            // SAFETY: made above and used by nobody.
            unsafe { libc::pthread_key_delete(made) };
            Ok(unpack(known))
        }
    }
}

fn unpack(known: u64) -> libc::pthread_key_t {
    (known - 1) as libc::pthread_key_t
}

/// Runs `f` once when the process ends by `exit` or by returning from `main`.
///
/// There is one function per process: calling again with it changes nothing.
pub(crate) fn at_process_exit(f: extern "C" fn()) -> io::Result<()> {
    PROCESS_EXIT.store(f as *mut c_void, Release);
    if PROCESS_EXIT_REGISTERED.load(Acquire) {
        return Ok(());
    }
    // SAFETY: a plain function without arguments. Registering it twice, by two threads at once,
    // is harmless: it runs `f` once.
    if unsafe { libc::atexit(run_process_exit) } != 0 {
        return Err(io::Error::from(io::ErrorKind::OutOfMemory));
    }
    PROCESS_EXIT_REGISTERED.store(true, Release);
    Ok(())
}

extern "C" fn run_process_exit() {
    let f = PROCESS_EXIT.swap(ptr::null_mut(), AcqRel);
    if !f.is_null() {
        // SAFETY: only `at_process_exit` stores there, and only such functions.
        let f = unsafe { mem::transmute::<*mut c_void, extern "C" fn()>(f) };
        f();
    }
}

/// Runs `f` right before and right after this process forks through libc, both in the parent. For
/// ever.
///
/// # Errors
///
/// When libc has no memory left to remember it.
pub(crate) fn at_fork(f: extern "C" fn()) -> io::Result<()> {
    // SAFETY: a function of the right type, which stays for as long as the process lives.
    match unsafe { libc::pthread_atfork(Some(f), Some(f), None) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::{Mutex, atomic::AtomicU32, atomic::Ordering::Relaxed},
        thread,
    };

    use super::*;
    use crate::os::testing::Child;

    type Log = Mutex<Vec<&'static str>>;

    /// Writes its name into a log when dropped.
    struct Noted(&'static Log);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("thread-local");
        }
    }

    thread_local! {
        static EARLY: Cell<Option<Noted>> = const { Cell::new(None) };
        static LATE: Cell<Option<Noted>> = const { Cell::new(None) };
    }

    fn new_log() -> &'static Log {
        Box::leak(Box::default())
    }

    unsafe extern "C" fn note_exit(log: *mut c_void) {
        // SAFETY: the tests pass a leaked log.
        unsafe { &*log.cast::<Log>() }.lock().unwrap().push("exit");
    }

    fn at_exit(log: &'static Log) {
        // SAFETY: `note_exit` uses no thread-local and takes the log, which lives for ever.
        unsafe { at_thread_exit(ptr::from_ref(log).cast_mut().cast(), note_exit) }.unwrap();
    }

    #[test]
    fn thread_exit_runs_after_the_thread_locals() {
        let log = new_log();
        let run = || {
            EARLY.set(Some(Noted(log)));
            at_exit(log);
            LATE.set(Some(Noted(log)));
        };
        thread::spawn(run).join().unwrap();
        assert_eq!(
            *log.lock().unwrap(),
            ["thread-local", "thread-local", "exit"]
        );
    }

    #[test]
    fn each_registration_runs_in_its_own_thread() {
        let log = new_log();
        let threads: Vec<_> = (0..8)
            .map(|_| thread::spawn(|| (0..3).for_each(|_| at_exit(log))))
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(log.lock().unwrap().len(), 24);
    }

    unsafe extern "C" fn again(log: *mut c_void) {
        // SAFETY: as in `at_exit`; called with the same leaked log.
        unsafe { at_thread_exit(log, note_exit) }.unwrap();
    }

    #[test]
    fn a_function_may_register_again() {
        let log = new_log();
        let address = ptr::from_ref(log) as usize;
        // SAFETY: as in `at_exit`.
        let run = move || unsafe { at_thread_exit(address as *mut c_void, again) }.unwrap();
        thread::spawn(run).join().unwrap();
        assert_eq!(*log.lock().unwrap(), ["exit"]);
    }

    static RUNS: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

    extern "C" fn count_run() {
        // SAFETY: set to a mapped page before the exit.
        unsafe { &*RUNS.load(Relaxed) }.fetch_add(1, Relaxed);
    }

    #[test]
    fn process_exit_runs_once() {
        let access = rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE;
        let flags = rustix::mm::MapFlags::SHARED;
        // SAFETY: a fresh mapping, never unmapped.
        let page = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), 4096, access, flags) };
        RUNS.store(page.unwrap().cast(), Relaxed);
        let mut child = Child::fork(|| {
            at_process_exit(count_run).unwrap();
            at_process_exit(count_run).unwrap();
            // SAFETY: ends the forked child; the harness registered nothing.
            unsafe { libc::exit(0) };
        });
        child.wait();
        // SAFETY: mapped above.
        assert_eq!(unsafe { &*RUNS.load(Relaxed) }.load(Relaxed), 1);
    }
}
