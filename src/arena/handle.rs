//! The handle on an arena.

use super::{
    Options, Report, Reserved, Root, RootInfo, Stats, Transaction, check, directory, open, raw,
    snapshot, stats, transaction, trim,
};
use crate::{
    error::{Error, Result},
    journal,
    mapping::{Access, Backing, Mapping},
    os,
    ptr::RelPtr,
    section::{self, Ctx},
    share::Share,
};
use std::{
    alloc::Layout,
    fmt,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::Command,
    ptr::NonNull,
    sync::{Arc, atomic::Ordering::*},
};

/// Memory that several processes share, with a heap and named objects in it.
///
/// A cheap handle: clones are handles of the same mapping, and so are arenas that are opened again
/// in the same process. The memory is unmapped when the last handle has gone.
pub struct Arena {
    mapping: Arc<Mapping>,
}

impl Arena {
    /// Opens the arena of that name, or creates it: whoever comes first.
    ///
    /// The file lies in a directory of sharena's own, which only this user can enter, on a file
    /// system in memory: `$XDG_RUNTIME_DIR/sharena`, or `/dev/shm/sharena-<user id>`. Changing it by
    /// other means than sharena is outside Rust's model, as `/proc/self/mem` is; so this is safe.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`]; and all of [`open`](Arena::open) and [`create`](Arena::create).
    ///
    /// # Examples
    ///
    /// ```
    /// use sharena::{Arena, sync::Mutex};
    ///
    /// # let name = format!("doc-named-{}", std::process::id());
    /// # let name = name.as_str();
    /// let arena = Arena::named(name)?;
    /// *arena.root::<Mutex<u64>>("visits")?.lock()? += 1;
    /// # Arena::unlink_named(name)?;
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn named(name: &str) -> Result<Arena> {
        Options::new().named(name)
    }

    /// Opens the arena of that name, which must exist.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::Missing`]; and all of [`open`](Arena::open).
    pub fn open_named(name: &str) -> Result<Arena> {
        Options::new().open_named(name)
    }

