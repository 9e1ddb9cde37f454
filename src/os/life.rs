//! The life word: 32 bits of a shared page that the kernel marks when their thread dies.
//!
//! # Layout
//!
//! The page of a thread's slot is mapped a second time, with a private page right behind it. The
//! word is the last but one 32-bit word of the shared page; everything with a pointer in it lies
//! in the private page, where no peer sees or changes it:
//!
//! ```text
//!   shared page of the file                 | private page
//!   ............................. word  pad | ..  prev  next ....
//!                                 -8    -4  | 0   16    24          (glibc: futex_offset -32)
//! ```
//!
//! `next` is a node of the thread's *robust list*, on which the C library keeps its robust mutexes
//! too and which the kernel walks when the thread ends, in whatever way: it finds the word at
//! `node + futex_offset`. `prev`, right before, is the back pointer of the C library, which it
//! writes when it adds or removes a neighbour. The place of the word is part of the file format;
//! the place of the node follows from the C library, and one that does not fit is refused.
//!
//! # The word
//!
//! | value | meaning |
//! |---|---|
//! | 0 | nobody |
//! | thread id | that thread lives |
//! | thread id, [`WAITERS`] | and somebody sleeps on this word |
//! | [`OWNER_DIED`] (and [`WAITERS`]) | the thread that was here died |
//!
//! The id is that of the thread's own process-id namespace, so it names nobody: only the thread
//! itself and the kernel on its behalf compare it.
//!
//! # Steps of linking, and what a kill after each leaves
//!
//! 1. name the node as pending: word 0, nothing to mark;
//! 2. word = thread id (release), in place of 0 or, by compare-and-swap, of a dead one's mark:
//!    marked dead, through the pending node;
//! 3. fill the node, point the old first node back at it: as 2;
//! 4. point the head at the node: marked dead, through the list;
//! 5. pending = none: as 4.
//!
//! # Steps of unlinking
//!
//! 1. name the node as pending: marked dead;
//! 2. point the neighbours at each other: marked dead, through the pending node;
//! 3. word = 0, if it is still this thread's, and wake who sleeps on it: not marked;
//! 4. pending = none: not marked;
//! 5. unmap.
//!
//! The word stays a life word for ever: a late mark by a peer's kernel cannot hit other data.
//!
//! # Forked children
//!
//! The private page is wiped in a child, so a node that reads as null is one inherited from the
//! parent: it is on no list of this process.

use std::{
    ffi::c_void,
    io,
    os::fd::BorrowedFd,
    ptr,
    sync::atomic::{
        AtomicU32,
        Ordering::{AcqRel, Relaxed, Release, SeqCst},
        compiler_fence,
    },
};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::{futex, memory, process};

/// Set by the kernel in the word of a dead thread. (`FUTEX_OWNER_DIED`)
pub(crate) const OWNER_DIED: u32 = 0x4000_0000;

/// Set by those who sleep on the word; tells the kernel to wake one of them. (`FUTEX_WAITERS`)
pub(crate) const WAITERS: u32 = 0x8000_0000;

/// The thread's number. (`FUTEX_TID_MASK`)
pub(crate) const TID_MASK: u32 = 0x3fff_ffff;

/// The word begins so many bytes before the end of its page.
pub(crate) const WORD_FROM_PAGE_END: usize = 8;

/// A node of a robust list, as the kernel knows it. The lowest bit of `next` marks the *next*
/// node as that of a priority-inheriting mutex.
#[repr(C)]
struct Node {
    next: *mut Node,
}

/// The robust list of a thread, as the kernel knows it.
#[repr(C)]
struct Head {
    list: Node,
    futex_offset: isize,
    pending: *mut Node,
}

/// The life word of one slot, linked into the robust list of the thread that made it.
///
/// There is no `Drop`: pages that are on a list must never be unmapped (the kernel's walk would
/// end there and miss every older robust mutex of the thread), and whether they are on one
/// cannot be known from any thread. A forgotten node costs two pages and stays right: the kernel
/// marks the word when the thread dies.
pub(crate) struct LifeNode {
    pages: Pages,
    node: *mut Node,
    head: *mut Head,
    tid: u32,
}

