//! Advice on mapped pages, wipe-on-fork pages, and barriers across processes.
//!
//! The advice functions take plain addresses and are safe: none of them changes what memory
//! holds, and the kernel answers a range that is not mapped with an error.

use std::{
    ffi::c_void,
    io, ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering::*},
};

use rustix::{
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap},
    thread::{MembarrierCommand, membarrier as issue},
};

/// Size of the pages of this system.
pub(crate) fn page_size() -> usize {
    // SAFETY: a plain query, without memory. (rustix reads the auxiliary vector itself, and trips
    // over the one that valgrind makes up.)
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

/// Asks the processor to have the line at an address in its cache. Any address will do.
#[inline(always)]
pub(crate) fn prefetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, which touches nothing that a program sees and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Keeps a range out of core dumps. A dump comes before the kernel marks the dead.
pub(crate) fn dont_dump(start: *mut u8, len: usize) -> io::Result<()> {
    advise(start, len, Advice::LinuxDontDump)
}

/// Asks for huge pages. An error means that this mapping or this kernel has none.
pub(crate) fn huge_pages(start: *mut u8, len: usize) -> io::Result<()> {
    advise(start, len, Advice::LinuxHugepage)
}

/// Makes huge pages of the pages that are in a range, as far as whole ones lie in it. `fallocate` never
/// makes any, so memory that was allocated in that way becomes huge here only. Linux 6.1; an error
/// means that some pages stay as they were.
pub(crate) fn collapse(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: changes nothing of what the memory holds; the kernel checks the range.
    match unsafe { libc::madvise(start.cast(), len, libc::MADV_COLLAPSE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Size of the huge pages that a page table of the lowest level makes room for.
pub(crate) fn huge_page_size() -> usize {
    page_size() * (page_size() / size_of::<u64>())
}

/// Makes the pages of a range present now, for writing or for reading.
///
/// Where the file has no memory for them this is an error and not SIGBUS: `EFAULT`, for a page
/// behind the end of the file as well as on a full disk. Linux 5.14; before that `EINVAL`.
pub(crate) fn populate(start: *mut u8, len: usize, write: bool) -> io::Result<()> {
    let advice = if write {
        Advice::LinuxPopulateWrite
    } else {
        Advice::LinuxPopulateRead
    };
    advise(start, len, advice)
}

/// Gives the memory of private pages back to the system; they are zeroes at their next use.
///
/// # Safety
///
/// The range is one of private anonymous memory, and nobody uses what it holds.
pub(crate) unsafe fn discard(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: by contract; the kernel checks the range.
    unsafe { madvise(start.cast::<c_void>(), len, Advice::LinuxDontNeed) }.map_err(io::Error::from)
}

fn advise(start: *mut u8, len: usize, advice: Advice) -> io::Result<()> {
    debug_assert!(matches!(
        advice,
        Advice::LinuxDontDump
            | Advice::LinuxHugepage
            | Advice::LinuxPopulateRead
            | Advice::LinuxPopulateWrite
            | Advice::LinuxWipeOnFork
    ));
    // SAFETY: none of these changes the contents of memory in this process; the kernel checks
    // the range.
    unsafe { madvise(start.cast::<c_void>(), len, advice) }.map_err(io::Error::from)
}

/// Advises that a forked child finds zeros in this range.
pub(super) fn wipe_on_fork(start: *mut u8, len: usize) -> io::Result<()> {
    advise(start, len, Advice::LinuxWipeOnFork)
}

/// Private pages that are all zero in a forked child, however it was forked.
///
/// The kernel wipes them at `fork`, `_Fork` and a raw `clone` alike; a `vfork` child shares the
/// memory of its parent and sees what the parent sees.
pub(crate) struct Wiped {
    start: *mut u8,
    len: usize,
}

// SAFETY: `Wiped` owns its pages and hands out nothing but their address.
unsafe impl Send for Wiped {}
// SAFETY: as above; what is done through the address is argued where it is done.
unsafe impl Sync for Wiped {}

impl Wiped {
    /// Maps `len` bytes of zeros, rounded up to whole pages.
    pub(crate) fn map(len: usize) -> io::Result<Wiped> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a free range.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), len, access, MapFlags::PRIVATE)? };
        let pages = Wiped {
            start: start.cast(),
            len,
        };
        wipe_on_fork(pages.start, len)?;
        Ok(pages)
    }

    /// Address of the first byte; page-aligned.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.start
    }

    /// Keeps the pages for the rest of the process.
    pub(crate) fn leak(self) -> *mut u8 {
        let start = self.start;
        std::mem::forget(self);
        start
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        // SAFETY: the pages are ours, and their owner is done with them. An error leaves them
        // mapped, which harms nobody.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}

/// The words of this process that are zero in a forked child. All lie in one page, which is made at
/// the first use of any and kept; each in a cache line of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WipedWord {
    /// What [`super::process::generation`] says.
    Generation,
    /// What this process found out about itself, once; 0 until then.
    Incarnation,
    PidNamespace,
    TimeNamespace,
    /// Locks.
    Mappings,
    Gates,
}