    /// Removes the file of a named arena. Processes that have it mapped go on with it; who opens
    /// the name next makes a new arena.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::Missing`].
    pub fn unlink_named(name: &str) -> Result {
        let path = Options::new().path_of(name)?;
        std::fs::remove_file(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { path },
            _ => Error::Os {
                action: "remove",
                path: Some(path),
                source,
            },
        })
    }

    /// Creates an arena at a path where there is nothing yet.
    ///
    /// It becomes visible when it is complete: whoever is killed on the way leaves nothing behind.
    ///
    /// # Safety
    ///
    /// While any process has the file mapped, it is changed through sharena only, and not made
    /// shorter. (A reference into a file that somebody else rewrites is undefined behaviour.)
    ///
    /// # Errors
    ///
    /// [`Error::Exists`], [`Error::NoSpace`], [`Error::NoAddressSpace`], [`Error::BadOption`].
    pub unsafe fn create(path: impl AsRef<Path>) -> Result<Arena> {
        // SAFETY: the caller's promise.
        unsafe { Options::new().create(path) }
    }

    /// Opens the arena at a path.
    ///
    /// # Safety
    ///
    /// As [`create`](Arena::create). The arena was only ever written by programs that keep the
    /// contract of [`Share`]; where that is not known, use [`Options::verify`].
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::NotAFile`], [`Error::WrongOwner`],
    /// [`Error::WritableByOthers`]; and one for each way in which a file can be no arena for this
    /// program: [`Error::Truncated`], [`Error::ForeignMagic`], [`Error::Version`],
    /// [`Error::Features`], [`Error::Endianness`], [`Error::PointerWidth`], [`Error::PageSize`],
    /// [`Error::Fingerprint`], [`Error::Damaged`], [`Error::Twin`].
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Arena> {
        // SAFETY: the caller's promise.
        unsafe { Options::new().open(path) }
    }

    /// Opens the arena at a path, or creates it: whoever comes first.
    ///
    /// # Safety
    ///
    /// As [`open`](Arena::open).
    ///
    /// # Errors
    ///
    /// As [`open`](Arena::open) and [`create`](Arena::create).
    pub unsafe fn open_or_create(path: impl AsRef<Path>) -> Result<Arena> {
        // SAFETY: the caller's promise.
        unsafe { Options::new().open_or_create(path) }
    }

    /// Options for creating and opening.
    pub fn options() -> Options {
        Options::new()
    }

    /// Creates an arena in a file without a name (a memfd).
    ///
    /// For related processes: a child made by `fork` has it too, and it can be handed on by
    /// [`send_to`](Arena::send_to) and [`inherit`](Arena::inherit). The file cannot be made
    /// shorter.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::NoAddressSpace`], or what the kernel said.
    pub fn anonymous() -> Result<Arena> {
        Options::new().anonymous()
    }

    /// Creates an arena in this process's ordinary memory: for tests.
    ///
    /// Nobody else can map it. A child made by `fork` has a copy, which it must not use.
    ///
    /// # Errors
    ///
    /// [`Error::NoAddressSpace`].
    pub fn in_memory() -> Result<Arena> {
        Options::new().in_memory()
    }

    /// The arena in a file that was handed over.
    ///
    /// # Safety
    ///
    /// As [`open`](Arena::open).
    ///
    /// # Errors
    ///
    /// As [`open`](Arena::open).
    pub unsafe fn from_fd(fd: OwnedFd) -> Result<Arena> {
        // SAFETY: the caller's promise.
        unsafe { Options::new().from_fd(fd) }
    }

    /// Receives an arena that another process sent by [`send_to`](Arena::send_to).
    ///
    /// # Safety
    ///
    /// As [`open`](Arena::open): the sender is trusted.
    ///
    /// # Errors
    ///
    /// As [`open`](Arena::open), or what the kernel said.
    pub unsafe fn receive_from(socket: &UnixStream) -> Result<Arena> {
        let fd = os::file::receive_fd(socket)
            .map_err(|source| Error::os("receive an arena's descriptor", source))?;
        // SAFETY: the caller's promise.
        unsafe { Arena::from_fd(fd) }
    }

    /// Sends the arena to the process at the other end of a socket, which takes it by
    /// [`receive_from`](Arena::receive_from).
    ///
    /// # Errors
    ///
    /// What the kernel said; an arena in ordinary memory cannot be sent.
    pub fn send_to(&self, socket: &UnixStream) -> Result {
        os::file::send_fd(socket, self.descriptor()?)
            .map_err(|source| Error::os("send the arena's descriptor", source))
    }

    /// Lets the child that `command` starts have the arena's descriptor. Gives the number that it
    /// has there: tell the child, which opens it with [`from_fd`](Arena::from_fd).
    ///
    /// The child is forked then: roots that this process has a handle of at that time, and that are
    /// [removed](Arena::remove) later, stay as long as this process lives.
    ///
    /// # Errors
    ///
    /// An arena in ordinary memory cannot be inherited.
    pub fn inherit(&self, command: &mut Command) -> Result<RawFd> {
        let fd = self.descriptor()?;
        os::file::keep_across_exec(command, fd);
        Ok(fd.as_raw_fd())
    }

    /// The descriptor of the arena's file.
    ///
    /// # Safety
    ///
    /// Nobody may change the file through the descriptor.
    ///
    /// # Errors
    ///
    /// An arena in ordinary memory has none.
    pub unsafe fn as_fd(&self) -> Result<BorrowedFd<'_>> {
        self.descriptor()
    }

    fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        match &self.mapping.backing {
            Backing::File { file, .. } => Ok(file.as_fd()),
            Backing::Memory => Err(Error::os(
                "pass an arena on that lies in ordinary memory",
                std::io::Error::from(std::io::ErrorKind::Unsupported),
            )),
        }
    }

    /// A private copy, in ordinary memory, of an arena's bytes. See [`Options::from_image`].
    ///
    /// # Errors
    ///
    /// As [`Options::from_image`].
    pub fn from_image(image: &[u8]) -> Result<Arena> {
        open::image(&Options::new(), image)
    }

    /// The root of that name; created with its default value if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::TypeMismatch`] if it has another type; [`Error::InSection`] while this thread has
    /// a guard and the root must be created, [`Error::OtherArena`] if that is in another arena;
    /// [`Error::BadName`]; [`Error::Full`]; those of attaching.
    ///
    /// # Examples
    ///
    /// ```
    /// use sharena::{Arena, sync::Mutex};
    ///
    /// let arena = Arena::in_memory()?;
    /// *arena.root::<Mutex<u64>>("hits")?.lock()? += 1;
    /// assert_eq!(*arena.root::<Mutex<u64>>("hits")?.lock()?, 1);
    /// assert!(arena.root::<Mutex<i64>>("hits").is_err());
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn root<T: Share + Sync + Default>(&self, name: &str) -> Result<Root<T>> {
        self.root_with(name, |_| Ok(()))
    }

    /// The root of that name; if there is none, it is created and filled by `fill` before anybody
    /// else sees it. Killed in the middle, there is no such root.
    ///
    /// Where several processes come at once, one's value becomes the root, and the others' are
    /// dropped.
    ///
    /// # Errors
    ///
    /// As [`root`](Arena::root), and what `fill` returns: then nothing is created.
    pub fn root_with<T: Share + Sync + Default>(
        &self,
        name: &str,
        fill: impl FnOnce(&mut T) -> Result,
    ) -> Result<Root<T>> {
        directory::find_or_create(self, name, T::default, fill)
    }

    /// The root of that name; if there is none, it is created with the value that `make` gives. For types
    /// without a default, such as long arrays. Killed in the middle, there is no such root.
    ///
    /// The value is made outside the arena, so that it owns nothing yet; [`root_with`](Arena::root_with)
    /// fills one that can own memory.
    ///
    /// # Errors
    ///
    /// As [`root`](Arena::root).
    ///
    /// # Examples
    ///
    /// ```
    /// use sharena::{Arena, sync::Mutex};
    ///
    /// let arena = Arena::in_memory()?;
    /// let table = arena.root_or_init("table", || Mutex::new([7u8; 4096]))?;
    /// assert_eq!(table.lock()?[4095], 7);
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn root_or_init<T: Share + Sync>(
        &self,
        name: &str,
        make: impl FnOnce() -> T,
    ) -> Result<Root<T>> {
        directory::find_or_create(self, name, make, |_| Ok(()))
    }

    /// The root of that name, which must exist.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRoot`], [`Error::TypeMismatch`]; in an arena that is not mapped for writing,
    /// [`Error::NotFrozen`] unless the root is frozen, or holds nothing that can be written through
    /// a shared reference.
    pub fn find<T: Share + Sync>(&self, name: &str) -> Result<Root<T>> {
        directory::find(self, name)
    }

    /// Removes a name, as `unlink` does: who has the root goes on with it, and it is freed when
    /// the last handle of the last process has gone, also when that process was killed.
    ///
    /// Handles that a process had when it was forked are never counted down, as the child has them too: such
    /// a root stays as long as that process lives. (Starting programs by
    /// [`Command`](std::process::Command) is no fork, unless it has `pre_exec`, or
    /// [`inherit`](Arena::inherit) was used for it.)
    ///
    /// # Errors
    ///
    /// [`Error::UnknownRoot`]; [`Error::InSection`] while this thread has a guard.
    pub fn remove(&self, name: &str) -> Result {
        directory::remove(self, name)
    }

    /// The names and types of all roots, in the order of their creation.
    ///
    /// # Errors
    ///
    /// Those of attaching; [`Error::Damaged`].
    pub fn roots(&self) -> Result<Vec<RootInfo>> {
        directory::list(self)
    }

    /// Makes several locks one unit: all that `f` changes under all of them takes place at the end
    /// of `f`, or, if the process is killed before, not at all.
    ///
    /// Locks taken inside, to read or to write, are held to the end, even where their guards go
    /// earlier. Nested calls join the outer one. Errors and panics do not undo anything: they end the section, and what
    /// was done is kept. A guard that leaves `f` keeps the unit open, with all of its locks, until
    /// it goes.
    ///
    /// # Errors
    ///
    /// What `f` returns; [`Error::NeedsSection`] while this thread has a guard already,
    /// [`Error::OtherArena`] while it has a section elsewhere.
    ///
    /// # Examples
    ///
    /// ```
    /// use sharena::{Arena, sync::Mutex};
    ///
    /// let arena = Arena::in_memory()?;
    /// let from = arena.root::<Mutex<i64>>("from")?;
    /// let to = arena.root::<Mutex<i64>>("to")?;
    /// arena.section(|| {
    ///     let (mut from, mut to) = (from.lock()?, to.lock()?);
    ///     *from -= 10;
    ///     *to += 10;
    ///     Ok(())
    /// })?;
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn section<R>(&self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        self.try_section(f)
    }

    /// The same for closures with an error type of their own.
    ///
    /// # Errors
    ///
    /// As [`section`](Arena::section).
    pub fn try_section<R, E: From<Error>>(&self, f: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
        /// Closes the scope also when `f` panics.
        struct Scope(NonNull<Ctx>);
        impl Drop for Scope {
            fn drop(&mut self) {
                // SAFETY: C1: the context of this thread, which has a section open.
                unsafe { self.0.as_mut() }.close_scope();
            }
        }
        let mut ctx = section::attach(&self.mapping)?;
        // SAFETY: C1.
        unsafe { ctx.as_mut() }.open_scope()?;
        let _scope = Scope(ctx);
        f()
    }

    /// As [`section`](Arena::section), but an error or a panic of `f` undoes what it did, too: all
    /// of it is there at the end, or nothing.
    ///
    /// Locks are taken by [`Transaction::lock`], [`read`](Transaction::read) and
    /// [`write`](Transaction::write). So that nothing of what is undone lives on outside,
    /// `f` is `Send`, and so is what it returns: values that own memory of the arena stay inside.
    /// If one was hidden (in a thread-local variable), undoing aborts the process, since the value
    /// would have two owners or none.
    ///
    /// Not undone are permits, blocks that are no part of anything, what is said to others, and what is
    /// [`Unlogged`](crate::share::Unlogged).
    ///
    /// # Complexity
    ///
    /// As a section. Undoing costs as much as looking at every container under the locks that were
    /// taken, and at what lies in it where that may own something itself.
    ///
    /// # Errors
    ///
    /// What `f` returns; [`Error::InSection`] while this thread has a guard (a read guard, too) or a section,
    /// [`Error::InTransaction`] in a transaction; [`Error::OtherArena`] while it has a section
    /// elsewhere.
    ///
    /// # Panics
    ///
    /// With what `f` panics with; no lock is poisoned by that.
    ///
    /// # Examples
    ///
    /// ```
    /// use sharena::{Arena, Error, collections::HashMap, sync::Mutex};
    ///
    /// let arena = Arena::in_memory()?;
    /// let accounts = arena.root::<Mutex<HashMap<u64, i64>>>("accounts")?;
    /// accounts.lock()?.insert(1, 100)?;
    /// let transfer = |amount: i64| {
    ///     arena.transaction(|tx| {
    ///         let mut accounts = tx.lock(&accounts)?;
    ///         *accounts.entry(2).or_default()? += amount;
    ///         let from = accounts.entry(1).or_default()?;
    ///         *from -= amount;
    ///         if *from < 0 {
    ///             return Err(Error::other("not enough money"));
    ///         }
    ///         Ok(())
    ///     })
    /// };
    /// assert!(transfer(60).is_ok());
    /// assert!(transfer(60).is_err());
    /// let accounts = accounts.lock()?;
    /// assert_eq!((accounts[&1], accounts[&2]), (40, 60));
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn transaction<R: Send>(
        &self,
        f: impl FnOnce(&Transaction) -> Result<R> + Send,
    ) -> Result<R> {
        self.try_transaction(f)
    }

    /// The same for closures with an error type of their own.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Arena::transaction).
    ///
    /// # Panics
    ///
    /// As [`transaction`](Arena::transaction).
    pub fn try_transaction<R: Send, E: From<Error> + Send>(
        &self,
        f: impl FnOnce(&Transaction) -> Result<R, E> + Send,
    ) -> Result<R, E> {
        transaction::run(self, f)
    }

    /// Allocates a block. It belongs to nobody yet: it is freed again unless it is linked.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::NoSpace`], [`Error::Layout`]; those of attaching.
    #[inline]
    pub fn alloc(&self, layout: Layout) -> Result<Reserved<u8>> {
        raw::alloc(self, layout)
    }

    /// Allocates a block and moves a value into it.
    ///
    /// # Errors
    ///
    /// As [`alloc`](Arena::alloc).
    #[inline(always)]
    pub fn alloc_value<T: Share>(&self, value: T) -> Result<Reserved<T>> {
        raw::alloc_value(self, value)
    }

    /// Frees a block that was published.
    ///
    /// Takes place with the section, if this thread has one. What the block holds is not dropped.
    ///
    /// # Safety
    ///
    /// Nobody uses the block any more, and nothing owns it.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignPointer`], [`Error::DoubleFree`] (not of a block that the open section has freed, which is
    /// freed once, at its end); [`Error::Full`] or [`Error::NoSpace`] in a section that
    /// cannot note it, since its journal has no room, and there is none for a longer one: the block is
    /// not freed then. A section of its own always can.
    #[inline]
    pub unsafe fn dealloc<T>(&self, pointer: RelPtr<T>) -> Result {
        raw::dealloc(self, pointer.offset())
    }

    /// Where a relative pointer leads in this process. See [`RelPtr::resolve`].
    ///
    /// # Errors
    ///
    /// [`Error::BadPointer`].
    pub fn resolve<T>(&self, pointer: RelPtr<T>) -> Result<*mut T> {
        pointer.resolve(self)
    }

    /// The relative pointer to a value that lies in this arena.
    ///
    /// # Errors
    ///
    /// [`Error::NotInArena`].
    pub fn rel_ptr_of<T>(&self, value: &T) -> Result<RelPtr<T>> {
        self.mapping
            .offset_of(value)
            .and_then(RelPtr::from_offset)
            .ok_or(Error::NotInArena)
    }

    /// Recovers what dead threads left behind, and frees removed roots that nobody has any more.
    /// Says how many slots came back.
    ///
    /// Never necessary: whoever meets a death deals with it. It is for those who want memory back
    /// at once.
    ///
    /// # Errors
    ///
    /// Those of attaching.
    pub fn reap(&self) -> Result<usize> {
        if self.mapping.access() != Access::ReadWrite {
            return Err(Error::ReadOnly);
        }
        let reaped = journal::reap(&self.mapping)?;
        directory::sweep(self)?;
        Ok(reaped)
    }

    /// Gives memory that nothing uses back to the system, and says how many bytes that were.
    ///
    /// What threads free, the arena keeps for the next one who needs it; only this gives it back: the
    /// pages of all free slabs, as holes in the arena's file. A hole gets pages again when its slab is
    /// needed. Where there are none by then, that is [`Error::NoSpace`], as for an arena that cannot
    /// grow.
    ///
    /// First it does what [`reap`](Arena::reap) does, and takes what the calling thread keeps for itself. What
    /// other threads keep stays with them. Others may go on allocating and freeing meanwhile.
    ///
    /// Where pages are larger than slabs (64 KiB, in arenas of up to 64 MiB) nothing is given back.
    ///
    /// # Complexity
    ///
    /// A look at each slab, and a system call for each run of free ones.
    ///
    /// # Errors
    ///
    /// [`Error::InSection`] while this thread has a guard or a section; [`Error::ReadOnly`]; those of
    /// attaching, and what the kernel said: some file systems have no holes.
    ///
    /// # Examples
    ///
    /// ```
    /// use sharena::{Arena, collections::Vec, sync::Mutex};
    ///
    /// let arena = Arena::anonymous()?;
    /// let numbers = arena.root::<Mutex<Vec<u64>>>("numbers")?;
    /// numbers.lock()?.resize(1 << 20, 7)?;
    /// *numbers.lock()? = Vec::new();
    /// let before = arena.stats().file_bytes;
    /// let given_back = arena.trim()?;
    /// assert!(given_back >= 8 << 20);
    /// assert_eq!(arena.stats().file_bytes, before - given_back);
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn trim(&self) -> Result<u64> {
        trim::trim(self)
    }

    /// Writes the arena's file to its storage, as `fsync` does, and waits for that.
    ///
    /// Never necessary for what sharena promises: a process's death loses nothing. It is for arenas on disks
    /// that are to outlive the machine's next failure, at a time when nobody changes them: what is written
    /// while a section is open may be a half of it. For arenas that are in use there is
    /// [`snapshot`](Arena::snapshot). Nothing happens for one in ordinary memory.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub fn flush(&self) -> Result {
        snapshot::flush(self)
    }

    /// Writes a copy of the arena to a new file, at a moment at which no section is open, and waits until its
    /// storage has it.
    ///
    /// Takes every lock that lies in a root (not those inside of others, and not what only raw
    /// pointers lead to), waiting for whoever has them, and keeps them all while it copies. For a moment nobody
    /// finds, makes or removes a root, nor takes permits. Readers of frozen roots go on. The file
    /// appears whole or not at all, whenever the process is killed.
    ///
    /// What is not under a lock is as it is found: atomics, what is behind a [`RawMutex`](crate::sync::RawMutex),
    /// semaphores inside of a lock's value, raw blocks. All threads are dead in the copy: permits that they
    /// had are back. If for a fifth of a second others are always in the midst of making roots or of freeing raw
    /// blocks, blocks of theirs may be unowned in the copy, as [`check`](Arena::check) says then.
    ///
    /// The copy is an arena of its own for other processes ([`open`](Arena::open)), or when this one has let
    /// go of the original: both have the same [`id`](Arena::id), and a process does not map two such.
    /// What is free takes no room in it.
    ///
    /// # Complexity
    ///
    /// Reads everything that is committed, and writes what is not zero; quadratic in the number of locks that
    /// are taken (of ten thousand it is nothing, of a hundred thousand seconds).
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] if there is something at `path`; [`Error::InSection`] while this thread has a guard,
    /// also one to read; [`Error::ReadOnly`]; those of taking locks and of attaching; what the kernel
    /// said, for example of a full disk.
    ///
    /// # Examples
    ///
    /// ```
    /// # use sharena::{Arena, sync::Mutex};
    /// # let directory = std::env::temp_dir();
    /// # let path = directory.join(format!("sharena-doc-snapshot-{}", std::process::id()));
    /// let arena = Arena::anonymous()?;
    /// let hits = arena.root::<Mutex<u64>>("hits")?;
    /// *hits.lock()? = 7;
    /// arena.snapshot(&path)?;
    /// *hits.lock()? = 8;
    /// drop((hits, arena));
    /// // SAFETY: nobody else changes the file.
    /// let copy = unsafe { Arena::open(&path)? };
    /// assert_eq!(*copy.find::<Mutex<u64>>("hits")?.lock()?, 7);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), sharena::Error>(())
    /// ```
    pub fn snapshot(&self, path: impl AsRef<Path>) -> Result {
        snapshot::snapshot(self, path.as_ref())
    }

    /// Checks everything: header, heap, roots, and every object through its type; and that the
    /// blocks that are given out are those that something owns.
    ///
    /// For an arena that nobody changes meanwhile. Never panics and never loops, whatever is in it.
    pub fn check(&self) -> Report {
        check::check(self)
    }

    /// Sizes and counts.
    pub fn stats(&self) -> Stats {
        stats::stats(self)
    }

    /// The address at which this process has mapped the arena: another one in each.
    pub fn base(&self) -> *const u8 {
        self.mapping.base()
    }

    /// How this process may use the pages.
    pub fn access(&self) -> Access {
        self.mapping.access()
    }

    /// What tells this arena from all others.
    pub fn id(&self) -> u64 {
        self.mapping.id()
    }

    /// Where the arena's file is, if it was opened by a path or a name.
    pub fn path(&self) -> Option<&Path> {
        match &self.mapping.backing {
            Backing::File { path, .. } => path.as_deref(),
            Backing::Memory => None,
        }
    }

    /// Detaches the calling thread, as its end would, unless it has something open here. For tests
    /// that explore states.
    #[doc(hidden)]
    pub fn detach(&self) {
        crate::section::detach_current(self.mapping());
    }

    /// How many addresses from [`base`](Arena::base) on are the arena's. For tests that explore states.
    #[doc(hidden)]
    pub fn addresses(&self) -> usize {
        self.mapping.len()
    }

    /// The arena's bytes as they are now: what a death at this instant would leave.
    #[doc(hidden)]
    pub fn image(&self) -> Vec<u8> {
        let end = self.mapping.geometry().end_of(self.mapping.committed()) as usize;
        let mut image = vec![0u8; end];
        // SAFETY: the mapping covers the bytes; those that are not committed in between (states and
        // bitmaps of later slabs) are skipped.
        unsafe { self.mapping.copy_to(&mut image) };
        image
    }

    /// Takes out of an image of this arena what only counts up, so that two crash states that
    /// differ in nothing else are one: generations, serials, hints. For tests.
    #[doc(hidden)]
    pub fn normalize(&self, first: &[u8], image: &mut [u8]) {
        super::normal::normalize(self.mapping.geometry(), first, image);
    }

    /// How many bytes from the begin of an image [`normalize`](Arena::normalize) looks at. For tests.
    #[doc(hidden)]
    pub fn normal_len(&self) -> usize {
        super::normal::front_len(self.mapping.geometry())
    }

    #[inline(always)]
    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    pub(crate) fn from_mapping(mapping: Arc<Mapping>) -> Arena {
        mapping.handles().fetch_add(1, Relaxed);
        Arena { mapping }
    }
}

impl Clone for Arena {
    fn clone(&self) -> Self {
        Arena::from_mapping(self.mapping.clone())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.mapping.handles().fetch_sub(1, AcqRel) == 1 {
            section::detach_current(&self.mapping);
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("id", &format_args!("{:#x}", self.id()))
            .field("base", &self.base())
            .field("path", &self.path())
            .field("access", &self.access())
            .finish()
    }
}
