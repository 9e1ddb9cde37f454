//! What containers write through: the calling thread's open section, and how it is found.

use super::Ctx;
use crate::{
    error::{Error, Result},
    layout::BufferHeader,
    mapping::{self, Mapping},
};
use std::ptr::{self, NonNull};

/// The calling thread's open section, as an operation uses it. `Copy`, for one operation only.
///
/// The order of an operation (J1): *record* what will be overwritten, *allocate*, then write.
/// Each of these makes its log entry valid by one store, before anything is changed.
#[derive(Clone, Copy)]
pub(crate) struct Writer {
    ctx: NonNull<Ctx>,
}

impl Writer {
    /// The section in which the bytes at `place` may be changed.
    ///
    /// # Errors
    ///
    /// [`Error::NotInArena`], [`Error::ReadOnly`], or [`Error::NoSection`] where the thread has no
    /// write guard in that arena.
    #[inline(always)]
    pub(crate) fn at<T: ?Sized>(place: *const T) -> Result<Self> {
        if let Some(ctx) = Ctx::find(place) {
            // SAFETY: C1; the reference ends with this statement.
            if unsafe { ctx.as_ref() }.in_section() {
                return Ok(Writer { ctx });
            }
        }
        Err(Self::refuse(place.addr()))
    }

    /// The open section, if it recorded the container's header already. The fast path of
    /// [`raw::open`](crate::collections::raw::open): a header that bears the section's stamp was
    /// borrowed mutably under its guard.
    #[inline(always)]
    pub(crate) fn that_recorded(header: &BufferHeader) -> Option<Self> {
        let ctx = Ctx::find_last(header)?;
        // SAFETY: C1; the reference ends with this function.
        let own = unsafe { ctx.as_ref() };
        let recorded = header.stamp == own.stamp() && header.arena == own.arena();
        recorded.then_some(Writer { ctx })
    }

    /// The open section, if what it recorded last was all of a container of that arena, whose header
    /// and size these are: as part of what a guard protects.
    #[inline(always)]
    pub(crate) fn that_just_recorded(header: &BufferHeader, size: usize) -> Option<Self> {
        let ctx = Ctx::find_last(header)?;
        // SAFETY: C1; the reference ends with this function.
        let own = unsafe { ctx.as_ref() };
        let writer = Writer { ctx };
        let recorded = writer.just_recorded(header, size) && header.arena == own.arena();
        recorded.then_some(writer)
    }

    /// The thread's open section in the arena that containers know by `arena`, if it has one.
    #[inline]
    pub(crate) fn open_in(arena: u32) -> Option<Self> {
        match Ctx::last_in(arena) {
            // SAFETY: C1; the reference ends with this statement.
            Some(ctx) if unsafe { ctx.as_ref() }.in_section() => Some(Writer { ctx }),
            _ => Self::open_in_any(arena),
        }
    }

    #[cold]
    #[inline(never)]
    fn open_in_any(arena: u32) -> Option<Self> {
        Ctx::all()
            .find(|ctx| {
                // SAFETY: C1.
                let ctx = unsafe { ctx.as_ref() };
                ctx.in_section() && ctx.mapping().arena() == arena
            })
            .map(|ctx| Writer { ctx })
    }

    #[cold]
    fn refuse(address: usize) -> Error {
        let place: *const u8 = ptr::without_provenance(address);
        if Ctx::find(place).is_some() {
            return Error::NoSection;
        }
        match mapping::locate(place) {
            None => Error::NotInArena,
            Some(located) => match mapping::find_id(located.arena) {
                Some(found) if found.access() == mapping::Access::ReadWrite => Error::NoSection,
                _ => Error::ReadOnly,
            },
        }
    }

    /// The section of a context that is known to have one.
    #[inline(always)]
    pub(crate) fn of(ctx: NonNull<Ctx>) -> Self {
        Writer { ctx }
    }

    /// Whether it is the section of that context.
    #[inline(always)]
    pub(crate) fn is_of(&self, ctx: NonNull<Ctx>) -> bool {
        self.ctx == ctx
    }

    #[inline(always)]
    pub(super) fn ctx(&self) -> &Ctx {
        // SAFETY: C1: the context lives as long as its section; no `&mut` to it is held across
        // calls, see `ctx_mut`.
        unsafe { self.ctx.as_ref() }
    }

    /// The context, for the length of one call. Only the owning thread has a `Writer`, which is not
    /// `Send`, and no method calls user code while it holds this.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(super) fn ctx_mut(&self) -> &mut Ctx {
        // SAFETY: as said above.
        unsafe { &mut *self.ctx.as_ptr() }
    }

    #[inline(always)]
    pub(crate) fn mapping(&self) -> &Mapping {
        self.ctx().mapping()
    }

    #[inline(always)]
    pub(crate) fn base(&self) -> *mut u8 {
        self.ctx().base()
    }

    /// The part of the arena's id that containers carry.
    #[inline(always)]
    pub(crate) fn arena(&self) -> u32 {
        self.ctx().arena()
    }

    /// What the arena's hash tables hash with.
    #[inline(always)]
    pub(crate) fn hash_seed(&self) -> u64 {
        self.ctx().hash_seed()
    }

    /// Whether the section is this process's: not so in a forked child that has inherited the writer.
    #[inline(always)]
    pub(crate) fn is_own(&self) -> bool {
        self.ctx().is_own()
    }

    /// The open section's stamp.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> u64 {
        self.ctx().stamp()
    }

    /// Ends the unit and begins the next one: for a section that has no guard.
    pub(crate) fn commit_and_go_on(&self) {
        self.ctx_mut().commit_and_go_on();
    }
}
