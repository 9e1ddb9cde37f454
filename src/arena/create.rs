//! Creating an arena: built in a file without a name, which gets one when everything is in place.
//!
//! Killed anywhere before that, the kernel drops the file; nobody ever sees half an arena, and
//! nobody waits for a creator.

use super::{Arena, Options, open, rebirth};
use crate::{
    error::{Error, Result},
    layout::{
        BUCKETS, ENDIAN_MARK, FINGERPRINT, FORMAT_VERSION, Geometry, Header, LockWord, MAGIC,
    },
    mapping::{Access, Backing, Locks, Mapping, expect_room, register},
    os,
};
use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU32, AtomicU64},
};

/// Below this, reserving addresses is given up.
const SMALLEST_RESERVATION: u64 = 1 << 20;

pub(super) fn at_path(options: &Options, path: &Path) -> Result<Arena> {
    // Once the file has its name others may use it: what can be foreseen is refused before.
    options.may_be_opened_again()?;
    prepare_process()?;
    expect_room()?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unnamed =
        os::file::create_unnamed(directory, options.mode).map_err(|source| Error::Os {
            action: "create a file for an arena in",
            path: Some(directory.to_owned()),
            source,
        })?;
    let geometry = build(options, unnamed.file())?;
    let file = os::file::publish(unnamed, path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists {
            path: path.to_owned(),
        },
        _ => Error::Os {
            action: "give the arena its name",
            path: Some(path.to_owned()),
            source,
        },
    })?;
    debug_assert!(geometry.slabs > 0);
    open::file(options, file, Some(path.to_owned()))
}

pub(super) fn anonymous(options: &Options) -> Result<Arena> {
    prepare_process()?;
    let file =
        os::file::memfd("sharena").map_err(|source| Error::os("create a memory file", source))?;
    build(options, &file)?;
    os::file::seal_shrink(&file)
        .map_err(|source| Error::os("seal the memory file against shrinking", source))?;
    open::file(options, file, None)
}

pub(super) fn in_memory(options: &Options) -> Result<Arena> {
    prepare_process()?;
    let geometry = options.geometry(options.maximum(true))?;
    let map = map_memory(geometry.addresses())?;
    // SAFETY: fresh zeroed memory of the arena's whole size, which nobody else knows.
    unsafe { write_header(map.as_mut_ptr(), &geometry, None)? };
    // SAFETY: the header was written just now, and all of the memory is there.
    let mapping = unsafe { Mapping::new(map, geometry, Access::ReadWrite, Backing::Memory) };
    mapping.commit(initial_slabs(options, &geometry))?;
    Ok(Arena::from_mapping(register(mapping)?))
}

/// Ordinary memory, as much as an arena may ever use; pages are there as they are touched.
pub(super) fn map_memory(bytes: u64) -> Result<MmapRaw> {
    let map = MmapOptions::new()
        .len(bytes as usize)
        .no_reserve_swap()
        .map_anon();
    map.map(MmapRaw::from)
        .map_err(|source| Error::NoAddressSpace {
            requested: bytes,
            source,
        })
}

/// Allocates what this process needs for its first arena: later there is nobody to tell that there is
/// no memory for it.
pub(super) fn prepare_process() -> Result {
    os::memory::prepare().map_err(|source| Error::os("map memory for this process", source))
}

/// The slabs that are committed from the start.
fn initial_slabs(options: &Options, geometry: &Geometry) -> usize {
    let wanted = options.initial_size.div_ceil(geometry.slab() as u64) as usize;
    wanted.clamp(1, geometry.slabs)
}

/// Fills an empty file: pages for the front part and the first slabs, then the header.
fn build(options: &Options, file: &File) -> Result<Geometry> {
    let geometry = geometry_that_fits(options, file)?;
    let front = allocate(file, 0, geometry.states_at);
    front.map_err(|source| Error::NoSpace {
        requested: geometry.states_at,
        source,
    })?;
    let map = MmapOptions::new()
        .len(geometry.states_at as usize)
        .map_raw(file)
        .map_err(|source| Error::os("map the new file", source))?;
    // SAFETY: the front part of a new file, which nobody else knows.
    unsafe { write_header(map.as_mut_ptr(), &geometry, Some(file))? };
    drop(map);
    commit_first(options, file, &geometry)?;
    Ok(geometry)
}

fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    os::file::allocate(file, from, to - from)
}

/// Commits the first slabs through a mapping of its own, so that growth is written once.
fn commit_first(options: &Options, file: &File, geometry: &Geometry) -> Result {
    let map = MmapOptions::new()
        .len(geometry.addresses() as usize)
        .no_reserve_swap()
        .map_raw(file)
        .map_err(|source| Error::os("map the new file", source))?;
    let backing = Backing::File {
        file: duplicate(file)?,
        locks: Locks::new(duplicate(file)?),
        identity: identity(file)?,
        path: None,
    };
    // SAFETY: the header was written just now, and the front part is allocated.
    let mapping = unsafe { Mapping::new(map, *geometry, Access::ReadWrite, backing) };
    mapping.commit(initial_slabs(options, geometry))
}

fn duplicate(file: &File) -> Result<File> {
    file.try_clone()
        .map_err(|source| Error::os("duplicate a file descriptor", source))
}

pub(super) fn identity(file: &File) -> Result<os::file::Identity> {
    os::file::identity(file).map_err(|source| Error::os("look at the arena's file", source))
}

/// The layout with the largest maximum, from what is asked for downwards, that can be reserved.
fn geometry_that_fits(options: &Options, file: &File) -> Result<Geometry> {
    let mut maximum = options.maximum(false);
    let mut refusal = None;
    loop {
        // What does not fit into half of it is no fault of the options.
        let geometry = match (options.geometry(maximum), refusal) {
            (Err(_), Some(refusal)) => return Err(refusal),
            (geometry, _) => geometry?,
        };
        let map = MmapOptions::new()
            .len(geometry.addresses() as usize)
            .no_reserve_swap()
            .map_raw(file);
        let refused = match map {
            Ok(_) => return Ok(geometry),
            Err(source) => Error::NoAddressSpace {
                requested: geometry.addresses(),
                source,
            },
        };
        maximum /= 2;
        if maximum < SMALLEST_RESERVATION {
            return Err(refused);
        }
        refusal = Some(refused);
    }
}

/// Writes a fresh arena's header; everything else of it is zero.
///
/// # Safety
///
/// `base` points to zeroed memory for a header, which nobody else uses.
unsafe fn write_header(base: *mut u8, geometry: &Geometry, file: Option<&File>) -> Result {
    let mut random = [0u8; 16];
    os::process::random(&mut random).map_err(|source| Error::os("draw random bytes", source))?;
    let word = |at: usize| u64::from_le_bytes(random[at..at + 8].try_into().expect("eight bytes"));
    let life = file.map_or(Ok([0; 2]), rebirth::words_of)?;
    let identity = file.map(identity).transpose()?;
    let header = Header {
        magic: MAGIC,
        version: FORMAT_VERSION,
        endian_mark: ENDIAN_MARK,
        pointer_bits: usize::BITS,
        page_size: geometry.page as u32,
        features: 0,
        fingerprint: FINGERPRINT,
        // Containers know their arena by the lower half, and 0 means none.
        id: word(0) | 1,
        hash_random: word(8),
        maximum: geometry.maximum,
        slab_shift: geometry.slab_shift,
        slots: geometry.slots as u32,
        life: life.map(AtomicU64::new),
        device: AtomicU64::new(identity.map_or(0, |identity| identity.dev)),
        inode: AtomicU64::new(identity.map_or(0, |identity| identity.ino)),
        committed: AtomicU64::new(0),
        watermark: AtomicU64::new(0),
        freed: AtomicU64::new(0),
        abandoned: AtomicU64::new(0),
        slots_high: AtomicU32::new(0),
        orphans: AtomicU32::new(0),
        directory: LockWord::new(),
        next_root: AtomicU64::new(1),
        buckets: [const { AtomicU64::new(0) }; BUCKETS],
    };
    // SAFETY: by contract.
    unsafe { base.cast::<Header>().write(header) };
    Ok(())
}
