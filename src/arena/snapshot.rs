//! A copy of an arena at which no section is half done, and writing an arena to its storage.
//!
//! # How a snapshot is taken
//!
//! 1. A file without a name is made where the copy is to be.
//! 2. In one section, each lock is taken that can be reached without another one: what lies behind it
//!    can be changed by nobody else then, as nobody has a guard of it. Locks inside need not be taken.
//!    Each is waited for a limited time; then all are released, and taken anew, that one first: so nobody waits
//!    for ever, and nobody else's waiting becomes a circle by this. Handles keep the roots, also removed
//!    ones that others still use.
//! 3. What tells what there is, is read at *one moment*: the header, the slots, states and bitmaps of
//!    slabs, the entries of roots, and the semaphores, whose permits lie in slots. That is while this
//!    thread has the directory's lock and those of the semaphores, for which it waits without any of the others
//!    waiting for it, and at which no other thread has something in its log: frees of sections that
//!    ended are done then, and no root is being made. It is looked before and behind, and done again if
//!    something has changed. (Where it changes all the time, it is taken as it is in the end, and
//!    what others had in their logs is forgotten in the copy: blocks of theirs may be unowned there.)
//! 4. With the locks of step 2 only, the blocks are copied. What others allocate, free or make meanwhile is
//!    free in the copy, or as it was.
//! 5. The locks are released; the copy is written to its storage, and only then gets its name.
//!
//! A kill leaves the unnamed file, which goes with the process; the locks are those of a
//! dead thread's section, which changed nothing. In the copy all threads are of another life: who
//! opens it lets go of their locks and gives their permits back, as in any other copied file.

use super::{Arena, directory, root::Root};
use crate::{
    error::{Error, Result},
    journal,
    layout::{Doubt, FROZEN_TAG, Header, Slot},
    mapping::{Access, Backing, Mapping},
    mutant::{self, Mutant},
    os,
    section::{self, Ctx},
    share::Schema,
    sync::{RwLock, Semaphore, hold_semaphore},
    walk::{Plan, ProblemKind, Purpose, Visitor, Walk},
};
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    fs::File,
    io,
    mem::offset_of,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    ptr::NonNull,
    sync::atomic::Ordering::*,
    time::Duration,
};

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;
/// Pages that are zero are left out of the copy.
const PAGE: usize = 4096;
/// How long a lock is waited for at first, and in the end.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often one moment is looked for at which nothing changes.
const LOOKS: u32 = 200;

pub(super) fn flush(arena: &Arena) -> Result {
    match &arena.mapping().backing {
        Backing::File { file, .. } => file
            .sync_all()
            .map_err(|source| Error::os("write the arena to its storage", source)),
        Backing::Memory => Ok(()),
    }
}

pub(super) fn snapshot(arena: &Arena, path: &Path) -> Result {
    if arena.access() != Access::ReadWrite {
        return Err(Error::ReadOnly);
    }
    let ctx = section::attach(arena.mapping())?;
    // SAFETY: C1; the reference ends with this statement.
    let busy = unsafe { ctx.as_ref() }.has_something_open();
    if busy {
        return Err(Error::InSection);
    }
    if path.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: path.into() });
    }
    let failed = |source| Error::Os {
        action: "write a snapshot to",
        path: Some(path.into()),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let unnamed = os::file::create_unnamed(directory, mode(arena)?).map_err(failed)?;
    let mut locked = Locked::new(arena, ctx);
    loop {
        let to = unnamed.file();
        to.set_len(0).map_err(failed)?;
        let done = arena.section(|| {
            let moment = locked.moment()?;
            moment.copy(arena.mapping(), to).map_err(failed)
        });
        match done {
            Err(Error::TimedOut) => locked.patience = (locked.patience * 2).min(PATIENCE.1),
            done => break done?,
        }
    }
    // Roots of which this thread had the last handles could not go in its section.
    drop(locked);
    let _ = directory::sweep(arena);
    unnamed.file().sync_all().map_err(failed)?;
    match os::file::publish(unnamed, path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Error::Exists { path: path.into() });
        }
        Err(error) => return Err(failed(error)),
    }
    // Its name, too, is to outlive the machine's next failure.
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}

