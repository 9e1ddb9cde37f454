//! Opening an arena: nothing in the file is trusted before it was checked.

use super::{Arena, Options, create, rebirth};
use crate::{
    error::{Error, Result},
    journal,
    layout::{ENDIAN_MARK, FINGERPRINT, FORMAT_VERSION, Geometry, Header, MAGIC},
    mapping::{Access, Backing, Locks, Mapping, find_file, register},
    os::{
        self,
        file::{Hold, Identity},
    },
};
use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::Ordering::*,
};

/// The byte on which each reader of an arena that it cannot write has a shared lock.
const READERS_BYTE: u64 = (1 << 62) + 1;

pub(super) fn at_path(options: &Options, path: &Path) -> Result<Arena> {
    let write = options.access == Access::ReadWrite;
    let file = os::file::open(path, write).map_err(|source| refused(path, source))?;
    self::file(options, file, Some(path.to_owned()))
}

/// Why a path could not be opened.
fn refused(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => Error::Missing { path },
        io::ErrorKind::IsADirectory => Error::NotAFile {
            path,
            found: "a directory",
        },
        _ if source.raw_os_error() == Some(libc::ELOOP) => Error::NotAFile {
            path,
            found: "a symbolic link",
        },
        _ if source.raw_os_error() == Some(libc::ENXIO) => Error::NotAFile {
            path,
            found: "a socket or a pipe",
        },
        _ => Error::Os {
            action: "open",
            path: Some(path),
            source,
        },
    }
}

/// Opens the arena in an open file.
pub(super) fn file(options: &Options, file: File, path: Option<PathBuf>) -> Result<Arena> {
    create::prepare_process()?;
    let (length, identity) = check_file(options, &file, path.as_deref())?;
    if let Some(mapping) = find_file(identity, options.access) {
        return verify(options, Arena::from_mapping(mapping));
    }
    let header = read_header(&file, length)?;
    let geometry = match check_header(&header, length) {
        // The file may have grown meanwhile: it does so before the header says so.
        Err(Error::Truncated { .. }) => check_header(&header, file_length(&file)?)?,
        geometry => geometry?,
    };
    let map = map(&file, &geometry, options.access)?;
    let write = options.access == Access::ReadWrite;
    let locks = match &path {
        Some(path) => os::file::reopen_at(path, identity, &file, write),
        None => os::file::reopen(&file, write),
    };
    let locks = locks.map_err(|source| Error::os("open the arena's file anew", source))?;
    let backing = Backing::File {
        file,
        locks: Locks::new(locks),
        identity,
        path,
    };
    // SAFETY: the header was checked against the file's length, so everything that is committed
    // has memory behind it; that the file is not cut short later is the caller's promise (or the
    // seal's).
    let mapping = unsafe { Mapping::new(map, geometry, options.access, backing) };
    prepare(options, &mapping);
    // Before others of this process find it: they would attach, and be buried too. (Of several that
    // are at this, one at a time buries: each locks through a description of its own.)
    if options.access == Access::ReadWrite {
        bury_the_dead(&mapping, identity)?;
    } else {
        announce_reader(&mapping)?;
    }
    verify(options, Arena::from_mapping(register(mapping)?))
}

/// Opens a copy of an arena's bytes in ordinary memory.
pub(super) fn image(options: &Options, image: &[u8]) -> Result<Arena> {
    create::prepare_process()?;
    let length = image.len() as u64;
    let mut bytes = [0u8; size_of::<Header>()];
    let found = image.get(..bytes.len()).ok_or(Error::Truncated {
        expected: bytes.len() as u64,
        found: length,
    });
    // Too short for a header: still say so of a file that is something else altogether.
    if image.len() >= 8 && image[..8] != MAGIC {
        return Err(foreign(image));
    }
    bytes.copy_from_slice(found?);
    let geometry = check_header(&bytes, length)?;
    let map = create::map_memory(geometry.addresses())?;
    let committed = committed_in(&bytes);
    // What is not committed is as in a fresh arena, whatever the image has there.
    for (at, len) in geometry.parts(committed) {
        let (at, len) = (at as usize, len as usize);
        let part = &image[at..at + len];
        // SAFETY: the map has all of the addresses, of which these are some, and fresh.
        unsafe {
            let to = map.as_mut_ptr().add(at);
            to.copy_from_nonoverlapping(part.as_ptr(), len);
        }
    }
    // SAFETY: the header was checked, and all of the memory is there.
    let mapping = unsafe { Mapping::new(map, geometry, Access::ReadWrite, Backing::Memory) };
    if options.leave_the_dead {
        rebirth::mark_as_killed(&mapping);
        return Ok(Arena::from_mapping(register(mapping)?));
    }
    rebirth::mark_all_dead(&mapping);
    let mapping = register(mapping)?;
    let arena = Arena::from_mapping(mapping.clone());
    journal::recover_all(&mapping)?;
    verify(options, arena)
}

