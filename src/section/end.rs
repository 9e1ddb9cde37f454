//! The end of a section: commit, release the locks, free, empty (J8).

use super::{
    Ctx,
    flags::Entered,
    frees::{DOOMED, Deferred, SmallBlock},
    held::Held,
};
use crate::{
    error::{Error, Rare, Result},
    layout::{INLINE_LOG, LockWord, LogPosition, MutexHeader, SlabKind, SlabState, WAITERS_BIT},
    mutant::{self, Mutant},
    sync::{is_calm, release_calm, wake_one},
};
use std::{
    ptr::{self, NonNull},
    sync::atomic::{Ordering::*, compiler_fence},
};

impl Ctx {
    /// Commits: what the section did is there to stay. One store. Says whether frees are left.
    #[inline(always)]
    pub(super) fn commit(&mut self) -> bool {
        if self.flags.has_frees() {
            self.commit_frees();
            return true;
        }
        self.commit_all();
        false
    }

    /// Commits a section that has nothing to free.
    #[inline(always)]
    fn commit_all(&mut self) {
        if self.log_is_empty() {
            return;
        }
        self.commit_as(0);
        self.rewind_kept();
        compiler_fence(SeqCst);
    }

    #[inline(always)]
    fn commit_frees(&mut self) {
        self.commit_as(self.position().0 | LogPosition::COMMITTED);
        compiler_fence(SeqCst);
    }

    /// The one store: what it leaves of the log is for whoever finishes the frees; 0 if there are none.
    #[inline(always)]
    fn commit_as(&mut self, log: u64) {
        self.forget_recorded();
        compiler_fence(SeqCst);
        self.slot().log.store(log, Release);
    }

    /// What was recorded belongs to no section any more.
    #[inline(always)]
    pub(super) fn forget_recorded(&mut self) {
        self.next_stamp();
        self.recorded_to = ptr::null();
    }

    /// Sets the cursor back, and gives back most of what a long section needed.
    #[inline(always)]
    pub(super) fn rewind_kept(&mut self) {
        if self.segment != 0 {
            self.drop_long_segments();
            self.rewind();
        }
        self.next = self.inline;
    }

    /// The frees of a committed section, from the last to the first, and the end of its journal.
    pub(super) fn finish(&mut self) {
        if self.flags.has_more_frees() {
            self.finish_several();
        } else {
            self.finish_one();
            self.flags.set_one_free(false);
        }
    }

    /// The same where there is but one, except for what the flags say.
    #[inline(always)]
    fn finish_one(&mut self) {
        debug_assert!(self.flags.has_one_free());
        self.free_own(self.one_free);
        compiler_fence(SeqCst);
        self.slot().log.store(0, Release);
        self.rewind_kept();
        self.release_emptied();
    }

    #[inline(never)]
    fn finish_several(&mut self) {
        let mut doubted = false;
        while let Some(free) = self.next_free() {
            doubted |= self.free_now(free);
        }
        compiler_fence(SeqCst);
        self.slot().log.store(0, Release);
        if doubted {
            self.mapping().doubt(self.index()).block.store(0, Release);
        }
        // Only now: a committed log is never worked off again from its end (J9).
        if !mutant::is(Mutant::DoneKept) {
            self.slot().done.store(0, Release);
        }
        self.body_mut().dooms.forget_places();
        self.rewind_kept();
        self.release_emptied();
    }

    /// Gives back slabs of the thread that became empty. No journal may name a block of them.
    #[inline(always)]
    pub(super) fn release_emptied(&mut self) {
        let (body, _, mapping) = self.parts();
        body.cache.release_emptied(mapping);
    }

    /// One free. Says whether the slot's doubt word names it.
    fn free_now(&mut self, free: Deferred) -> bool {
        match free {
            Deferred::Own(block) => {
                self.free_own(block);
                false
            }
            Deferred::Other {
                position,
                offset,
                state,
            } => self.free_other(position, offset, state),
        }
    }

    /// One free of a block in an own slab: one store, which may be repeated.
    #[inline(always)]
    pub(super) fn free_own(&mut self, block: SmallBlock) {
        // One that the section freed twice is put back once.
        if self.mapping().unpublish_at(block.place)
            && !self.magazines.push(block.class, block.offset)
        {
            self.put_in_full(block.offset, block.class);
        }
    }

