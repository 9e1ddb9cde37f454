//! What tells what there is, read at one moment; and the copy, which has all the rest, too.

use super::others::Others;
use crate::{
    arena::directory::Kept,
    error::{Error, Result},
    layout::Header,
    mapping::{Backing, Mapping},
    mutant::{self, Mutant},
    section::Ctx,
    sync::{Semaphore, hold_semaphore},
};
use std::{
    collections::BTreeSet, fs::File, io, mem::offset_of, ops::Range, os::unix::fs::FileExt,
    ptr::NonNull,
};

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;
/// Pages that are zero are left out of the copy.
const PAGE: usize = 4096;

/// What tells what there is in an arena, as it was at one moment.
pub(super) struct Moment {
    committed: usize,
    /// Parts of the arena, by their offsets: states and bitmaps of slabs, and before them all the rest.
    tables: Vec<(u64, Vec<u8>)>,
    /// Small parts of blocks that others may change: entries of roots, semaphores.
    words: Vec<(u64, Vec<u8>)>,
}

impl Moment {
    /// Reads it, under the directory's lock. None if something else went on meanwhile, unless this is the
    /// `last` attempt.
    pub(super) fn read(
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
            let semaphore = unsafe { place.cast().as_ref() };
            if !mutant::is(Mutant::SnapshotPermits) {
                held.push(hold_semaphore(semaphore, ctx)?);
            }
            words.push((at, read_part(mapping, at, size_of::<Semaphore>() as u64)?));
        }
        mutant::here("before a snapshot reads the slots");
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
    pub(super) fn copy(&self, mapping: &Mapping, to: &File) -> io::Result<()> {
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
