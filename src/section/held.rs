//! The locks that a thread's section holds.

use super::Ctx;
use crate::{
    error::{Error, Result},
    layout::LockWord,
};
use std::panic::Location;

/// A lock that the section took.
pub(super) struct Held {
    pub(super) word: *const LockWord,
    /// Whether its guard lives; otherwise it is retained to the end of the scope.
    pub(super) guarded: bool,
    pub(super) at: &'static Location<'static>,
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
    /// [`Error::OtherArena`] while the thread has a section in another arena.
    #[inline(always)]
    pub(crate) fn may_lock(&self) -> Result {
        if self.guards != 0 && (self.scopes == 0 || self.outlived) {
            return Err(Error::NeedsSection);
        }
        if self.is_only() {
            return Ok(());
        }
        self.no_other_section()
    }

    #[cold]
    fn no_other_section(&self) -> Result {
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
        match self.body().held.iter().find(|held| held.word == word) {
            Some(held) if held.guarded => Taken::Guarded,
            Some(_) => Taken::Retained,
            None => Taken::No,
        }
    }

    /// Notes a lock whose word bears this thread's tag now.
    #[inline(always)]
    pub(crate) fn hold(&mut self, word: *const LockWord, at: &'static Location<'static>) {
        self.guards += 1;
        self.body_mut().held.push(Held {
            word,
            guarded: true,
            at,
        });
    }

    /// Forgets the lock taken last: its word will not be released, or already was.
    pub(crate) fn forget_guard(&mut self) {
        self.guards -= 1;
        self.body_mut().held.pop();
    }

    /// Whether the section holds other locks than the one of its only guard.
    pub(crate) fn is_one_of_several(&self) -> bool {
        self.body().held.len() > 1
    }

    /// Gives a retained lock a guard again.
    pub(crate) fn hold_again(&mut self, word: *const LockWord) {
        self.guards += 1;
        self.retained -= 1;
        for held in &mut self.body_mut().held {
            if held.word == word {
                held.guarded = true;
            }
        }
    }

    /// Lets go of retained locks in a range that is about to be handed out as `&mut` (J4).
    #[cold]
    pub(super) fn release_retained_in(&mut self, from: usize, to: usize) {
        let mut released = 0;
        self.body_mut().held.retain(|held| {
            let inside = (from..to).contains(&held.word.addr());
            if inside && !held.guarded {
                released += 1;
                // SAFETY: the word lies in the arena's mapping, which the context keeps.
                crate::sync::release(unsafe { &*held.word });
            }
            !inside || held.guarded
        });
        self.retained -= released;
    }

    /// Where each lock that the thread holds was taken.
    pub(crate) fn held_locks(&self) -> String {
        let mut text = String::new();
        for held in &self.body().held {
            let offset = self.mapping().offset_of(held.word).unwrap_or(0);
            text += &format!("\n  the lock at offset {offset:#x}, taken at {}", held.at);
        }
        text
    }
}