fn verify(options: &Options, arena: Arena) -> Result<Arena> {
    if options.verify {
        let report = arena.check();
        if let Some(problem) = report.problems().first() {
            return Err(Error::damaged(problem.to_string()));
        }
    }
    Ok(arena)
}

/// Refuses what is no regular file, belongs to others, or can be written by others. Gives the file's
/// length, and what tells it from others.
fn check_file(options: &Options, file: &File, path: Option<&Path>) -> Result<(u64, Identity)> {
    let metadata = file
        .metadata()
        .map_err(|source| Error::os("look at the arena's file", source))?;
    if !metadata.is_file() {
        return Err(Error::NotAFile {
            path: path.unwrap_or(Path::new("<descriptor>")).to_owned(),
            found: if metadata.is_dir() {
                "a directory"
            } else {
                "a device, a pipe or a socket"
            },
        });
    }
    // A file without a name is reached only by those it was handed to.
    let named = metadata.nlink() > 0;
    if named && !options.allow_foreign_writers {
        let user = os::process::effective_user();
        if metadata.uid() != user {
            return Err(Error::WrongOwner {
                expected: user,
                found: metadata.uid(),
            });
        }
        if metadata.mode() & os::file::WRITABLE_BY_OTHERS != 0 {
            return Err(Error::WritableByOthers {
                mode: metadata.mode() & 0o777,
            });
        }
    }
    Ok((metadata.len(), Identity::of(&metadata)))
}

fn file_length(file: &File) -> Result<u64> {
    let metadata = file
        .metadata()
        .map_err(|source| Error::os("look at the arena's file", source))?;
    Ok(metadata.len())
}

fn read_header(file: &File, length: u64) -> Result<[u8; size_of::<Header>()]> {
    let mut bytes = [0u8; size_of::<Header>()];
    let there = length.min(bytes.len() as u64) as usize;
    file.read_exact_at(&mut bytes[..there], 0)
        .map_err(|source| Error::os("read the arena's header", source))?;
    if there >= 8 && bytes[..8] != MAGIC {
        return Err(foreign(&bytes));
    }
    if there < bytes.len() {
        return Err(Error::Truncated {
            expected: bytes.len() as u64,
            found: length,
        });
    }
    Ok(bytes)
}

fn foreign(bytes: &[u8]) -> Error {
    let mut found = [0; 8];
    found.copy_from_slice(&bytes[..8]);
    Error::ForeignMagic { found }
}

/// Checks a header, and that all it promises is within `length` bytes.
fn check_header(bytes: &[u8; size_of::<Header>()], length: u64) -> Result<Geometry> {
    // SAFETY: a header consists of numbers, for which any bytes are valid; unaligned is allowed.
    let header: Header = unsafe { bytes.as_ptr().cast::<Header>().read_unaligned() };
    if header.endian_mark == ENDIAN_MARK.swap_bytes() {
        return Err(Error::Endianness);
    }
    if header.version != FORMAT_VERSION {
        return Err(Error::Version {
            expected: FORMAT_VERSION,
            found: header.version,
        });
    }
    if header.endian_mark != ENDIAN_MARK {
        return Err(Error::Endianness);
    }
    if header.pointer_bits != usize::BITS {
        return Err(Error::PointerWidth {
            expected: usize::BITS,
            found: header.pointer_bits,
        });
    }
    let page = os::memory::page_size();
    if header.page_size as usize != page {
        return Err(Error::PageSize {
            expected: page as u32,
            found: header.page_size,
        });
    }
    if header.features != 0 {
        return Err(Error::Features {
            unknown: header.features,
        });
    }
    if header.fingerprint != FINGERPRINT {
        return Err(Error::Fingerprint {
            expected: FINGERPRINT,
            found: header.fingerprint,
        });
    }
    check_sizes(&header, page, length)
}

