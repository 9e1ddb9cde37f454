//! How an arena is created or opened: a builder, like `std::fs::OpenOptions`.

use super::{Arena, create, open};
use crate::{
    error::{Error, Result},
    layout::{Geometry, MAX_SLOTS, MIN_SLOTS},
    mapping::Access,
    os,
};
use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// The maximum size of an arena that does not say otherwise: 64 GiB, not of memory but of addresses.
const DEFAULT_MAX_SIZE: u64 = 64 << 30;
/// The same for an arena in ordinary memory.
const DEFAULT_MAX_IN_MEMORY: u64 = 1 << 30;

/// How to create or open an arena. Made by [`Arena::options`].
///
/// Sizes and modes matter only where an arena is created; an existing one has its own.
///
/// # Examples
///
/// ```
/// use sharena::Arena;
///
/// let arena = Arena::options()
///     .max_size(1 << 20)
///     .initial_size(64 << 10)
///     .in_memory()?;
/// assert!(arena.stats().reserved <= 1 << 20);
/// # Ok::<(), sharena::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) max_size: Option<u64>,
    pub(super) initial_size: u64,
    pub(super) mode: u32,
    pub(super) access: Access,
    pub(super) slots: Option<u32>,
    pub(super) huge_pages: bool,
    pub(super) populate: bool,
    pub(super) verify: bool,
    pub(super) allow_foreign_writers: bool,
    pub(super) leave_the_dead: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options::new()
    }
}

impl Options {
    /// The defaults: read-write, grows from nearly nothing to 64 GiB, mode 0600.
    pub fn new() -> Self {
        Options {
            max_size: None,
            initial_size: 0,
            mode: 0o600,
            access: Access::ReadWrite,
            slots: None,
            huge_pages: false,
            populate: false,
            verify: false,
            allow_foreign_writers: false,
            leave_the_dead: false,
        }
    }

    /// The bytes that the arena may ever use, its own structures included.
    ///
    /// Only the journals of sections that are at work in a full arena may go beyond, up to their end, so that
    /// such an arena can be emptied. For that and for the maximum, addresses are reserved in each process that
    /// maps the arena, some two and a half times as many (more with thousands of slots); memory is used
    /// only as it fills. Where so many cannot be reserved (`RLIMIT_AS`), half of it is tried, and so on.
    pub fn max_size(&mut self, bytes: u64) -> &mut Self {
        self.max_size = Some(bytes);
        self
    }

    /// The bytes of memory for blocks that are allocated at once, when the arena is created. Its own
    /// structures (a page for each slot, above all) come on top.
    pub fn initial_size(&mut self, bytes: u64) -> &mut Self {
        self.initial_size = bytes;
        self
    }

    /// The mode bits of a file that is created; 0600 unless said otherwise. The umask does not
    /// matter. If others than the owner may write it, that takes
    /// [`allow_foreign_writers`](Options::allow_foreign_writers), to create it as to open it.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// How this process may use the pages.
    pub fn access(&mut self, access: Access) -> &mut Self {
        self.access = access;
        self
    }

    /// How many slots there are for threads, of all processes together: 2 to 16000. One in 32 of them, at
    /// least one, is kept for recovery: of 8, 7 threads can be attached at a time.
    pub fn slots(&mut self, slots: u32) -> &mut Self {
        self.slots = Some(slots);
        self
    }

    /// Asks the kernel for huge pages, where it has them for this kind of memory. A wish: what this
    /// process commits becomes huge then, as soon as whole huge pages of it are there. Linux 6.1.
    ///
    /// For arenas in files on a tmpfs that is mounted with `huge=advise`, and for
    /// [`anonymous`](Arena::anonymous) ones where
    /// `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says `advise`. By default both are `never`,
    /// and nothing changes.
    ///
    /// Measured where the kernel had them (`sharena-bench huge`, a map of 4 million numbers, Linux 6.18 in a
    /// virtual machine): a look-up took 83 ns rather than 113, an insertion 88 rather than 103.
    pub fn huge_pages(&mut self, wanted: bool) -> &mut Self {
        self.huge_pages = wanted;
        self
    }

