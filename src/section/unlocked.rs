//! Sections that have no lock: for what only the thread can reach, and for what is only freed.

use super::Ctx;
use crate::error::{Error, Result};
use std::{
    ptr::NonNull,
    sync::atomic::{Ordering::*, compiler_fence},
};

impl Ctx {
    /// Opens a section that has no lock: for what only this thread can reach.
    fn open_unlocked(&mut self) -> Result {
        self.may_lock()?;
        self.flags.add_guard();
        Ok(())
    }

    /// Opens one in which things are only freed: beside a section in another arena, too, as long as that has
    /// nothing to undo. Otherwise it might put back what names the blocks, after these were freed here.
    fn open_for_drops(&mut self) -> Result {
        match self.may_lock() {
            Err(Error::OtherArena) if Self::all().all(has_nothing_to_undo) => {}
            refused => refused?,
        }
        self.flags.add_guard();
        Ok(())
    }

    /// Closes it.
    fn close_unlocked(&mut self) {
        if !self.is_own() {
            return;
        }
        let busy = self.flags.is_busy();
        self.flags.set_busy(true);
        self.flags.remove_guards(1);
        if !self.in_section() && self.commit() {
            self.finish();
        }
        compiler_fence(SeqCst);
        self.flags.set_busy(busy);
    }
}

fn has_nothing_to_undo(ctx: NonNull<Ctx>) -> bool {
    // SAFETY: C1; the reference ends with this function.
    unsafe { ctx.as_ref() }.log_is_empty()
}

/// Runs `f` in the thread's open section, or in one of its own.
pub(crate) fn in_any_section<R>(ctx: NonNull<Ctx>, f: impl FnOnce() -> Result<R>) -> Result<R> {
    in_section_opened_by(Ctx::open_unlocked, ctx, f)
}

/// The same for what is only freed, in most cases also while the thread has a section in another arena.
pub(crate) fn in_section_for_drops<R>(
    ctx: NonNull<Ctx>,
    f: impl FnOnce() -> Result<R>,
) -> Result<R> {
    in_section_opened_by(Ctx::open_for_drops, ctx, f)
}

fn in_section_opened_by<R>(
    open: impl FnOnce(&mut Ctx) -> Result,
    mut ctx: NonNull<Ctx>,
    f: impl FnOnce() -> Result<R>,
) -> Result<R> {
    // SAFETY: C1; the reference does not live across `f`.
    let inside = unsafe { ctx.as_ref() }.in_section();
    if inside {
        return f();
    }
    /// Ends the section also when `f` panics.
    struct Close(NonNull<Ctx>);
    impl Drop for Close {
        fn drop(&mut self) {
            // SAFETY: C1.
            unsafe { self.0.as_mut() }.close_unlocked();
        }
    }
    // SAFETY: C1.
    open(unsafe { ctx.as_mut() })?;
    let _close = Close(ctx);
    f()
}