    /// One free of a span, or of a block in a slab of others. Killed anywhere inside, recovery may
    /// repeat it (J9, J10). Says whether the slot's doubt word names it.
    #[inline(never)]
    pub(super) fn free_other(&mut self, position: u64, offset: u64, state: SlabState) -> bool {
        if state == DOOMED {
            self.bury(offset, position);
            return false;
        }
        let (mapping, index) = (self.mapping(), self.index());
        if state.is(SlabKind::Span) {
            mapping.free_span(mapping.slab_of(offset), state, index);
            mutant::here("a block was freed");
            return false;
        }
        let Some((block, state)) = mapping.block_around(offset) else {
            return false;
        };
        if !mapping.begins_at(block, offset) {
            return false;
        }
        if self.owns(state) {
            // Adopted since.
            self.free_own(SmallBlock::new(mapping, block, offset));
            return false;
        }
        if !mutant::is(Mutant::NoDoubt) {
            mapping.doubt(index).block.store(offset, Release);
        }
        mapping.free_remotely(block);
        compiler_fence(SeqCst);
        mutant::here("a block was freed");
        if position != 0 && !mutant::is(Mutant::NoDone) {
            mapping.slot(index).done.store(position, Release);
            compiler_fence(SeqCst);
        }
        true
    }

    /// Frees a small block where no section is open: one change of one bit, so no journal. Nobody
    /// repeats it, so no doubt word either. Says whether that was possible: it is not so where
    /// something else is at `offset`, where the context is in use, or where the thread has others.
    #[inline(always)]
    pub(crate) fn free_alone(&mut self, offset: u64) -> bool {
        self.free_entered(self.flags.enter_single(), offset)
    }

    /// The same where the thread has other contexts.
    pub(crate) fn free_among_others(&mut self, offset: u64) -> bool {
        self.free_entered(self.enter_among_others(), offset)
    }

    #[inline(always)]
    fn free_entered(&mut self, entered: Option<Entered>, offset: u64) -> bool {
        let Some(entered) = entered else {
            return false;
        };
        let freed = self.free_bit(offset);
        self.flags.leave(entered);
        freed
    }

    /// Keeps signal handlers out for what needs no section, unless something is going on already.
    fn enter_among_others(&self) -> Option<Entered> {
        if self.scopes != 0 {
            return None;
        }
        self.may_lock().ok()?;
        self.flags.enter_idle()
    }

    #[inline(always)]
    fn free_bit(&mut self, offset: u64) -> bool {
        let mapping = self.mapping();
        let Some((block, state)) = mapping.block_at(offset) else {
            return false;
        };
        // A slab of others stays so, and of its class, while the block is allocated: only this thread
        // could adopt it for this slot.
        let own = self.owns(state);
        if !mapping.free_given_out(block, own) {
            return false;
        }
        if !own {
            mutant::here("a block was freed");
        } else if !self.magazines.push(block.class, offset) {
            self.put_alone_in_full(offset, block.class);
        }
        true
    }

    /// Puts a block into a magazine that is full.
    #[cold]
    #[inline(never)]
    fn put_in_full(&mut self, offset: u64, class: usize) {
        let (body, magazines, mapping) = self.parts();
        body.cache.put(mapping, magazines, offset, class);
    }

    /// The same where no section is open: gives back slabs that became empty.
    #[cold]
    #[inline(never)]
    fn put_alone_in_full(&mut self, offset: u64, class: usize) {
        self.put_in_full(offset, class);
        self.release_emptied();
    }

    /// Publishes a reserved block where no section is open: one store, so no journal. Says whether that
    /// was possible: as [`Ctx::free_alone`].
    #[inline(always)]
    pub(crate) fn publish_alone(&mut self, offset: u64, class: usize) -> bool {
        self.publish_entered(self.flags.enter_single(), offset, class)
    }

    /// The same where the thread has other contexts.
    pub(crate) fn publish_among_others(&mut self, offset: u64, class: usize) -> bool {
        self.publish_entered(self.enter_among_others(), offset, class)
    }

    #[inline(always)]
    fn publish_entered(&mut self, entered: Option<Entered>, offset: u64, class: usize) -> bool {
        let Some(entered) = entered else {
            return false;
        };
        super::blocks::publish(self.mapping(), offset, class);
        self.flags.leave(entered);
        true
    }

