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

mod locked;
mod moment;
mod others;

use super::{Arena, directory};
use crate::{
    error::{Error, Result},
    mapping::{Access, Backing},
    os, section,
};
use locked::Locked;
use std::{fs::File, io, os::unix::fs::MetadataExt, path::Path};

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
            Err(Error::TimedOut) => locked.be_more_patient(),
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