    /// Maps all committed pages at once, rather than as they are touched; holes that
    /// [`Arena::trim`] made stay holes. For arenas in files.
    ///
    /// Measured with 256 MiB in a memfd (a busy 2-core machine, Linux 6.18): creating the arena took 1.0 s
    /// rather than 0.45 s, and writing to each page for the first time 0.03 s rather than 1.0 s.
    pub fn populate(&mut self, wanted: bool) -> &mut Self {
        self.populate = wanted;
        self
    }

    /// Checks the whole arena before it is used, as [`Arena::check`] does, and refuses a damaged
    /// one with [`Error::Damaged`]. For files that may not come from programs that keep the
    /// contract of [`Share`](crate::Share).
    pub fn verify(&mut self, wanted: bool) -> &mut Self {
        self.verify = wanted;
        self
    }

    /// Accepts files that belong to another user, or that other users may write.
    ///
    /// # Safety
    ///
    /// Whoever may write the file can change it at any time, and with it what safe references of
    /// this process point to. All of them must change it through sharena only.
    pub unsafe fn allow_foreign_writers(&mut self, allowed: bool) -> &mut Self {
        self.allow_foreign_writers = allowed;
        self
    }

    /// Opens an image as if its threads had been killed just now, without recovering them, and with
    /// all that they held: for tests that watch the recovery itself.
    #[doc(hidden)]
    pub fn leave_the_dead(&mut self, wanted: bool) -> &mut Self {
        self.leave_the_dead = wanted;
        self
    }

    /// Opens the arena of that name, creates it if there is none. See [`Arena::named`].
    ///
    /// # Errors
    ///
    /// As [`Arena::named`].
    pub fn named(&self, name: &str) -> Result<Arena> {
        let path = self.path_of(name)?;
        self.open_or_create_at(&path)
    }

    /// Opens the arena of that name, which must exist. See [`Arena::open_named`].
    ///
    /// # Errors
    ///
    /// As [`Arena::open_named`].
    pub fn open_named(&self, name: &str) -> Result<Arena> {
        open::at_path(self, &self.path_of(name)?)
    }

    /// The path of a named arena.
    pub(super) fn path_of(&self, name: &str) -> Result<PathBuf> {
        let bad = |reason| Error::BadName {
            name: name.to_owned(),
            reason,
        };
        if name.is_empty() {
            return Err(bad("it is empty"));
        }
        if name.len() > 200 {
            return Err(bad("it is longer than 200 bytes"));
        }
        if name.contains(['/', '\0']) {
            return Err(bad("it contains a slash or a zero byte"));
        }
        if name.starts_with('.') {
            return Err(bad("it begins with a dot"));
        }
        let directory = os::process::runtime_directory()
            .map_err(|source| Error::os("prepare the directory of named arenas", source))?;
        Ok(directory.join(name))
    }

    /// Creates an arena at a path where there is nothing yet.
    ///
    /// # Safety
    ///
    /// As [`Arena::create`].
    ///
    /// # Errors
    ///
    /// As [`Arena::create`].
    pub unsafe fn create(&self, path: impl AsRef<Path>) -> Result<Arena> {
        self.must_write()?;
        create::at_path(self, path.as_ref())
    }

    /// Opens the arena at a path.
    ///
    /// # Safety
    ///
    /// As [`Arena::open`].
    ///
    /// # Errors
    ///
    /// As [`Arena::open`].
    pub unsafe fn open(&self, path: impl AsRef<Path>) -> Result<Arena> {
        open::at_path(self, path.as_ref())
    }

    /// Opens the arena at a path, or creates it.
    ///
    /// # Safety
    ///
    /// As [`Arena::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`Arena::open_or_create`].
    pub unsafe fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Arena> {
        self.open_or_create_at(path.as_ref())
    }