    /// Ends the section of a single lock, whose guard lives, and begins its next one. Says whether it is
    /// such a section, and not in the midst of a step.
    #[inline(always)]
    pub(crate) fn commit_single(&mut self) -> bool {
        if self.reads_any() {
            return false;
        }
        let Some(entered) = self.flags.enter_section_of_single() else {
            return false;
        };
        if !entered.has_frees() {
            self.commit_all();
        } else if entered.has_more_frees() {
            self.commit_and_free_several();
        } else {
            self.commit_frees();
            self.finish_one();
        }
        self.flags.leave(entered.without_frees());
        true
    }

    #[cold]
    #[inline(never)]
    fn commit_and_free_several(&mut self) {
        self.commit_frees();
        self.finish_several();
    }

    /// As [`Ctx::commit_single`], for any section of one lock whose guard lives.
    ///
    /// # Errors
    ///
    /// [`Error::NoSection`] where it is that of the process that this one was forked from;
    /// [`Error::NeedsSection`] where other locks are held; [`Error::Reentered`].
    #[cold]
    #[inline(never)]
    pub(crate) fn commit_only(&mut self) -> Rare {
        if !self.is_own() {
            return Err(Error::NoSection.into());
        }
        if self.is_one_of_several() {
            return Err(Error::NeedsSection.into());
        }
        self.enter()?;
        self.commit_and_go_on();
        self.leave();
        Ok(())
    }

    /// Ends the unit and begins the next one without letting go of the locks.
    pub(crate) fn commit_and_go_on(&mut self) {
        if self.flags.has_frees() {
            self.commit_frees();
            self.finish();
        } else {
            self.commit_all();
        }
    }

    /// The guard of the unit's only lock goes, which ends the unit. Says whether that is all; otherwise
    /// [`Ctx::guard_dropped`] does the rest, or all of it: where something is to be freed, or somebody
    /// sleeps for the lock, or the log does not lie in the slot.
    ///
    /// It is so little that the compiler makes it a part of whoever drops a guard: no more than one call.
    #[inline(always)]
    pub(crate) fn end_short(&mut self, mutex: &MutexHeader) -> bool {
        let logged = self.next.addr().wrapping_sub(self.inline.addr());
        let short = self.flags.are_of_single() && is_calm(mutex) && logged <= INLINE_LOG;
        if !short || mutant::is(Mutant::ReleaseFirst) {
            return false;
        }
        if logged != 0 {
            if self.stamp_is_last() {
                return false;
            }
            self.commit_as(0);
            self.next = self.inline;
        }
        mutant::here("between commit and release");
        // A signal handler finds a section until all is done.
        let calm = release_calm(mutex);
        self.flags.set_single(false, false);
        calm
    }

    /// A write guard goes. That of the unit's only lock ends it; in a unit that may have several,
    /// the lock is retained to the unit's end.
    pub(crate) fn guard_dropped(&mut self, mutex: &MutexHeader) {
        if !self.is_own() {
            // A guard of the process that this one was forked from: it is still held there.
            return;
        }
        if !self.in_section() {
            // The end was short, but by then somebody slept for the lock.
            return wake_one(&mutex.word);
        }
        if self.flags.is_plural() {
            self.flags.remove_guards(1);
            self.retain(&mutex.word);
            return;
        }
        self.flags.set_busy(true);
        self.flags.set_single(false, false);
        if mutant::is(Mutant::ReleaseFirst) {
            self.let_go_of(mutex);
            mutant::here("between release and commit");
        }
        let frees = self.commit();
        if !mutant::is(Mutant::ReleaseFirst) {
            mutant::here("between commit and release");
            self.let_go_of(mutex);
        }
        if frees {
            self.finish();
        }
        self.leave();
        self.give_turn();
    }

    #[inline(always)]
    fn let_go_of(&mut self, mutex: &MutexHeader) {
        if self.flags.is_unreached() {
            return crate::sync::release(&mutex.word);
        }
        if crate::sync::release_mutex(mutex, &mut self.uneventful) {
            let lock = self.lock_at(&mutex.word);
            self.turns.note(lock);
        }
    }