impl LifeNode {
    /// Stores the calling thread's id in the word at the end of the page at `slot_page_offset`,
    /// and has the kernel mark it when the thread dies.
    ///
    /// Errors: `Unsupported` where the C library keeps no robust list in which the node fits (or
    /// none at all: musl, a child of a raw `clone`), `ResourceBusy` in the middle of an operation
    /// of the C library on that list, and what mapping says.
    ///
    /// # Safety
    ///
    /// The calling thread owns the slot: no other thread of any process writes the word except
    /// to add [`WAITERS`]. No signal handler that uses robust mutexes or life words runs in this
    /// thread meanwhile. The page stays in the file while the node is linked.
    pub(crate) unsafe fn link(
        file: BorrowedFd<'_>,
        slot_page_offset: u64,
        page_size: usize,
    ) -> io::Result<LifeNode> {
        let life = LifeNode::prepare(file, slot_page_offset, page_size)?;
        // SAFETY: `head` is this thread's, `node` lies in the fresh private page, word owned.
        unsafe { life.enqueue(None) };
        Ok(life)
    }

    /// The same in a slot whose thread died, if its word is still `mark`, by which the slot becomes
    /// the caller's: `None` if somebody else was faster.
    ///
    /// # Errors
    ///
    /// As [`LifeNode::link`].
    ///
    /// # Safety
    ///
    /// As [`LifeNode::link`], but that the slot is nobody's: threads may compete for it by this.
    pub(crate) unsafe fn link_over(
        file: BorrowedFd<'_>,
        slot_page_offset: u64,
        page_size: usize,
        mark: u32,
    ) -> io::Result<Option<LifeNode>> {
        let life = LifeNode::prepare(file, slot_page_offset, page_size)?;
        // Looked at once more before the node is pending: killed there, the kernel would take the
        // word of a winner whose id has the same number in another namespace for this thread's.
        let stands = life.word().load(Relaxed) == mark;
        // SAFETY: as above; the word is written only if it is still the mark.
        if stands && unsafe { life.enqueue(Some(mark)) } {
            return Ok(Some(life));
        }
        // SAFETY: on no list.
        unsafe { life.pages.unmap() };
        Ok(None)
    }

    /// Maps the pages of a node that is on no list yet.
    fn prepare(
        file: BorrowedFd<'_>,
        slot_page_offset: u64,
        page_size: usize,
    ) -> io::Result<LifeNode> {
        check_page(slot_page_offset, page_size)?;
        let head = own_list()?;
        // SAFETY: the head is the C library's own, of this thread.
        let (futex_offset, pending) = unsafe { ((*head).futex_offset, (*head).pending) };
        let place = node_place(futex_offset, page_size).ok_or_else(unfitting)?;
        if !pending.is_null() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let pages = Pages::map(file, slot_page_offset, page_size)?;
        let node = pages.start.wrapping_add(place).cast::<Node>();
        Ok(LifeNode {
            pages,
            node,
            head,
            tid: process::thread_id(),
        })
    }

    /// The word, through this node's own mapping.
    pub(crate) fn word(&self) -> &AtomicU32 {
        let word = self
            .pages
            .start
            .wrapping_add(self.pages.page_size - WORD_FROM_PAGE_END);
        // SAFETY: inside the shared page, aligned, mapped while `self` exists; every process
        // reaches it only as an atomic.
        unsafe { AtomicU32::from_ptr(word.cast()) }
    }

    /// Takes the node off the list, sets the word to 0 and wakes who sleeps on it; unmaps.
    ///
    /// The slot may be given to others only after this returns: until then the kernel may mark
    /// the word. If the word is no longer this thread's it is left alone. In another thread or
    /// process than the one that linked it, it does what [`LifeNode::abandon`] does.
    ///
    /// # Safety
    ///
    /// The thread that linked it calls this (not a later one with the same id), outside of any
    /// operation of the C library on its robust list, as in [`LifeNode::link`].
    pub(crate) unsafe fn unlink(self) {
        if !self.is_of_this_thread() {
            return self.abandon();
        }
        // SAFETY: of this thread and linked, so head, node and neighbours are alive.
        unsafe { self.dequeue() };
        // SAFETY: on no list any more.
        unsafe { self.pages.unmap() };
    }