impl WipedWord {
    /// The word, at the same address for the whole life of the process and its children.
    ///
    /// # Errors
    ///
    /// At the first use of the page only: the kernel has no memory.
    pub(crate) fn get(self) -> io::Result<&'static AtomicU64> {
        let line = wiped_page()?.wrapping_add(self as usize * 64);
        // SAFETY: inside the page, which is mapped, zeroed, aligned, and never unmapped.
        Ok(unsafe { AtomicU64::from_ptr(line.cast()) })
    }

    /// A fact about this process that never changes, and is looked up once.
    pub(super) fn or_find(self, find: impl FnOnce() -> u64) -> u64 {
        let Ok(word) = self.get() else {
            return find();
        };
        match word.load(Relaxed) {
            0 => {
                let found = find();
                word.store(found, Relaxed);
                found
            }
            known => known,
        }
    }
}

/// Makes what [`WipedWord`]s and locks need: from here on they cannot fail for want of memory.
pub(crate) fn prepare() -> io::Result<()> {
    wiped_page().map(drop)
}

fn wiped_page() -> io::Result<*mut u8> {
    static PAGE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
    let page = PAGE.load(Acquire);
    if !page.is_null() {
        return Ok(page);
    }
    let fresh = Wiped::map(page_size())?;
    let made = fresh.as_ptr();
    match PAGE.compare_exchange(ptr::null_mut(), made, AcqRel, Acquire) {
        Ok(_) => Ok(fresh.leak()),
        Err(theirs) => Ok(theirs),
    }
}

/// A lock of this process that is free in a forked child.
pub(crate) struct ProcessLock(&'static AtomicU64);

impl ProcessLock {
    /// Takes the lock, for a few steps.
    ///
    /// # Panics
    ///
    /// If the page of such words is not there yet, and cannot be made.
    pub(crate) fn take(word: WipedWord) -> Self {
        let word = word.get().expect("no memory for one page");
        while word.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            std::thread::yield_now();
        }
        ProcessLock(word)
    }
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        self.0.store(0, Release);
    }
}

/// Registers this process for [`membarrier`] calls of any process. False: the kernel has none.
///
/// `exec` forgets the registration. Repeating it is harmless.
pub(crate) fn membarrier_register() -> bool {
    issue(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

/// A full barrier on every running thread of every registered process, or, where the kernel has
/// only that, of all processes (slow). False: the kernel has neither.
///
/// A process that could not register is not reached by the fast one.
pub(crate) fn membarrier() -> bool {
    issue(MembarrierCommand::GlobalExpedited).is_ok() || issue(MembarrierCommand::Global).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::Child;

    #[test]
    fn wiped_pages_are_zero_in_a_child() {
        let pages = Wiped::map(3 * page_size()).unwrap();
        let last = pages.as_ptr().wrapping_add(3 * page_size() - 1);
        // SAFETY: the last byte of our pages.
        unsafe { last.write_volatile(7) };
        // SAFETY: as above; in the child the pages are mapped as well.
        Child::fork(|| assert_eq!(unsafe { last.read_volatile() }, 0)).succeed();
        // SAFETY: as above.
        assert_eq!(unsafe { last.read_volatile() }, 7);
    }

    #[test]
    fn wiped_pages_go_when_dropped_and_stay_when_leaked() {
        let gone = Wiped::map(page_size()).unwrap();
        let (start, len) = (gone.as_ptr(), page_size());
        assert!(dont_dump(start, len).is_ok());
        drop(gone);
        let leaked = Wiped::map(page_size()).unwrap().leak();
        assert!(dont_dump(leaked, len).is_ok());
    }

    #[test]
    fn populate_reports_what_would_be_sigbus() {
        let file = crate::os::file::memfd("populate").unwrap();
        file.set_len(page_size() as u64).unwrap();
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        let len = 2 * page_size();
        // SAFETY: the kernel chooses a free range; it stays mapped.
        let start = unsafe { rustix::mm::mmap(ptr::null_mut(), len, access, flags, &file, 0) };
        let start = start.unwrap().cast::<u8>();
        for write in [false, true] {
            populate(start, page_size(), write).unwrap();
            let error = populate(start, len, write).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
        }
        dont_dump(start, len).unwrap();
    }

    #[test]
    fn advice_on_unmapped_pages_is_an_error() {
        assert!(dont_dump(page_size() as *mut u8, page_size()).is_err());
        assert!(huge_pages(page_size() as *mut u8, page_size()).is_err());
    }

    #[test]
    fn barriers_work_here() {
        assert!(membarrier_register());
        assert!(membarrier_register());
        assert!(membarrier());
    }
}