    /// Retains a lock whose guard goes; ends the unit if that was the last of a scope that is
    /// closed already.
    fn retain(&mut self, word: &LockWord) {
        if mutant::is(Mutant::SectionReleasesEarly) {
            self.body_mut()
                .held
                .retain(|held| !std::ptr::eq(held.word, word));
            crate::sync::release(word);
        }
        let mut retained = false;
        for held in &mut self.body_mut().held {
            if std::ptr::eq(held.word, word) {
                held.guarded = false;
                retained = true;
            }
        }
        self.retained += u32::from(retained);
        if !self.in_section() {
            self.end_unit();
        }
    }

    /// Opens a scope, in which several locks belong to one unit.
    pub(crate) fn open_scope(&mut self) -> Result {
        self.may_open()?;
        if self.scopes == 0 {
            self.opened_in_panic = std::thread::panicking();
            self.flags.set_plural(true);
        }
        self.scopes += 1;
        Ok(())
    }

    fn may_open(&self) -> Result {
        if self.scopes == 0 {
            return self.may_lock();
        }
        Ok(())
    }

    /// Closes a scope. The outermost one ends the unit, unless a guard has left it: then the last of
    /// these does.
    pub(crate) fn close_scope(&mut self) {
        if !self.is_own() {
            return;
        }
        self.scopes -= 1;
        if self.scopes != 0 {
            return;
        }
        if !self.opened_in_panic && std::thread::panicking() {
            self.poison_held();
        }
        if self.flags.guards() == 0 {
            self.end_unit();
        }
    }

    /// Commits, and releases every lock.
    pub(super) fn end_unit(&mut self) {
        self.flags.set_busy(true);
        let frees = self.commit();
        self.release_all();
        if frees {
            self.finish();
        }
        self.leave();
        self.give_turn();
    }

    /// Releases the locks of the unit, of which no guard is left.
    pub(super) fn release_all(&mut self) {
        let certain = self.certain();
        let mut held = std::mem::take(&mut self.body_mut().held);
        if self.moved || certain < held.len() {
            self.release_where_they_are(&held);
        } else {
            for held in held.iter().rev() {
                // SAFETY: a lock that is where it was taken, in the arena (J4), whose mapping the
                // context keeps. Only mutexes and `RwLock`s are held, and their word is the begin of
                // their header (L1).
                self.let_go_of(unsafe { &*held.word.cast::<MutexHeader>() });
            }
        }
        self.release_reads();
        held.clear();
        self.retained = 0;
        self.moved = false;
        self.flags.set_plural(false);
        self.body_mut().held = held;
    }

    /// Releases locks that may have moved, or be no locks any more: nothing is written to where
    /// they were. All words that name this slot become free with its next generation.
    #[cold]
    fn release_where_they_are(&mut self, held: &[Held]) {
        let waited = self.tag | WAITERS_BIT;
        let words = || {
            // SAFETY: eight aligned bytes of the arena, whose mapping the context keeps; whatever
            // lies there, only this thread may write to it until its locks are free.
            held.iter().map(|held| unsafe { &*held.word })
        };
        if self.raw_locks != 0 {
            // These name the generation too, so it stays.
            for word in words() {
                crate::sync::release_if(word, self.tag);
            }
            return;
        }
        let sleepers: Vec<_> = words()
            .filter(|word| word.0.load(Relaxed) == waited)
            .collect();
        crate::journal::next_generation(&self.slot().generation);
        self.tag = crate::journal::tag_of(self.mapping(), self.index()).0;
        for word in sleepers {
            crate::os::futex::wake(word.futex(), 1);
        }
    }

    /// A panic in a scope poisons also the locks whose guards had gone, if it wrote under them.
    #[cold]
    fn poison_held(&mut self) {
        let this = NonNull::from(&mut *self);
        let certain = self.certain();
        let words: Vec<_> = self.held().map(|held| held.word).collect();
        // The others lie in the value of one of these, which is poisoned if that was written.
        for word in words.into_iter().take(certain) {
            // SAFETY: only mutexes and `RwLock`s are held, and their word is the begin of their header
            // (L1); these are where they were taken.
            let header = unsafe { &*word.cast::<crate::layout::MutexHeader>() };
            crate::sync::poison_written(header, super::Writer::of(this));
        }
    }
}