/// The committed slabs that a checked header tells of.
fn committed_in(bytes: &[u8; size_of::<Header>()]) -> usize {
    let at = std::mem::offset_of!(Header, committed);
    let word = bytes[at..at + 8].try_into().expect("eight bytes");
    u64::from_le_bytes(word) as usize
}

fn check_sizes(header: &Header, page: usize, length: u64) -> Result<Geometry> {
    if header.id as u32 == 0 {
        return Err(Error::damaged("its identity is 0"));
    }
    let geometry = Geometry::new(header.maximum, page, header.slab_shift, header.slots)
        .map_err(|reason| Error::damaged(format!("its header asks for {reason}")))?;
    let committed = header.committed.load(Relaxed);
    if committed == 0 || committed > geometry.all_slabs() as u64 {
        return Err(Error::damaged(format!(
            "its header says that {committed} slabs of at most {} are committed",
            geometry.all_slabs()
        )));
    }
    let expected = geometry.end_of(committed as usize);
    if length < expected {
        return Err(Error::Truncated {
            expected,
            found: length,
        });
    }
    Ok(geometry)
}

fn map(file: &File, geometry: &Geometry, access: Access) -> Result<MmapRaw> {
    let mut options = MmapOptions::new();
    options.len(geometry.addresses() as usize).no_reserve_swap();
    let map = match access {
        Access::ReadWrite => options.map_raw(file),
        Access::ReadOnly => options.map_raw_read_only(file),
        // SAFETY: that the file is changed through sharena only is the opener's promise.
        Access::CopyOnWrite => unsafe { options.map_copy(file) }.map(MmapRaw::from),
    };
    map.map_err(|source| Error::NoAddressSpace {
        requested: geometry.addresses(),
        source,
    })
}

/// What the kernel should know about the pages. Wishes: an arena works without them.
fn prepare(options: &Options, mapping: &Mapping) {
    // Without this an abort would write the whole reservation into its core file.
    let _ = os::memory::dont_dump(mapping.base(), mapping.len());
    if options.huge_pages {
        mapping.wish_huge_pages();
    }
    if options.populate {
        let write = options.access == Access::ReadWrite;
        for (at, len) in mapping.resident_parts() {
            let start = mapping.base().wrapping_add(at as usize);
            let _ = os::memory::populate(start, len as usize, write);
        }
    }
}

/// A reader cannot count its handles in an arena that it cannot write: as long as its lock on the
/// readers' byte stands, nothing is freed that a root leads to.
fn announce_reader(mapping: &Mapping) -> Result {
    let Backing::File { locks, .. } = &mapping.backing else {
        return Ok(());
    };
    locks
        .of_this_process()
        .and_then(|own| os::file::lock_byte(own, READERS_BYTE, Hold::Shared))
        .map_err(|source| Error::os("lock the arena's file", source))
}

/// Runs `free`, unless somebody has the arena mapped for reading only. Says whether it ran.
pub(super) fn without_readers(mapping: &Mapping, free: impl FnOnce() -> Result) -> Result<bool> {
    let Backing::File { locks, .. } = &mapping.backing else {
        return free().map(|()| true);
    };
    let os = |source| Error::os("lock the arena's file", source);
    let locks = locks.of_this_process().map_err(os)?;
    if !os::file::try_lock_byte(locks, READERS_BYTE, Hold::Exclusive).map_err(os)? {
        return Ok(false);
    }
    let freed = free();
    os::file::unlock_byte(locks, READERS_BYTE).map_err(os)?;
    freed.map(|()| true)
}

/// Recovers what the dead left behind; all are dead if the arena is of another life or is a copy.
fn bury_the_dead(mapping: &Mapping, identity: Identity) -> Result {
    rebirth::begin_unless_same(mapping, identity)?;
    journal::recover_all(mapping)
}
