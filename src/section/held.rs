//! The locks that a thread's section holds.

use super::{Ctx, nested::holds_locks};
use crate::{
    error::{Error, Result},
    layout::LockWord,
    share::{Schema, Share, TypeRef, node},
};
use std::{
    any::TypeId,
    panic::Location,
    ptr::NonNull,
    sync::atomic::{Ordering::*, compiler_fence},
    thread,
};

/// A lock that the section took.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) word: *const LockWord,
    /// Whether its guard lives; otherwise it is retained to the end of the unit.
    pub(super) guarded: bool,
    /// Whether the thread was panicking when it took the lock.
    in_panic: bool,
    pub(super) kind: &'static LockKind,
    pub(super) at: &'static Location<'static>,
}

/// What is known of a lock by its type.
pub(crate) struct LockKind {
    /// Whether its value may have locks of its own in it.
    encloses: fn() -> bool,
    /// The lock with its value.
    of: TypeRef,
}

impl LockKind {
    /// The kind of a lock of type `L` around a `T`.
    pub(crate) const fn of<L: Share, T: Share>() -> Self {
        LockKind {
            encloses: holds_locks::<T>,
            of: node::<L>,
        }
    }
}

/// What a lock word that names this thread means to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// The section holds the lock, and its guard has gone: it may have it again.
    Retained,
    /// The guard lives.
    Guarded,
    /// The section does not hold the lock: the word is left over, and free for this thread (J4).
    No,
}

impl Ctx {
    /// May this thread take another lock now?
    ///
    /// # Errors
    ///
    /// [`Error::NeedsSection`] while a guard lives outside [`crate::Arena::section`];
    /// [`Error::InTransaction`] in a transaction, past which no lock is taken;
    /// [`Error::OtherArena`] while the thread has a section in another arena.
    #[inline(always)]
    pub(crate) fn may_lock(&self) -> Result {
        if !self.in_section() && !self.flags.has_others() {
            return Ok(());
        }
        self.may_lock_another()
    }

    #[cold]
    fn may_lock_another(&self) -> Result {
        if self.transaction {
            return Err(Error::InTransaction);
        }
        if self.flags.guards() != 0 && self.scopes == 0 {
            return Err(Error::NeedsSection);
        }
        let elsewhere = Ctx::all().any(|other| {
            // SAFETY: C1.
            !std::ptr::eq(other.as_ptr(), self) && unsafe { other.as_ref() }.in_section()
        });
        if elsewhere {
            return Err(Error::OtherArena);
        }
        Ok(())
    }

    /// What a word that bears this thread's tag means.
    pub(crate) fn taken(&self, word: *const LockWord) -> Taken {
        match self.held().find(|held| held.word == word) {
            Some(held) if held.guarded => Taken::Guarded,
            Some(_) => Taken::Retained,
            None => Taken::No,
        }
    }

    /// The locks of the section, in the order in which they were taken.
    pub(super) fn held(&self) -> impl Iterator<Item = Held> {
        let single = self.flags.has_single().then_some(self.single_kind);
        let single = single.flatten().zip(self.single_at);
        let single = single.map(|(kind, at)| Held {
            word: self.single,
            guarded: true,
            in_panic: self.flags.is_in_panic(),
            kind,
            at,
        });
        single.into_iter().chain(self.body().held.iter().copied())
    }

    /// Whether the thread was panicking already when it took the lock, which it holds.
    pub(crate) fn taken_in_panic(&self, word: *const LockWord) -> bool {
        self.held().any(|held| held.word == word && held.in_panic)
    }

    /// Whether nothing is open here nor in the thread's other contexts. Cold, although who uses two arenas
    /// comes by here: it must not cost the others registers.
    #[cold]
    #[inline(never)]
    fn is_only_open(&self) -> bool {
        // SAFETY: C1.
        let is_open = |ctx: NonNull<Ctx>| unsafe { ctx.as_ref() }.in_section();
        self.flags.are_of_others_only() && !Ctx::all().any(is_open)
    }

    /// Takes a lock that is free where the thread has no section, in no arena, and does not panic.
    ///
    /// It is noted before it is taken: from there on a signal handler finds a section.
    #[inline(always)]
    pub(crate) fn take_single(
        &mut self,
        word: &LockWord,
        kind: &'static LockKind,
        at: &'static Location<'static>,
    ) -> bool {
        if !self.flags.are_clear() && !self.is_only_open() || thread::panicking() {
            return false;
        }
        // First, so that a handler does not note a lock of its own where this one's is noted.
        self.flags.begin_single();
        compiler_fence(SeqCst);
        self.note_single(word, kind, at);
        compiler_fence(SeqCst);
        let taken = word
            .0
            .compare_exchange(0, self.tag, Acquire, Relaxed)
            .is_ok();
        if !taken {
            self.flags.set_single(false, false);
        }
        taken
    }

