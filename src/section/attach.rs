//! Attaching a thread to an arena, and detaching it.

use super::Ctx;
use crate::{
    error::{Error, Result},
    journal::{self, Lived, tag_of},
    mapping::{self, Access, Mapping},
    os::{self, exit, process},
};
use std::{
    ffi::c_void,
    ptr::{self, NonNull},
    sync::{Arc, atomic::Ordering::*},
};

/// The calling thread's context in the arena in which `place` lies; makes one if need be.
///
/// # Errors
///
/// [`Error::NotInArena`], [`Error::ReadOnly`], [`Error::NoSlots`], or what the kernel said.
#[inline(always)]
pub(crate) fn attached<T: ?Sized>(place: *const T) -> Result<NonNull<Ctx>> {
    match Ctx::find(place) {
        Some(ctx) => Ok(ctx),
        None => attach_at(place.addr()),
    }
}

#[cold]
#[inline(never)]
fn attach_at(address: usize) -> Result<NonNull<Ctx>> {
    let place: *const u8 = ptr::without_provenance(address);
    let located = mapping::locate(place).ok_or(Error::NotInArena)?;
    let mapping = mapping::find_base(located.base).ok_or(Error::NotInArena)?;
    attach(&mapping)
}

/// The calling thread's context in an arena; makes one if need be.
#[inline(always)]
pub(crate) fn attach(mapping: &Arc<Mapping>) -> Result<NonNull<Ctx>> {
    match Ctx::last_of(mapping) {
        Some(ctx) => Ok(ctx),
        None => find_or_attach(mapping),
    }
}

#[cold]
#[inline(never)]
fn find_or_attach(mapping: &Arc<Mapping>) -> Result<NonNull<Ctx>> {
    if let Some(ctx) = Ctx::find(mapping.base()) {
        return Ok(ctx);
    }
    if mapping.access() != Access::ReadWrite {
        return Err(Error::ReadOnly);
    }
    Ctx::drop_inherited();
    process::with_signals_blocked(|| {
        let pages = Ctx::pages()?;
        let Lived { slot, life } = journal::claim_slot(mapping)?;
        let tag = tag_of(mapping, slot);
        let ctx = Ctx::create(pages, mapping.clone(), slot, tag, life);
        // Each time: this may be the first of its process, or of a forked child.
        let reached = os::memory::membarrier_register();
        // SAFETY: C1; the reference ends with this statement.
        unsafe { ctx.as_ref() }.flags.set_unreached(!reached);
        // SAFETY: `thread_ends` may be called in any thread, with any argument.
        unsafe { exit::at_thread_exit(ptr::dangling_mut::<c_void>(), thread_ends) }
            .map_err(|source| Error::os("watch for the end of this thread", source))?;
        exit::at_process_exit(process_ends)
            .map_err(|source| Error::os("watch for the end of this process", source))?;
        Ok(ctx)
    })
}

/// Runs when a thread ends, behind its own thread-locals.
unsafe extern "C" fn thread_ends(_: *mut c_void) {
    Ctx::drop_inherited();
    abort_if_locked();
    detach_all();
}

/// Runs at `exit`, in the thread that called it. Whoever holds a lock then dies with it.
extern "C" fn process_ends() {
    Ctx::drop_inherited();
    let busy = Ctx::all().any(|ctx| {
        // SAFETY: C1.
        let ctx = unsafe { ctx.as_ref() };
        ctx.in_section() || ctx.reads_any() || ctx.flags.is_busy()
    });
    if !busy {
        detach_all();
    }
}

/// Others would see the lock's holder as dead, while references under its guard may still be used
/// by other threads: nothing safe is left but to end the process (R10).
fn abort_if_locked() {
    for ctx in Ctx::all() {
        // SAFETY: C1.
        let ctx = unsafe { ctx.as_ref() };
        if ctx.in_section() || ctx.reads_any() {
            let name = std::thread::current().name().unwrap_or("?").to_owned();
            eprintln!(
                "sharena: the thread `{name}` ended while it held{}\n\
                 its guard was leaked; the process is aborted, since others would undo what the \
                 thread did under the lock, or write what it reads",
                ctx.held_locks()
            );
            std::process::abort();
        }
    }
}

fn detach_all() {
    while let Some(ctx) = Ctx::all().next() {
        detach(ctx);
    }
}

/// Detaches the calling thread from an arena, unless it has a section there.
pub(crate) fn detach_current(mapping: &Mapping) {
    Ctx::drop_inherited();
    if let Some(ctx) = Ctx::find(mapping.base()) {
        // SAFETY: C1.
        let own = unsafe { ctx.as_ref() };
        let holds = own.holds_permits() || own.reads_any() || own.reserved != 0;
        if !own.in_section() && !own.flags.is_busy() && !holds {
            detach(ctx);
        }
    }
}

impl Ctx {
    /// Counts a reserved block, which keeps the context (C1).
    #[inline(always)]
    pub(crate) fn count_reserved(&mut self) {
        self.reserved += 1;
    }

    /// A reserved block has gone. Says whether it was what kept the context: the last one, and there
    /// are no handles.
    #[inline(always)]
    pub(crate) fn reserved_gone(&mut self) -> bool {
        self.reserved -= 1;
        self.reserved == 0 && self.mapping().handles().load(Relaxed) == 0
    }
}

/// Detaches a context that nothing keeps any more.
#[cold]
#[inline(never)]
pub(crate) fn leave_unused(ctx: NonNull<Ctx>) {
    // SAFETY: C1; the reference ends with this statement.
    let mapping = unsafe { ctx.as_ref() }.mapping_kept();
    detach_current(&mapping);
}

/// The reverse of attaching: permits, slabs, generation, life word, claim (R6).
fn detach(mut ctx: NonNull<Ctx>) {
    process::with_signals_blocked(|| {
        let (slot, tag) = {
            // SAFETY: C1; the reference ends before the context is destroyed.
            let ctx = unsafe { ctx.as_mut() };
            ctx.drop_segments(0);
            let (body, magazines, mapping) = ctx.parts();
            body.cache.release_all(mapping, magazines);
            (body.index, ctx.tag())
        };
        // SAFETY: C1, and nobody else has a reference: this is the thread's end, or its last
        // handle's, outside any section.
        let mut body = unsafe { Ctx::destroy(ctx) };
        let mapping = body.mapping.clone();
        crate::sync::return_permits(&mapping, slot, tag);
        journal::next_generation(&mapping.slot(slot).generation);
        let life = body.life.take();
        journal::leave(&mapping, Lived { slot, life });
    });
}

impl Ctx {
    /// Gives back what the thread keeps for later: empty slabs, segments of its log. Outside sections.
    pub(crate) fn release_unused(&mut self) {
        debug_assert!(!self.in_section());
        self.drop_segments(0);
        let (body, magazines, mapping) = self.parts();
        body.cache.release_empty(mapping, magazines);
    }
}
