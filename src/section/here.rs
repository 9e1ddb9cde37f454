//! Where the arena lies that the thread is at: what each access to a container asks.

use super::Ctx;
use crate::{
    layout::BufferHeader,
    mapping::{Located, Mapping},
};
use std::{
    cell::Cell,
    ptr::{self, NonNull},
};

/// The begin of a context: the range of its arena.
///
/// All zeroes where there is no arena, and in a forked child, since contexts lie in pages that a fork
/// wipes: then no address lies in it. So one comparison serves to find the arena and to notice a
/// fork, and there is no null pointer to look for.
#[repr(transparent)]
pub(super) struct Here(pub(super) Located);

// SAFETY: a pointer that is only compared and added to; the shared one is null.
unsafe impl Sync for Here {}

/// Of a thread that has no context.
static NOWHERE: Here = Here(Located::NOWHERE);

/// SAFETY: the address of a static.
const NO_CONTEXT: NonNull<Here> =
    unsafe { NonNull::new_unchecked((&raw const NOWHERE).cast_mut()) };

thread_local! {
    /// The begin of the context used last.
    static CURRENT: Cell<NonNull<Here>> = const { Cell::new(NO_CONTEXT) };
}

impl Here {
    /// That of the context used last.
    #[inline(always)]
    fn current<'a>() -> (&'a Located, NonNull<Ctx>) {
        let current = CURRENT.get();
        // SAFETY: contexts are unlinked, here too, before they are unmapped (C1); the reference is
        // used for the next few lines only.
        (unsafe { &current.as_ref().0 }, current.cast())
    }
}

impl Ctx {
    /// The calling thread's context of the arena in which `place` lies, if it has one.
    #[inline(always)]
    pub(crate) fn find<T: ?Sized>(place: *const T) -> Option<NonNull<Ctx>> {
        let (here, ctx) = Here::current();
        if here.covers(place.addr()) {
            return Some(ctx);
        }
        Self::find_slow(place.addr())
    }

    /// The same, but only if it is the context used last.
    #[inline(always)]
    pub(crate) fn find_last<T: ?Sized>(place: *const T) -> Option<NonNull<Ctx>> {
        let (here, ctx) = Here::current();
        here.covers(place.addr()).then_some(ctx)
    }

    /// The calling thread's context of the arena, but only if it is the one used last.
    #[inline(always)]
    pub(crate) fn last_of(mapping: &Mapping) -> Option<NonNull<Ctx>> {
        let (here, ctx) = Here::current();
        // A wiped context has no base (C3), and the one of a mapping that lives is its alone.
        (here.base == mapping.base()).then_some(ctx)
    }

    /// The calling thread's context of the arena that containers know by `arena`, but only if it is the one
    /// used last.
    #[inline(always)]
    pub(crate) fn last_in(arena: u32) -> Option<NonNull<Ctx>> {
        let (here, ctx) = Here::current();
        (here.arena == arena && here.len != 0).then_some(ctx)
    }

    /// The base of the arena in which a container lies, if it is the one that the container's memory
    /// is in, and the one the thread is at.
    ///
    /// All is loaded before anything is decided, and then it is one decision: so in a loop the compiler
    /// loads once.
    #[inline(always)]
    pub(crate) fn here(header: &BufferHeader) -> Option<*mut u8> {
        let (here, _) = Here::current();
        let base = here.base;
        let inside = here.covers(ptr::from_ref(header).addr());
        (inside & (here.arena == header.arena)).then_some(base)
    }

    /// Where the arena is mapped that the thread is at.
    #[inline(always)]
    pub(crate) fn located() -> Located {
        *Here::current().0
    }

    #[cold]
    #[inline(never)]
    fn find_slow(address: usize) -> Option<NonNull<Ctx>> {
        Self::drop_inherited();
        let found = Self::all().find(|ctx| {
            // SAFETY: C1.
            unsafe { ctx.as_ref() }.here.0.covers(address)
        })?;
        Self::set_current(Some(found));
        Some(found)
    }

    /// Makes a context that is on the thread's list the one used last; or none.
    pub(super) fn set_current(ctx: Option<NonNull<Ctx>>) {
        CURRENT.set(ctx.map_or(NO_CONTEXT, NonNull::cast::<Here>));
    }
}