    #[inline(always)]
    fn note_single(
        &mut self,
        word: *const LockWord,
        kind: &'static LockKind,
        at: &'static Location<'static>,
    ) {
        self.single = word;
        self.single_kind = Some(kind);
        self.single_at = Some(at);
    }

    /// Notes a lock whose word bears this thread's tag now.
    pub(crate) fn hold(
        &mut self,
        word: *const LockWord,
        kind: &'static LockKind,
        at: &'static Location<'static>,
    ) {
        if !self.flags.is_plural() {
            debug_assert_eq!(self.flags.guards(), 0);
            self.note_single(word, kind, at);
            return self.flags.set_single(true, thread::panicking());
        }
        self.forget_where(|other| other == word);
        self.flags.add_guard();
        self.body_mut().held.push(Held {
            word,
            guarded: true,
            in_panic: thread::panicking(),
            kind,
            at,
        });
    }

    /// Forgets locks that are not where they were taken any more. Their words are not written;
    /// wherever they are at the end of the unit, they become free with the slot's next generation.
    ///
    /// Their guards have gone: they were dropped, or leaked, since a guard borrows its lock.
    #[cold]
    fn forget_where(&mut self, is_gone: impl Fn(*const LockWord) -> bool) {
        let (mut retained, mut leaked) = (0, 0);
        self.body_mut().held.retain(|held| {
            let gone = is_gone(held.word);
            retained += u32::from(gone && !held.guarded);
            leaked += u32::from(gone && held.guarded);
            !gone
        });
        self.retained -= retained;
        self.flags.remove_guards(u64::from(leaked));
        self.moved |= retained + leaked != 0;
    }

    /// Forgets the lock taken last: its word will not be released, or already was.
    pub(crate) fn forget_guard(&mut self) {
        if self.flags.is_plural() {
            self.flags.remove_guards(1);
            self.body_mut().held.pop();
        } else {
            self.flags.set_single(false, false);
        }
    }

    /// Whether the thread holds other locks than the one of the section's only guard.
    pub(crate) fn is_one_of_several(&self) -> bool {
        self.body().held.len() > 1 || self.reads_any()
    }

    /// Gives a retained lock a guard again.
    pub(crate) fn hold_again(&mut self, word: *const LockWord) {
        self.flags.add_guard();
        self.retained -= 1;
        for held in &mut self.body_mut().held {
            if held.word == word {
                held.guarded = true;
                // Its new guard is of what goes on now.
                held.in_panic = thread::panicking();
            }
        }
    }

    /// Forgets locks in a range that is about to be handed out as `&mut`, moved or freed (J4): from
    /// here on plain code decides what lies there.
    #[cold]
    pub(super) fn forget_locks_in(&mut self, from: usize, to: usize) {
        self.forget_where(|word| (from..to).contains(&word.addr()));
        self.forget_reads_in(from, to);
    }

    /// How many of the section's locks are certainly where they were taken: those before the first
    /// in whose value others may lie, and that one. Plain code with a `&mut` to that value may have
    /// moved the others, or put something else in their place.
    pub(super) fn certain(&self) -> usize {
        match self.held().count() {
            len @ (0 | 1) => len,
            len => self
                .held()
                .position(|held| (held.kind.encloses)())
                .map_or(len, |first| first + 1),
        }
    }

    /// The locks of the section that are certainly where they were taken, with what they protect. All
    /// others of the section lie in these.
    pub(crate) fn locked(&self) -> impl Iterator<Item = (u64, Schema)> {
        let held = self.held().take(self.certain());
        held.map(|held| {
            let offset = self.mapping().offset_of(held.word).unwrap_or(0);
            (offset, Schema::of_type(held.kind.of))
        })
    }

    /// The schema of a type that occurs under some lock of the section.
    pub(super) fn schema_within(&self, id: TypeId) -> Option<Schema> {
        self.held()
            .find_map(|held| Schema::within(held.kind.of, id))
    }

    /// Whether the thread may have a `&mut` to locks or semaphores: under a mutex in whose value some
    /// are, or while it builds a value.
    pub(crate) fn may_move_locks(&self) -> bool {
        let none = self.held().next().is_none();
        self.flags.guards() != 0 && (none || self.held().any(|held| (held.kind.encloses)()))
    }

    /// Counts a raw lock, which is no part of a section, but names the slot's generation too.
    pub(crate) fn raw_lock_taken(&mut self) {
        self.raw_locks += 1;
    }

    /// The reverse.
    pub(crate) fn raw_lock_released(&mut self) {
        self.raw_locks = self.raw_locks.saturating_sub(1);
    }

    /// Where each lock that the thread holds was taken.
    pub(crate) fn held_locks(&self) -> String {
        let mut text = String::new();
        for held in self.held() {
            let offset = self.mapping().offset_of(held.word).unwrap_or(0);
            text += &format!("\n  the lock at offset {offset:#x}, taken at {}", held.at);
        }
        self.write_reads(&mut text);
        text
    }
}