    /// Forgets a node that was inherited from before a fork. Never touches a list.
    ///
    /// In the process that linked it the pages stay mapped and the node linked.
    pub(crate) fn abandon(self) {
        // Without a registered list (raw `clone`) the inherited memory of the C library may
        // still point at the node.
        if self.is_inherited() && own_list().is_ok() {
            // SAFETY: the C library reset this process's list when it forked, so nothing here
            // points at the node.
            unsafe { self.pages.unmap() };
        }
    }

    /// Steps of linking 1 to 5; over the mark of a dead thread only if it still stands, which is
    /// said.
    ///
    /// # Safety
    ///
    /// As [`LifeNode::link`]; the node is on no list.
    unsafe fn enqueue(&self, mark: Option<u32>) -> bool {
        let (head, node) = (self.head, self.node);
        // SAFETY: the head is this thread's and private; its first node is the head itself, a
        // mutex that this thread holds, or a life node: all mapped, with a back pointer before.
        unsafe {
            let first = (*head).list.next;
            (&raw mut (*head).pending).write_volatile(node);
            compiler_fence(SeqCst);
            if !self.write_word(mark) {
                (&raw mut (*head).pending).write_volatile(ptr::null_mut());
                return false;
            }
            compiler_fence(SeqCst);
            (*node).next = first;
            back_pointer(node).write(head.cast());
            self.point_back(first, node);
            compiler_fence(SeqCst);
            (&raw mut (*head).list.next).write_volatile(node);
            compiler_fence(SeqCst);
            (&raw mut (*head).pending).write_volatile(ptr::null_mut());
        }
        true
    }

    /// Stores the thread's id in the word, over `mark` or over anything.
    fn write_word(&self, mark: Option<u32>) -> bool {
        let Some(mark) = mark else {
            self.word().store(self.tid, Release);
            return true;
        };
        let written = self
            .word()
            .compare_exchange(mark, self.tid, AcqRel, Relaxed);
        written.is_ok()
    }

    /// Steps of unlinking 1 to 4.
    ///
    /// # Safety
    ///
    /// As [`LifeNode::unlink`]; the node is on the list of this thread.
    unsafe fn dequeue(&self) {
        let (head, node) = (self.head, self.node);
        // SAFETY: as in `enqueue`. The node's two pointers lie in the private page: only this
        // thread and its C library wrote them.
        unsafe {
            (&raw mut (*head).pending).write_volatile(node);
            compiler_fence(SeqCst);
            let (next, previous) = ((*node).next, untagged(back_pointer(node).read()));
            self.point_back(next, previous);
            (&raw mut (*previous).next).write_volatile(next);
            compiler_fence(SeqCst);
            self.clear_word();
            compiler_fence(SeqCst);
            (&raw mut (*head).pending).write_volatile(ptr::null_mut());
        }
    }

    /// Sets the back pointer of a node to `previous`; the head needs none.
    ///
    /// # Safety
    ///
    /// `node` may be tagged and is the head or a node of this thread's list.
    unsafe fn point_back(&self, node: *mut Node, previous: *mut Node) {
        let node = untagged(node);
        if node != self.head.cast() {
            // SAFETY: each node but the head has its back pointer right before it.
            unsafe { back_pointer(node).write(previous) };
        }
    }

    /// Sets the word to 0 unless somebody took the slot away from this thread.
    fn clear_word(&self) {
        let mine = |word: u32| (word & TID_MASK == self.tid).then_some(0);
        let before = self.word().fetch_update(Release, Relaxed, mine);
        if before.is_ok_and(|word| word & WAITERS != 0) {
            futex::wake(self.word(), u32::MAX);
        }
    }