/// Who may use the copy: those who may use the arena's file. One without a name is reached by who was given it,
/// whatever its mode.
fn mode(arena: &Arena) -> Result<u32> {
    const PRIVATE: u32 = 0o600;
    let Backing::File { file, .. } = &arena.mapping().backing else {
        return Ok(PRIVATE);
    };
    let metadata = file.metadata();
    let metadata = metadata.map_err(|source| Error::os("look at the arena's file", source))?;
    Ok(match metadata.nlink() {
        0 => PRIVATE,
        _ => metadata.mode() & 0o666,
    })
}

/// A root that stays as long as this does, of whatever type.
pub(super) struct Kept {
    /// Where its entry lies.
    pub(super) entry: Range<u64>,
    pub(super) value: u64,
    pub(super) schema: Schema,
    pub(super) _root: Root<()>,
}

/// The locks that are taken, and the roots that they lie in.
struct Locked<'a> {
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
    fn new(arena: &'a Arena, ctx: NonNull<Ctx>) -> Self {
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
    fn moment(&mut self) -> Result<Moment> {
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

/// What tells what there is in an arena, as it was at one moment.
struct Moment {
    committed: usize,
    /// Parts of the arena, by their offsets: states and bitmaps of slabs, and before them all the rest.
    tables: Vec<(u64, Vec<u8>)>,
    /// Small parts of blocks that others may change: entries of roots, semaphores.
    words: Vec<(u64, Vec<u8>)>,
}

impl Moment {
    /// Reads it, under the directory's lock. None if something else went on meanwhile, unless this is the
    /// `last` attempt.
    fn read(
        mut ctx: NonNull<Ctx>,
        roots: &[Kept],
        semaphores: &BTreeSet<u64>,
        last: bool,
    ) -> Result<Option<Moment>> {
        // SAFETY: C1; a signal handler that comes by finds the context busy.
        let own = unsafe { ctx.as_mut() };
        own.enter()?;
        let moment = Self::read_undisturbed(own, roots, semaphores, last);
        own.leave();
        moment
    }

    fn read_undisturbed(
        ctx: &Ctx,
        roots: &[Kept],
        semaphores: &BTreeSet<u64>,
        last: bool,
    ) -> Result<Option<Moment>> {
        let mapping = ctx.mapping();
        let others = Others::of(ctx);
        if !others.are_quiet() && !last {
            return Ok(None);
        }
        let mut held = Vec::new();
        let mut words = Vec::new();
        for &at in semaphores {
            let place = mapping.address(at, size_of::<Semaphore>());
            let place = place.ok_or_else(|| Error::damaged("a semaphore leads nowhere"))?;
            // SAFETY: a semaphore by the schema of a root that is kept, outside of locks.
            held.push(hold_semaphore(unsafe { place.cast().as_ref() }, ctx)?);
            words.push((at, read_part(mapping, at, size_of::<Semaphore>() as u64)?));
        }
        let front_end = mapping.geometry().states_at;
        let mut front = read_part(mapping, 0, front_end)?;
        drop(held);
        let committed = number_in(&front, offset_of!(Header, committed));
        let committed = (committed as usize).min(mapping.committed());
        let [_, (states_at, states_len), (bits_at, bits_len), _] =
            mapping.geometry().parts(committed);
        let states = read_part(mapping, states_at, states_len)?;
        let bits = read_part(mapping, bits_at, bits_len)?;
        for root in roots {
            let Range { start, end } = root.entry;
            words.push((start, read_part(mapping, start, end - start)?));
        }
        let same = states == read_part(mapping, states_at, states_len)?;
        let undisturbed = same && others.are_quiet() && others.are_all();
        if !undisturbed && !last {
            return Ok(None);
        }
        others.forget_journals(&mut front);
        Ok(Some(Moment {
            committed,
            tables: vec![(bits_at, bits), (states_at, states), (0, front)],
            words,
        }))
    }

    /// Copies the blocks, and puts what was read where it belongs.
    fn copy(&self, mapping: &Mapping, to: &File) -> io::Result<()> {
        mutant::here("before a snapshot is copied");
        let mut piece = vec![0; PIECE];
        let (mut at, end) = (mapping.slab_at(0), mapping.slab_at(self.committed));
        while at < end {
            let len = (end - at).min(PIECE as u64) as usize;
            read(mapping, at, &mut piece[..len])?;
            write(to, at, &piece[..len])?;
            at += len as u64;
        }
        for (at, bytes) in &self.tables {
            write(to, *at, bytes)?;
        }
        for (at, bytes) in &self.words {
            to.write_all_at(bytes, *at)?;
        }
        let length = match &mapping.backing {
            Backing::File { file, .. } => file.metadata()?.len().max(end),
            Backing::Memory => end,
        };
        to.set_len(length)
    }
}

/// The slots of other threads.
struct Others<'m> {
    mapping: &'m Mapping,
    own: usize,
    high: usize,
}

impl<'m> Others<'m> {
    fn of(ctx: &'m Ctx) -> Self {
        Others {
            mapping: ctx.mapping(),
            own: ctx.index(),
            high: ctx.mapping().slots_high(),
        }
    }

    fn indices(&self) -> impl Iterator<Item = usize> {
        let own = self.own;
        (0..self.high).filter(move |&index| index != own)
    }

    /// Whether nobody has something to undo, or to finish.
    fn are_quiet(&self) -> bool {
        self.indices().all(|index| {
            let slot = self.mapping.slot(index);
            slot.log.load(Acquire) == 0 && slot.burying.load(Acquire) == 0
        })
    }

    /// Whether nobody came who is beyond them.
    fn are_all(&self) -> bool {
        self.mapping.slots_high() == self.high
    }

    /// Takes out of the front part of a copy what would be undone or finished there: logs that go on
    /// beyond what was read with them.
    fn forget_journals(&self, front: &mut [u8]) {
        let geometry = self.mapping.geometry();
        for index in (0..geometry.slots).filter(|&index| index != self.own) {
            let slot = geometry.slots_at as usize + index * geometry.page;
            let doubt = geometry.doubts_at as usize + index * size_of::<Doubt>();
            for (at, len) in [
                (slot + offset_of!(Slot, log), 8),
                (slot + offset_of!(Slot, done), 8),
                (slot + offset_of!(Slot, burying), 8),
                (slot + offset_of!(Slot, immediate), 64),
                (doubt + offset_of!(Doubt, block), 8),
            ] {
                front[at..at + len].fill(0);
            }
        }
    }
}

fn number_in(bytes: &[u8], at: usize) -> u64 {
    let word = bytes[at..at + 8].try_into();
    u64::from_le_bytes(word.expect("eight bytes"))
}

fn read_part(mapping: &Mapping, at: u64, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    read(mapping, at, &mut bytes).map_err(|source| Error::os("read the arena's file", source))?;
    Ok(bytes)
}

/// Reads committed bytes: of a file as such, since a page that others give back must not be touched.
fn read(mapping: &Mapping, at: u64, into: &mut [u8]) -> io::Result<()> {
    match &mapping.backing {
        Backing::File { file, .. } => file.read_exact_at(into, at),
        Backing::Memory => {
            // SAFETY: committed bytes, which are always there in private memory. Others write only what is
            // neither under a lock nor owned, and bytes of that may be torn.
            unsafe {
                let from = mapping.base().add(at as usize);
                from.copy_to_nonoverlapping(into.as_mut_ptr(), into.len());
            }
            Ok(())
        }
    }
}

/// Writes to a file that is fresh there: what was never used, or given back, takes no room in the copy either.
fn write(to: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    for (number, page) in bytes.chunks(PAGE).enumerate() {
        if page.iter().any(|&byte| byte != 0) {
            to.write_all_at(page, at + (number * PAGE) as u64)?;
        }
    }
    Ok(())
}
