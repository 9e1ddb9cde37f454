//! Taking every lock that can be reached without another one.

use super::moment::Moment;
use crate::{
    arena::{
        Arena,
        directory::{self, Kept},
    },
    error::{Error, Result},
    journal,
    layout::FROZEN_TAG,
    mapping::Mapping,
    mutant::{self, Mutant},
    section::Ctx,
    sync::RwLock,
    walk::{Plan, ProblemKind, Purpose, Visitor, Walk},
};
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    ptr::NonNull,
    time::Duration,
};

/// How long a lock is waited for at first, and in the end.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often one moment is looked for at which nothing changes.
const LOOKS: u32 = 200;

/// The locks that are taken, and the roots that they lie in.
pub(super) struct Locked<'a> {
    arena: &'a Arena,
    ctx: NonNull<Ctx>,
    /// How long each lock is waited for.
    patience: Duration,
    roots: Vec<Kept>,
    /// In this section.
    locks: HashSet<u64>,
    /// Locks that were waited for in vain, the last one first. They are taken before the others: whoever had one may
    /// have waited for one of those.
    first: Vec<u64>,
    /// In one order, since each is taken while others are held.
    semaphores: BTreeSet<u64>,
}

impl<'a> Locked<'a> {
    pub(super) fn new(arena: &'a Arena, ctx: NonNull<Ctx>) -> Self {
        Locked {
            arena,
            ctx,
            patience: PATIENCE.0,
            roots: Vec::new(),
            locks: HashSet::new(),
            first: Vec::new(),
            semaphores: BTreeSet::new(),
        }
    }

    /// Takes all locks, in a section that has none yet, and reads what is to be read at one moment.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] where it is to be done again, in another section.
    pub(super) fn moment(&mut self) -> Result<Moment> {
        self.locks.clear();
        for at in self.first.clone() {
            self.take(at)?;
        }
        for root in 0..self.roots.len() {
            self.take_those_of(root)?;
        }
        let mut looks = 0;
        loop {
            let known = self.roots.len();
            let (ctx, semaphores, last) = (self.ctx, &self.semaphores, looks >= LOOKS);
            let found = directory::with_all(self.arena, &mut self.roots, |roots| {
                Moment::read(ctx, roots, semaphores, last)
            })?;
            match found {
                Some(Some(moment)) => return Ok(moment),
                Some(None) => {
                    looks += 1;
                    journal::recover_all(self.arena.mapping())?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                None => {
                    for root in known..self.roots.len() {
                        self.take_those_of(root)?;
                    }
                }
            }
        }
    }

    /// For the next section: others have their locks for longer.
    pub(super) fn be_more_patient(&mut self) {
        self.patience = (self.patience * 2).min(PATIENCE.1);
    }

    /// Takes each lock in a root that lies in no other one.
    fn take_those_of(&mut self, root: usize) -> Result {
        loop {
            let outer = Outer::of(self.arena.mapping(), &self.roots[root])?;
            self.semaphores.extend(outer.semaphores);
            let mut any_frozen = false;
            for at in outer.locks {
                any_frozen |= self.take(at)?;
            }
            if !any_frozen {
                return Ok(());
            }
            // Frozen since: now it is gone into.
        }
    }

    /// Takes a lock, if it is not taken yet. Says whether it is frozen instead.
    fn take(&mut self, at: u64) -> Result<bool> {
        if mutant::is(Mutant::SnapshotUnlocked) || !self.locks.insert(at) {
            return Ok(false);
        }
        let taken = self.exclude(at);
        if matches!(taken, Err(Error::TimedOut)) {
            self.first.retain(|&other| other != at);
            self.first.insert(0, at);
        }
        taken
    }

    /// Takes a lock of which a root's schema says that it is one, and keeps it to the section's end. Says
    /// whether it is frozen instead.
    fn exclude(&self, at: u64) -> Result<bool> {
        let mapping = self.arena.mapping();
        let place = mapping.address(at, size_of::<RwLock<()>>());
        let place = place.ok_or_else(|| Error::damaged("a root's lock leads nowhere"))?;
        // SAFETY: the root is kept, and what is walked over outside of locks does not change; so a mutex or
        // a `RwLock` lies there. These are laid out alike, and begin with all but their value (L1),
        // which is not touched.
        let lock = unsafe { place.cast::<RwLock<()>>().as_ref() };
        match lock.try_write_for(self.patience) {
            // One that is poisoned was taken, too.
            Ok(_) | Err(Error::Poisoned) => Ok(false),
            Err(Error::Frozen) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// What of a root is reached without a lock: locks, by their offsets, and semaphores.
#[derive(Default)]
struct Outer {
    locks: Vec<u64>,
    semaphores: Vec<u64>,
    unknown: Option<String>,
}

impl Outer {
    fn of(mapping: &Mapping, root: &Kept) -> Result<Outer> {
        let mut walk = Walk::new(mapping, Outer::default());
        walk.value(&Plan::new(&root.schema, Purpose::Everything), 0, root.value);
        match walk.visitor.unknown.take() {
            Some(what) => Err(Error::damaged(what)),
            None => Ok(walk.visitor),
        }
    }
}

impl Visitor for Outer {
    fn mutex(&mut self, at: u64, word: u64) -> bool {
        // What is frozen is reached without a lock.
        let frozen = word == FROZEN_TAG;
        if !frozen {
            self.locks.push(at);
        }
        frozen
    }

    fn semaphore(&mut self, at: u64) {
        self.semaphores.push(at);
    }

    fn wrong(&mut self, kind: ProblemKind, _at: u64, what: fmt::Arguments<'_>) {
        if kind == ProblemKind::Unsupported {
            self.unknown = Some(what.to_string());
        }
    }
}
