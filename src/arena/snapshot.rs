//! A copy of an arena at which no section is half done, and writing an arena to its storage.
//!
//! # How a snapshot is taken
//!
//! 1. A file without a name is made where the copy is to be.
//! 2. In one section, each lock is taken that can be reached without another one: what lies behind it
//!    can be changed by nobody else then, as nobody has a guard of it. Locks inside need not be taken.
//!    Handles keep the roots, also removed ones that others still use.
//! 3. With the directory's lock, which waits for no other one from here on, it is made sure that there is
//!    no other root. Then the bytes are copied: blocks before the bitmaps that tell of them, these before
//!    the slots. A section without a lock (a root that is being made, a raw block) is in the copy as a
//!    kill leaves it, or its block is unowned there.
//! 4. The locks are released; the copy is written to its storage, and only then gets its name.
//!
//! A kill before leaves the unnamed file, which goes with the process; the locks are those of a
//! dead thread's section, which changed nothing. In the copy this section is one of another life: who
//! opens it lets go of its locks, as in any other copied file.

use super::{Arena, directory, root::Root};
use crate::{
    error::{Error, Result},
    layout::FROZEN_TAG,
    mapping::{Access, Backing, Mapping},
    mutant::{self, Mutant},
    os, section,
    share::Schema,
    sync::RwLock,
    walk::{Plan, Purpose, Visitor, Walk},
};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::Duration,
};

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;

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
    loop {
        let to = unnamed.file();
        to.set_len(0).map_err(failed)?;
        let done = arena
            .section(|| while_nobody_writes(arena, || copy(arena.mapping(), to).map_err(failed)));
        match done {
            // Others wait for each other's locks in the opposite order: they go first.
            Err(Error::Deadlock { .. }) => std::thread::sleep(Duration::from_millis(1)),
            done => break done?,
        }
    }
    unnamed.file().sync_all().map_err(failed)?;
    match os::file::publish(unnamed, path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::Exists { path: path.into() })
        }
        Err(error) => Err(failed(error)),
    }
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
    /// The offset of its entry.
    pub(super) entry: u64,
    pub(super) value: u64,
    pub(super) schema: Schema,
    pub(super) _root: Root<()>,
}

/// Takes every lock that can be reached without another one, and calls `f`. In a section.
fn while_nobody_writes(arena: &Arena, f: impl Fn() -> Result) -> Result {
    let mut roots = Vec::new();
    loop {
        let known = roots.len();
        if directory::with_all(arena, &mut roots, &f)? {
            return Ok(());
        }
        for root in &roots[known..] {
            for at in outer_locks(arena.mapping(), root) {
                if !mutant::is(Mutant::SnapshotUnlocked) {
                    exclude(arena.mapping(), at)?;
                }
            }
        }
    }
}

/// The offsets of the locks in a root that lie in no other one.
fn outer_locks(mapping: &Mapping, root: &Kept) -> Vec<u64> {
    struct Outer(Vec<u64>);
    impl Visitor for Outer {
        fn mutex(&mut self, at: u64, word: u64) -> bool {
            // What is frozen is reached without a lock.
            let frozen = word == FROZEN_TAG;
            if !frozen {
                self.0.push(at);
            }
            frozen
        }
    }
    let mut walk = Walk::new(mapping, Outer(Vec::new()));
    walk.value(&Plan::new(&root.schema, Purpose::Everything), 0, root.value);
    walk.visitor.0
}

/// Takes a lock of which a root's schema says that it is one, and keeps it to the section's end.
fn exclude(mapping: &Mapping, at: u64) -> Result {
    let place = mapping.address(at, size_of::<RwLock<()>>());
    let place = place.ok_or_else(|| Error::damaged("a root's lock leads nowhere"))?;
    // SAFETY: the root is kept, and what is walked over outside of locks does not change; so a mutex or
    // a `RwLock` lies there. These are laid out alike, and begin with all but their value (L1), which
    // is not touched.
    let lock = unsafe { place.cast::<RwLock<()>>().as_ref() };
    match lock.write() {
        // One that is poisoned was taken, too.
        Ok(_) | Err(Error::Poisoned | Error::Frozen) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Copies what is committed. Others may allocate and grow the arena meanwhile.
fn copy(mapping: &Mapping, to: &File) -> io::Result<()> {
    mutant::here("before a snapshot is copied");
    let mut piece = vec![0; PIECE];
    let mut copy = |from: u64, to_end: u64| copy_range(mapping, to, from..to_end, &mut piece);
    let mut done = 0;
    loop {
        let committed = mapping.committed();
        let [front, states, bits, _] = mapping.geometry().parts(committed);
        copy(mapping.slab_at(done), mapping.slab_at(committed))?;
        for (at, len) in [bits, states, front] {
            copy(at, at + len)?;
        }
        done = committed;
        if mapping.committed() == done {
            break;
        }
    }
    let length = match &mapping.backing {
        Backing::File { file, .. } => file.metadata()?.len(),
        Backing::Memory => mapping.slab_at(done),
    };
    to.set_len(length.max(mapping.slab_at(done)))
}

fn copy_range(
    mapping: &Mapping,
    to: &File,
    range: std::ops::Range<u64>,
    piece: &mut [u8],
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(PIECE as u64) as usize;
        let piece = &mut piece[..len];
        read(mapping, at, piece)?;
        // What was never written, or given back, takes no room in the copy either.
        for (number, page) in piece.chunks(4096).enumerate() {
            if page.iter().any(|&byte| byte != 0) {
                to.write_all_at(page, at + number as u64 * 4096)?;
            }
        }
        at += len as u64;
    }
    Ok(())
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