    /// Whether the pages came with a fork. The node of a linked one is never null.
    fn is_inherited(&self) -> bool {
        // SAFETY: in the private page, mapped while `self` exists.
        unsafe { (*self.node).next.is_null() }
    }

    fn is_of_this_thread(&self) -> bool {
        let same_list = own_list().is_ok_and(|head| head == self.head);
        same_list && !self.is_inherited() && process::thread_id() == self.tid
    }
}

/// The robust list that the C library registered for the calling thread.
fn own_list() -> io::Result<*mut Head> {
    let (mut head, mut len) = (ptr::null_mut::<Head>(), 0_usize);
    // SAFETY: the kernel writes to the two locals only.
    let status =
        unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    if head.is_null() || len != size_of::<Head>() {
        let why = "the C library registered no robust list for this thread (glibc does)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(head)
}

fn check_page(offset: u64, page_size: usize) -> io::Result<()> {
    let system = memory::page_size();
    let whole = page_size != 0 && page_size.is_multiple_of(system);
    if whole && offset.is_multiple_of(page_size as u64) {
        return Ok(());
    }
    let why = format!("slot page {offset:#x} of {page_size} bytes on {system}-byte pages");
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

/// Where the node lies in the two pages. `None` unless it is aligned and lies, with the back
/// pointer before it, wholly in the second.
fn node_place(futex_offset: isize, page_size: usize) -> Option<usize> {
    let word = page_size.checked_sub(WORD_FROM_PAGE_END)?;
    let place = word.checked_add_signed(futex_offset.checked_neg()?)?;
    let private = page_size + size_of::<*mut Node>()..=2 * page_size - size_of::<Node>();
    (private.contains(&place) && place % align_of::<Node>() == 0).then_some(place)
}

fn unfitting() -> io::Error {
    let why = "this C library keeps the word of a robust mutex too near its list pointers \
               (glibc on a 64-bit system is supported, musl is not)";
    io::Error::new(io::ErrorKind::Unsupported, why)
}

fn untagged(node: *mut Node) -> *mut Node {
    node.map_addr(|address| address & !1)
}

fn back_pointer(node: *mut Node) -> *mut *mut Node {
    node.cast::<*mut Node>().wrapping_sub(1)
}

/// The shared page of a slot and a private page right behind it. No `Drop`: see [`LifeNode`].
struct Pages {
    start: *mut u8,
    page_size: usize,
}

impl Pages {
    fn map(file: BorrowedFd<'_>, offset: u64, page_size: usize) -> io::Result<Pages> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a free range of two pages. What the second one shows of the file
        // is not touched before a private page takes its place.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                2 * page_size,
                access,
                MapFlags::SHARED,
                file,
                offset,
            )?
        };
        let pages = Pages {
            start: start.cast(),
            page_size,
        };
        match pages.fill() {
            Ok(()) => Ok(pages),
            Err(error) => {
                // SAFETY: mapped above, used by nobody.
                unsafe { pages.unmap() };
                Err(error)
            }
        }
    }

    /// Puts the private page behind the shared one, and makes that present: what would be SIGBUS
    /// later is an error here.
    fn fill(&self) -> io::Result<()> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let (shared, private) = (self.start, self.start.wrapping_add(self.page_size));
        let at = MapFlags::FIXED | MapFlags::PRIVATE;
        // SAFETY: replaces a page of our own.
        unsafe { mmap_anonymous(private.cast(), self.page_size, access, at)? };
        memory::wipe_on_fork(private, self.page_size)?;
        match memory::populate(shared, self.page_size, true) {
            // Before Linux 5.14 there is no such advice.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    /// # Safety
    ///
    /// Nothing points into the pages any more.
    unsafe fn unmap(&self) {
        // SAFETY: our own two pages, as promised unused. An error leaves them mapped.
        let _ = unsafe { munmap(self.start.cast::<c_void>(), 2 * self.page_size) };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::UnsafeCell, fs::File, mem::MaybeUninit, os::fd::AsFd,
        sync::atomic::Ordering::Acquire, thread, time::Duration,
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
}
