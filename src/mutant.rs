//! Rules that can be broken on purpose, one at a time: what proves the rules must notice.
//!
//! Only with the feature `mutants`, which is no part of the interface, and only if the environment
//! variable `SHARENA_MUTANT` names one when the process first comes by such a place. Otherwise
//! `is` is a constant, and `here` does nothing. `tests/mutants` runs them all.

macro_rules! mutants {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// A rule to break. The numbers are those of ARCHITECTURE.md.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub(crate) enum Mutant {
            $($(#[$doc])* $variant,)*
        }

        /// What `SHARENA_MUTANT` calls them, in their order.
        #[cfg(feature = "mutants")]
        const NAMES: &[&str] = &[$($name,)*];
    };
}

mutants! {
    /// J1: nothing gets into the log, neither bytes nor blocks. Crash step: a section.
    NoJournal "no_journal",
    /// J1: old bytes are not recorded before they are overwritten. Crash step: a section.
    NoRecord "no_record",
    /// J1: a block is published before the log names it. Crash step: a push.
    PublishFirst "publish_first",
    /// J3: a bucket of a map that was full when the section began is filled without a record. Crash
    /// step: a map.
    FillUnrecorded "fill_unrecorded",
    /// J5: a semaphore is changed without the immediate journal. Crash step: a semaphore.
    NoRedo "no_redo",
    /// J6: blocks are freed before the commit. Crash step: an element removed.
    FreeBeforeCommit "free_before_commit",
    /// J8: the locks are released, then the section commits. Scene: a survivor takes the lock.
    ReleaseFirst "release_first",
    /// S2: a scope's lock is released when its guard goes. Scene: a survivor takes the lock.
    SectionReleasesEarly "section_releases_early",
    /// S2: a scope's read lock is released when its guard goes. Scene: a survivor writes meanwhile.
    ReadsReleasedEarly "reads_released_early",
    /// S7: a snapshot does not take locks. Scene: somebody writes while it is taken.
    SnapshotUnlocked "snapshot_unlocked",
    /// S7: it does not keep permits where they are while it reads. Scene: somebody takes one meanwhile.
    SnapshotPermits "snapshot_permits",
    /// L8: a reader looks at the lock's word before it fills its cell, and not behind. Scene: a slow
    /// reader.
    ReaderLooksOnce "reader_looks_once",
    /// J2: the stamps of a slot start again with each who claims it. Crash step: a slot's second
    /// owner.
    StampsStartAgain "stamps_start_again",
    /// J9: nobody says which block is being freed. Scene: a free that is repeated.
    NoDoubt "no_doubt",
    /// J9: nobody says that a block's free is done. Scene: two frees, the second of which is repeated.
    NoDone "no_done",
    /// J9: which frees are done is not forgotten when all are. Scene: frees in two sections.
    DoneKept "done_kept",
    /// J9: who claims a slot leaves there which frees of a dead one were done. Scene: a slot's next
    /// owner frees.
    ClaimKeepsDone "claim_keeps_done",
    /// J10: a span is freed by its place, whichever it is. Scene: a span's free that is repeated.
    FreeAnySpan "free_any_span",
    /// H4: a drain does not look at the doubt words. Scene: a free that is repeated.
    NoDoubtCheck "no_doubt_check",
    /// J13: what is dropped when the log is full is freed without an entry. Crash step: many small drops.
    DropsUnnoted "drops_unnoted",
    /// L2: recovery does not move the generation on. Crash step: a section.
    NoGeneration "no_generation",
    /// R1: the life word is not looked at again under the lease. Scene: a late recoverer.
    NoSecondLook "no_second_look",
    /// R2: the generation moves on before the journal is resolved. Scene: a survivor takes the lock.
    GenerationFirst "generation_first",
    /// R3: a rollback leaves its entries in the log. Scene: recoveries killed one after the other.
    KeepLog "keep_log",
    /// R5: a claim without a life is freed, though its process is there. Scene: a slow claimant.
    ReapLiving "reap_living",
    /// R6: permits of the dead are not given back. Crash step: a semaphore.
    PermitsKept "permits_kept",
    /// R6: a slot can be claimed before its life word is cleared. Scene: a successor at work.
    ClaimBeforeLife "claim_before_life",
    /// R6: slabs are given back when the slot may have been claimed. Scene: a quick successor.
    SlabsLast "slabs_last",
    /// P3: a sleeper does not watch its holder's life word. Scene: a holder is killed.
    NoLifeWord "no_life_word",
}

/// Whether sections are logged. They are, but in the build that `benches/control` makes, with which
/// the real one is compared: there a death in a section, or an undo, leaves it half done.
pub(crate) const JOURNAL: bool = !cfg!(sharena_control);

/// Whether this process breaks that rule.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// Tells whoever watches that the calling thread has come to a place between two steps.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn here(_: &str) {}

#[cfg(feature = "mutants")]
pub(crate) use switch::is;
#[cfg(feature = "mutants")]
pub(crate) use watch::here;

#[cfg(feature = "mutants")]
mod switch {
    use super::{Mutant, NAMES};
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    const UNREAD: u8 = u8::MAX;
    const NONE: u8 = u8::MAX - 1;

    /// The mutant that was chosen. Read before the first section; nothing is behind it.
    static CHOSEN: AtomicU8 = AtomicU8::new(UNREAD);

    #[inline]
    pub(crate) fn is(mutant: Mutant) -> bool {
        match CHOSEN.load(Relaxed) {
            UNREAD => choose() == mutant as u8,
            chosen => chosen == mutant as u8,
        }
    }

    #[cold]
    fn choose() -> u8 {
        let chosen = match std::env::var("SHARENA_MUTANT") {
            Ok(wanted) => {
                let known = NAMES.iter().position(|name| *name == wanted);
                known.unwrap_or_else(|| panic!("there is no mutant {wanted}")) as u8
            }
            Err(_) => NONE,
        };
        CHOSEN.store(chosen, Relaxed);
        chosen
    }
}

#[cfg(feature = "mutants")]
mod watch {
    use std::sync::RwLock;

    type Watcher = Box<dyn Fn(&str) + Send + Sync>;

    static WATCHER: RwLock<Option<Watcher>> = RwLock::new(None);

    #[inline(never)]
    pub(crate) fn here(place: &str) {
        let watcher = WATCHER.read().unwrap_or_else(|broken| broken.into_inner());
        if let Some(watcher) = &*watcher {
            watcher(place);
        }
    }

    pub(super) fn set(watcher: Watcher) {
        *WATCHER.write().unwrap_or_else(|broken| broken.into_inner()) = Some(watcher);
    }
}

/// The names of all mutants, for the test that runs them.
#[cfg(feature = "mutants")]
pub fn names() -> &'static [&'static str] {
    NAMES
}

/// Calls `watcher` in each thread that comes to a place between two steps, with the place's name:
/// while it does not return, the thread stands there.
#[cfg(feature = "mutants")]
pub fn watch(watcher: impl Fn(&str) + Send + Sync + 'static) {
    watch::set(Box::new(watcher));
}