    /// Whoever comes first creates; a creator becomes visible only when it is done, so nobody waits
    /// for one, and a killed one leaves nothing behind.
    fn open_or_create_at(&self, path: &Path) -> Result<Arena> {
        loop {
            match open::at_path(self, path) {
                Err(Error::Missing { .. }) if self.access == Access::ReadWrite => {}
                done => return done,
            }
            match create::at_path(self, path) {
                Err(Error::Exists { .. }) => {}
                done => return done,
            }
        }
    }

    /// An arena in a file without a name: for related processes. See [`Arena::anonymous`].
    ///
    /// # Errors
    ///
    /// As [`Arena::anonymous`].
    pub fn anonymous(&self) -> Result<Arena> {
        self.must_write()?;
        create::anonymous(self)
    }

    /// An arena in this process's ordinary memory. See [`Arena::in_memory`].
    ///
    /// # Errors
    ///
    /// As [`Arena::in_memory`].
    pub fn in_memory(&self) -> Result<Arena> {
        self.must_write()?;
        create::in_memory(self)
    }

    /// The arena in a file that was handed over. See [`Arena::from_fd`].
    ///
    /// # Safety
    ///
    /// As [`Arena::from_fd`].
    ///
    /// # Errors
    ///
    /// As [`Arena::from_fd`].
    pub unsafe fn from_fd(&self, fd: OwnedFd) -> Result<Arena> {
        let file = os::file::above_standard(fd)
            .map_err(|source| Error::os("duplicate a file descriptor", source))?;
        open::file(self, file, None)
    }

    /// A private copy, in ordinary memory, of an arena's bytes: of a file, or of another's memory.
    ///
    /// Any bytes can be tried: what is not an arena, or a damaged one, is an error as far as its
    /// structures go. Values are trusted, unless [`verify`](Options::verify) is on.
    ///
    /// # Errors
    ///
    /// Those of [`Arena::open`] that speak of the arena's contents.
    pub fn from_image(&self, image: &[u8]) -> Result<Arena> {
        open::image(self, image)
    }

    fn must_write(&self) -> Result {
        if self.access != Access::ReadWrite {
            return Err(Error::BadOption {
                option: "access",
                reason: "a new arena can only be created for reading and writing".into(),
            });
        }
        Ok(())
    }

    /// Whether what is created with these options can be opened with them.
    pub(super) fn may_be_opened_again(&self) -> Result {
        if self.mode & os::file::WRITABLE_BY_OTHERS != 0 && !self.allow_foreign_writers {
            return Err(Error::BadOption {
                option: "mode",
                reason: format!(
                    "others may write a file of mode {:03o}, and who writes an arena is trusted by all who \
                     use it: expected a mode without `g+w` and `o+w`, or `allow_foreign_writers`",
                    self.mode
                ),
            });
        }
        Ok(())
    }

    /// The layout of an arena that is to be created with room for `maximum` bytes.
    pub(super) fn geometry(&self, maximum: u64) -> Result<Geometry> {
        let page = os::memory::page_size();
        let shift = Geometry::slab_shift_for(maximum);
        let slots = self.slots.unwrap_or(match maximum {
            0..=0x10_0000 => 8,
            0x10_0001..=0x100_0000 => 32,
            _ => 256,
        });
        if !(MIN_SLOTS..=MAX_SLOTS).contains(&slots) {
            return Err(Error::BadOption {
                option: "slots",
                reason: format!("expected {MIN_SLOTS} to {MAX_SLOTS}, found {slots}"),
            });
        }
        let geometry =
            Geometry::new(maximum, page, shift, slots).map_err(|reason| Error::BadOption {
                option: "max_size",
                reason,
            })?;
        if self.initial_size > maximum {
            return Err(Error::BadOption {
                option: "initial_size",
                reason: format!("{} bytes are more than the maximum", self.initial_size),
            });
        }
        Ok(geometry)
    }

    /// The maximum size to begin with: of a file, or of memory.
    pub(super) fn maximum(&self, in_memory: bool) -> u64 {
        self.max_size.unwrap_or(if in_memory {
            DEFAULT_MAX_IN_MEMORY
        } else {
            DEFAULT_MAX_SIZE
        })
    }
}
