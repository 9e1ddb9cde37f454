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
mod tests;
