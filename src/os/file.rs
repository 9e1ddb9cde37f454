//! The file that holds an arena: opening, creating, growing, locking, passing on.
//!
//! What this room guarantees:
//!
//! * every descriptor it makes is close-on-exec, and no open follows a link or waits for a peer;
//! * a file appears under its name complete or not at all, and of several creators one wins;
//! * a range that was allocated can be written without SIGBUS, or the allocation was an error;
//! * byte locks belong to an open file description ("OFD"): the kernel drops them when the last
//!   descriptor of it is closed, also by death, but a forked child shares it, and so does a
//!   process that was sent the descriptor. [`reopen`] gives a description of one's own.
//!
//! Descriptors are named as `/proc/thread-self/fd/N`: `/proc/self` is empty once the main thread
//! has ended before the others.

use std::{
    ffi::OsString,
    fs::{File, Metadata},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{fs::FileExt, fs::MetadataExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    fs::{
        AtFlags, CWD, FallocateFlags, MemfdFlags, Mode, OFlags, RenameFlags, SealFlags, SeekFrom,
    },
    io::{Errno, retry_on_intr},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    process::{Resource, getrlimit},
};

use super::process;

// ---------------------------------------------------------------------------------------------
// Opening
// ---------------------------------------------------------------------------------------------

/// What tells one file of this machine from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl Identity {
    pub(crate) fn of(metadata: &Metadata) -> Identity {
        Identity {
            dev: metadata.dev(),
            ino: metadata.ino(),
        }
    }
}

/// The identity of an open file.
pub(crate) fn identity(file: &File) -> io::Result<Identity> {
    file.metadata().map(|metadata| Identity::of(&metadata))
}

/// Opens what is at `path`. A symbolic link there is an error; a FIFO or a device does not block.
///
/// It may be anything but a link: the caller looks at what it got.
pub(crate) fn open(path: &Path, write: bool) -> io::Result<File> {
    let flags = access(write) | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    open_with(path, flags)
}

/// Opens the same file once more, with an open file description of its own.
pub(crate) fn reopen(file: &File, write: bool) -> io::Result<File> {
    open_with(&descriptor_path(file.as_fd()), access(write))
}

/// The same, where the file is probably still at `path`: the way by `/proc` takes several times as
/// long.
pub(crate) fn reopen_at(path: &Path, of: Identity, file: &File, write: bool) -> io::Result<File> {
    match open(path, write) {
        Ok(again) if identity(&again).is_ok_and(|found| found == of) => Ok(again),
        _ => reopen(file, write),
    }
}

fn access(write: bool) -> OFlags {
    let direction = if write { OFlags::RDWR } else { OFlags::RDONLY };
    direction | OFlags::CLOEXEC
}

fn open_with(path: &Path, flags: OFlags) -> io::Result<File> {
    let opened = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
    Ok(File::from(opened))
}

fn descriptor_path(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", file.as_raw_fd()))
}

// ---------------------------------------------------------------------------------------------
// Creating
// ---------------------------------------------------------------------------------------------

/// A file that is being made and has no name yet, or only a hidden one.
///
/// Dropped without [`publish`] it is gone. Killed before that, nothing is left of an unnamed
/// file; on a file system without those, a `.sharena-…` file may be left.
pub(crate) struct Unnamed {
    file: File,
    hidden: Option<Hidden>,
}

/// A random name that stands in where files cannot be unnamed; removed when dropped.
struct Hidden {
    directory: OwnedFd,
    name: OsString,
    /// The name is free again, and may be somebody else's.
    gone: bool,
}

impl Unnamed {
    /// The file, open for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if !self.gone {
            let name = self.name.as_os_str();
            let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        }
    }
}

/// Makes a file without a name in `directory`, with exactly this mode, whatever the umask.
pub(crate) fn create_unnamed(directory: &Path, mode: u32) -> io::Result<Unnamed> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let private = Mode::RUSR | Mode::WUSR;
    let unnamed = match retry_on_intr(|| rustix::fs::open(directory, flags, private)) {
        Ok(file) => Unnamed {
            file: File::from(file),
            hidden: None,
        },
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => create_hidden(directory)?,
        Err(error) => return Err(error.into()),
    };
    rustix::fs::fchmod(&unnamed.file, Mode::from_raw_mode(mode))?;
    Ok(unnamed)
}

fn create_hidden(directory: &Path) -> io::Result<Unnamed> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    loop {
        let name = hidden_name()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | access(true);
        let private = Mode::RUSR | Mode::WUSR;
        let made = rustix::fs::openat(&directory, name.as_os_str(), flags, private);
        match made {
            Ok(file) => {
                let hidden = Some(Hidden {
                    directory,
                    name,
                    gone: false,
                });
                return Ok(Unnamed {
                    file: File::from(file),
                    hidden,
                });
            }
            Err(Errno::EXIST | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn hidden_name() -> io::Result<OsString> {
    let mut bytes = [0; 8];
    process::random(&mut bytes)?;
    Ok(format!(".sharena-{:016x}", u64::from_le_bytes(bytes)).into())
}

/// Gives the file its name, in one step. `AlreadyExists` if something has that name.
///
/// `path` must lie on the file system of the directory given to [`create_unnamed`].
pub(crate) fn publish(unnamed: Unnamed, path: &Path) -> io::Result<File> {
    let Unnamed { file, hidden } = unnamed;
    match hidden {
        None => link_descriptor(&file, path)?,
        Some(hidden) => publish_hidden(hidden, path)?,
    }
    Ok(file)
}

fn link_descriptor(file: &File, path: &Path) -> io::Result<()> {
    let source = descriptor_path(file.as_fd());
    Ok(rustix::fs::linkat(
        CWD,
        &source,
        CWD,
        path,
        AtFlags::SYMLINK_FOLLOW,
    )?)
}

/// Renames without replacing; where the file system cannot, links, and drops the hidden name.
fn publish_hidden(mut hidden: Hidden, path: &Path) -> io::Result<()> {
    let (directory, name) = (&hidden.directory, hidden.name.as_os_str());
    match rustix::fs::renameat_with(directory, name, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => hidden.gone = true,
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(directory, name, CWD, path, AtFlags::empty())?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Makes a file in memory that can be sealed.
pub(crate) fn memfd(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(File::from(rustix::fs::memfd_create(name, flags)?))
}

/// Makes sure that nobody ever shrinks this memfd. Further seals stay possible.
pub(crate) fn seal_shrink(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_add_seals(file, SealFlags::SHRINK)?)
}

// ---------------------------------------------------------------------------------------------
// Growing and shrinking
// ---------------------------------------------------------------------------------------------

/// Backs `len` bytes from `offset` with memory or disk, and extends the file if they lie behind
/// its end. What is there keeps its contents; a full disk is an error (`StorageFull`).
///
/// A memfd has no limit of its own: asked for more than the machine has, the kernel kills
/// processes for memory instead of refusing. Whoever computes `len` bounds it before.
///
/// Where the file system cannot allocate, zeros are written to the holes. Holes are found before
/// they are written: nobody else may write to the range meanwhile. A file system that does not
/// tell its holes keeps those within the file.
pub(crate) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let end = range_end(offset, len)?;
    if offset == end {
        return Ok(());
    }
    refuse_beyond_limit(file, end)?;
    match fallocate(file, FallocateFlags::empty(), offset, len) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill_holes(file, offset, end),
        result => Ok(result?),
    }
}

/// The kernel's answer to a file that would outgrow `RLIMIT_FSIZE` is a signal, which ends the
/// process: so it is not asked.
fn refuse_beyond_limit(file: &File, end: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if end > limit && end > file.metadata()?.len() => {
            Err(io::ErrorKind::FileTooLarge.into())
        }
        _ => Ok(()),
    }
}

/// Gives the memory or disk behind a range back; it reads as zeros then. Keeps the file's length.
pub(crate) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, flags, offset, len)?)
}

/// Bytes that are really allocated for the file.
pub(crate) fn blocks(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks() * 512)
}

fn range_end(offset: u64, len: u64) -> io::Result<u64> {
    let end = offset
        .checked_add(len)
        .filter(|&end| i64::try_from(end).is_ok());
    end.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))
}

/// An interrupted allocation on tmpfs starts from nothing again, so that a timer that ticks
/// faster than it works would keep it from ever ending: the second try has signals blocked.
fn fallocate(file: &File, flags: FallocateFlags, offset: u64, len: u64) -> Result<(), Errno> {
    let once = || rustix::fs::fallocate(file, flags, offset, len);
    match once() {
        Err(Errno::INTR) => process::with_signals_blocked(|| retry_on_intr(once)),
        result => result,
    }
}

/// Writes zeros to the holes in `at..end`, and behind the end of the file, never over data.
fn fill_holes(file: &File, mut at: u64, end: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    while at < end.min(length) {
        let data = next_data(file, at, length)?;
        write_zeros(file, at, data.min(end))?;
        at = next_hole(file, data, length)?;
    }
    write_zeros(file, at.max(length), end)
}

/// Where the first data at or after `at` begins; `length` if there is none.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        // A file system that does not tell its holes: all is data.
        Err(Errno::INVAL) => Ok(at),
        result => sought(result, length),
    }
}

/// Where the first hole at or after `at` begins; `length` if there is none.
fn next_hole(file: &File, at: u64, length: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Hole(at)) {
        Err(Errno::INVAL) => Ok(length),
        result => sought(result, length),
    }
}

fn sought(result: Result<u64, Errno>, length: u64) -> io::Result<u64> {
    match result {
        Ok(found) => Ok(found.min(length)),
        // Behind the end, or nothing of the kind is left.
        Err(Errno::NXIO) => Ok(length),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &File, mut at: u64, end: u64) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    while at < end {
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        let chunk = &ZEROS[..rest.min(ZEROS.len())];
        file.write_all_at(chunk, at)?;
        at += chunk.len() as u64;
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------
// Byte locks of an open file description
// ---------------------------------------------------------------------------------------------

/// How a byte is locked. `Shared` needs a readable, `Exclusive` a writable description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Any number of descriptions at once.
    Shared,
    /// One description, and no shared hold of another.
    Exclusive,
}

/// Locks the byte at `at` if nobody holds it against that; converts a hold of this description.
pub(crate) fn try_lock_byte(file: &File, at: u64, hold: Hold) -> io::Result<bool> {
    match lock_call(file, libc::F_OFD_SETLK, at, lock_type(hold)) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Locks the byte at `at`, waiting for those who hold it.
pub(crate) fn lock_byte(file: &File, at: u64, hold: Hold) -> io::Result<()> {
    lock_call(file, libc::F_OFD_SETLKW, at, lock_type(hold)).map(drop)
}

/// Drops this description's hold of the byte at `at`, if it has one.
pub(crate) fn unlock_byte(file: &File, at: u64) -> io::Result<()> {
    lock_call(file, libc::F_OFD_SETLK, at, libc::F_UNLCK).map(drop)
}

/// Whether another description holds the byte at `at` in any way.
pub(crate) fn byte_held(file: &File, at: u64) -> io::Result<bool> {
    let found = lock_call(file, libc::F_OFD_GETLK, at, libc::F_WRLCK)?;
    Ok(i32::from(found.l_type) != libc::F_UNLCK)
}

fn lock_type(hold: Hold) -> i32 {
    match hold {
        Hold::Shared => libc::F_RDLCK,
        Hold::Exclusive => libc::F_WRLCK,
    }
}

fn lock_call(file: &File, command: i32, at: u64, kind: i32) -> io::Result<libc::flock> {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: i64::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?,
        l_len: 1,
        // Must be zero for locks of a description.
        l_pid: 0,
    };
    loop {
        // SAFETY: the kernel reads and writes the local `lock` only.
        if unsafe { libc::fcntl(file.as_raw_fd(), command, &mut lock) } >= 0 {
            return Ok(lock);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Passing on
// ---------------------------------------------------------------------------------------------

/// Sends a descriptor, with one byte that carries it.
///
/// The receiver shares its open file description, byte locks included.
pub(crate) fn send_fd(socket: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(
        control.push(SendAncillaryMessage::ScmRights(&fds)),
        "there is room for one"
    );
    let data = [io::IoSlice::new(b"f")];
    retry_on_intr(|| sendmsg(socket, &data, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives a descriptor sent by [`send_fd`]; it is close-on-exec.
pub(crate) fn receive_fd(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| {
        let mut data = [io::IoSliceMut::new(&mut byte)];
        recvmsg(socket, &mut data, &mut control, flags)
    })?;
    // Descriptors beyond the first are closed here.
    let fd = control.drain().find_map(first_descriptor);
    match fd {
        Some(fd) => Ok(fd),
        None if received.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        None => {
            let why = "expected a message with a descriptor, found one without";
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

fn first_descriptor(message: RecvAncillaryMessage<'_>) -> Option<OwnedFd> {
    match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }
}

/// Lets the program that `command` starts inherit `fd`, under the same number.
///
/// Only the child's copy loses close-on-exec, so no other program that is started meanwhile gets
/// it. The caller keeps `fd` open until the command is spawned.
pub(crate) fn keep_across_exec(command: &mut Command, fd: BorrowedFd<'_>) {
    let number = fd.as_raw_fd();
    let clear = move || clear_close_on_exec(number);
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(clear) };
}

fn clear_close_on_exec(number: i32) -> io::Result<()> {
    // SAFETY: changes a flag of a descriptor of the child only.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        os::unix::fs::{PermissionsExt, symlink},
        sync::atomic::{AtomicU32, Ordering::Relaxed},
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::os::testing::{Child, eventually, sleep_for_ever};

    /// A directory of the test's own, removed when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(base: &str) -> Scratch {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Relaxed);
            let path = PathBuf::from(format!("{base}/sharena-os-{}-{number}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// tmpfs, and whatever `/tmp` and the build directory are on.
    fn scratches() -> [Scratch; 2] {
        [
            Scratch::new("/dev/shm"),
            Scratch::new(std::env::temp_dir().to_str().unwrap()),
        ]
    }

    fn close_on_exec(fd: &impl AsRawFd) -> bool {
        // SAFETY: reads a flag.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
    }

    #[test]
    fn open_refuses_links_and_does_not_wait_for_fifos() {
        let scratch = Scratch::new("/dev/shm");
        let (path, link, fifo) = (
            scratch.path("f"),
            scratch.path("link"),
            scratch.path("fifo"),
        );
        fs::write(&path, "x").unwrap();
        symlink(&path, &link).unwrap();
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let error = open(&link, false).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        assert!(!open(&fifo, false).unwrap().metadata().unwrap().is_file());
        assert!(open(&fifo, true).is_ok());
        let missing = open(&scratch.path("none"), true).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let file = open(&path, false).unwrap();
        assert!(close_on_exec(&file));
        assert!((&file).write_all(b"y").is_err());
        assert_eq!(
            identity(&file).unwrap(),
            identity(&open(&path, true).unwrap()).unwrap()
        );
    }

    #[test]
    fn reopen_gives_another_description() {
        let file = memfd("reopen").unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        let mut again = reopen(&file, true).unwrap();
        assert!(close_on_exec(&again));
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        assert_eq!(rustix::fs::tell(&file).unwrap(), 0);
        assert!(reopen(&file, false).unwrap().write_all_at(b"x", 0).is_err());
        assert_eq!(identity(&again).unwrap(), identity(&file).unwrap());
    }

    /// The name is given to one of several, has the exact mode, and nothing else is left.
    fn check_creation(scratch: &Scratch, create: impl Fn(u32) -> io::Result<Unnamed>) {
        let path = scratch.path("published");
        let (first, second) = (create(0o666).unwrap(), create(0o600).unwrap());
        first.file().write_all_at(b"first", 0).unwrap();
        let file = publish(first, &path).unwrap();
        assert!(close_on_exec(&file));
        let error = publish(second, &path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o666
        );
        drop(create(0o600).unwrap());
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
    }

    #[test]
    fn unnamed_files_are_published_once() {
        for scratch in scratches() {
            check_creation(&scratch, |mode| create_unnamed(&scratch.0, mode));
        }
    }

    #[test]
    fn hidden_files_are_published_once() {
        for scratch in scratches() {
            check_creation(&scratch, |mode| {
                let made = create_hidden(&scratch.0)?;
                rustix::fs::fchmod(&made.file, Mode::from_raw_mode(mode))?;
                Ok(made)
            });
        }
    }

    #[test]
    fn of_many_creators_one_wins() {
        let scratch = Scratch::new("/dev/shm");
        for round in 0..50 {
            let path = scratch.path(&round.to_string());
            let create = || publish(create_unnamed(&scratch.0, 0o600)?, &path).map(drop);
            let winners = thread::scope(|scope| {
                let racers: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
                racers
                    .into_iter()
                    .filter_map(|racer| racer.join().unwrap().ok())
                    .count()
            });
            assert_eq!(winners, 1);
        }
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error() {
        let error = create_unnamed(Path::new("/nowhere/at/all"), 0o600)
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_sealed_memfd_grows_and_never_shrinks() {
        let file = memfd("sealed").unwrap();
        file.set_len(8192).unwrap();
        seal_shrink(&file).unwrap();
        assert_eq!(
            file.set_len(4096).unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        file.set_len(16384).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL).unwrap();
        assert!(memfd("a\0b").is_err());
    }

    #[test]
    fn allocation_extends_and_keeps_contents() {
        for scratch in scratches() {
            let made = create_unnamed(&scratch.0, 0o600).unwrap();
            let file = made.file();
            allocate(file, 0, 4096).unwrap();
            file.write_all_at(b"data", 0).unwrap();
            allocate(file, 0, 1 << 20).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 1 << 20);
            assert!(blocks(file).unwrap() >= 1 << 20);
            let mut four = [0; 4];
            file.read_exact_at(&mut four, 0).unwrap();
            assert_eq!(&four, b"data");
            punch(file, 1 << 19, 1 << 19).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 1 << 20);
            assert!(blocks(file).unwrap() < 1 << 20);
        }
    }

    #[test]
    fn impossible_allocations_are_errors() {
        let file = memfd("impossible").unwrap();
        allocate(&file, 5, 0).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
        assert!(allocate(&file, u64::MAX, 1).is_err());
        assert!(allocate(&file, i64::MAX as u64, 1).is_err());
        assert!(allocate(&File::open("/dev/null").unwrap(), 0, 1).is_err());
    }

    /// Only where the file system has a limit, which tmpfs checks before it takes any memory.
    /// Never on a memfd: those have no limit, and the machine runs out of memory instead.
    #[test]
    fn a_full_file_system_is_an_error() {
        let scratch = Scratch::new("/dev/shm");
        let limits = rustix::fs::statvfs(&scratch.0).unwrap();
        if process::is_tmpfs(&scratch.0) && limits.f_blocks > 0 {
            let made = create_unnamed(&scratch.0, 0o600).unwrap();
            let too_much = limits.f_blocks * limits.f_frsize + limits.f_frsize;
            let error = allocate(made.file(), 0, too_much).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(blocks(made.file()).unwrap(), 0);
        }
    }

    /// A file of `len` bytes with data in some pages and holes elsewhere.
    fn spotted(scratch: &Scratch, len: u64, pages: &[u64]) -> File {
        let file = create_unnamed(&scratch.0, 0o600).unwrap().file;
        file.set_len(len).unwrap();
        pages
            .iter()
            .for_each(|page| file.write_all_at(&[7; 4096], page * 4096).unwrap());
        file
    }

    #[test]
    fn holes_are_filled_and_data_is_kept() {
        for scratch in scratches() {
            for pages in [&[][..], &[0], &[63], &[0, 1, 5, 40, 63], &[10, 11]] {
                let file = spotted(&scratch, 64 * 4096, pages);
                fill_holes(&file, 4096, 100 * 4096).unwrap();
                assert_eq!(file.metadata().unwrap().len(), 100 * 4096);
                assert!(blocks(&file).unwrap() >= 99 * 4096);
                let mut all = vec![1; 100 * 4096];
                file.read_exact_at(&mut all, 0).unwrap();
                for (page, bytes) in (0..).zip(all.chunks(4096)) {
                    let expected = if pages.contains(&page) { 7 } else { 0 };
                    assert!(bytes.iter().all(|&byte| byte == expected), "page {page}");
                }
            }
        }
    }

    #[test]
    fn filling_stops_at_the_end_of_the_range() {
        let scratch = Scratch::new("/dev/shm");
        let file = spotted(&scratch, 64 * 4096, &[30]);
        fill_holes(&file, 10 * 4096, 20 * 4096).unwrap();
        assert_eq!(blocks(&file).unwrap(), 11 * 4096);
        let behind = spotted(&scratch, 4096, &[0]);
        fill_holes(&behind, 8 * 4096, 9 * 4096).unwrap();
        assert_eq!(behind.metadata().unwrap().len(), 9 * 4096);
        assert_eq!(blocks(&behind).unwrap(), 2 * 4096);
    }

    extern "C" fn ignore(_: i32) {}

    #[test]
    fn a_storm_of_signals_does_not_stop_an_allocation() {
        let file = memfd("storm").unwrap();
        Child::fork(|| {
            // SAFETY: installs a handler that does nothing, and a timer, in the child only.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = ignore as *const () as usize;
                libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
                let often = libc::timeval {
                    tv_sec: 0,
                    tv_usec: 100,
                };
                let timer = libc::itimerval {
                    it_interval: often,
                    it_value: often,
                };
                libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
            }
            allocate(&file, 0, 64 << 20).unwrap();
        })
        .succeed();
        assert_eq!(blocks(&file).unwrap(), 64 << 20);
    }

    #[test]
    fn byte_locks_conflict_between_descriptions() {
        let file = memfd("locks").unwrap();
        let other = reopen(&file, true).unwrap();
        assert!(try_lock_byte(&file, 5, Hold::Exclusive).unwrap());
        assert!(!byte_held(&file, 5).unwrap());
        assert!(byte_held(&other, 5).unwrap());
        assert!(!try_lock_byte(&other, 5, Hold::Shared).unwrap());
        assert!(try_lock_byte(&other, 6, Hold::Exclusive).unwrap());
        assert!(try_lock_byte(&file, 5, Hold::Shared).unwrap());
        assert!(try_lock_byte(&other, 5, Hold::Shared).unwrap());
        assert!(byte_held(&other, 5).unwrap() && byte_held(&file, 5).unwrap());
        unlock_byte(&file, 5).unwrap();
        unlock_byte(&file, 5).unwrap();
        assert!(try_lock_byte(&other, 5, Hold::Exclusive).unwrap());
        drop(other);
        // What other tests forked meanwhile has the description too.
        eventually("closing unlocks", || {
            !byte_held(&file, 5).unwrap() && !byte_held(&file, 6).unwrap()
        });
        assert!(try_lock_byte(&reopen(&file, false).unwrap(), 5, Hold::Exclusive).is_err());
        assert!(try_lock_byte(&file, u64::MAX, Hold::Shared).is_err());
    }

    #[test]
    fn death_drops_byte_locks_and_wakes_who_waits() {
        let file = memfd("death").unwrap();
        let child = Child::fork(|| {
            let own = reopen(&file, true).unwrap();
            lock_byte(&own, 1, Hold::Exclusive).unwrap();
            sleep_for_ever()
        });
        eventually("the child locks", || byte_held(&file, 1).unwrap());
        let waiter = thread::spawn({
            let own = reopen(&file, true).unwrap();
            move || lock_byte(&own, 1, Hold::Exclusive).map(|()| own)
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        child.kill();
        let own = waiter.join().unwrap().unwrap();
        assert!(byte_held(&file, 1).unwrap());
        // Not by closing: what other tests fork meanwhile has this
        // description too.
        unlock_byte(&own, 1).unwrap();
        assert!(!byte_held(&file, 1).unwrap());
    }

    #[test]
    fn a_forked_child_keeps_the_lock_of_its_parent() {
        let file = memfd("inherited").unwrap();
        let own = reopen(&file, true).unwrap();
        lock_byte(&own, 1, Hold::Exclusive).unwrap();
        let child = Child::fork(|| sleep_for_ever());
        drop(own);
        assert!(byte_held(&file, 1).unwrap());
        child.kill();
        let start = Instant::now();
        while byte_held(&file, 1).unwrap() {
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }

    #[test]
    fn descriptors_travel_between_processes() {
        let (near, far) = UnixStream::pair().unwrap();
        let child = Child::fork(|| {
            let file = memfd("sent").unwrap();
            file.write_all_at(b"hello", 0).unwrap();
            send_fd(&far, file.as_fd()).unwrap();
        });
        let file = File::from(receive_fd(&near).unwrap());
        child.succeed();
        assert!(close_on_exec(&file));
        let mut text = [0; 5];
        file.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"hello");
    }

    #[test]
    fn messages_without_descriptors_are_errors() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"x").unwrap();
        assert_eq!(
            receive_fd(&near).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        drop(far);
        assert_eq!(
            receive_fd(&near).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let file = memfd("unsent").unwrap();
        assert_eq!(
            send_fd(&near, file.as_fd()).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn only_the_child_inherits() {
        let file = memfd("kept").unwrap();
        file.write_all_at(b"inherited", 0).unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut kept = Command::new("cat");
        keep_across_exec(kept.arg(&path), file.as_fd());
        assert_eq!(kept.output().unwrap().stdout, b"inherited");
        assert!(close_on_exec(&file));
        let lost = Command::new("cat").arg(&path).output().unwrap();
        assert!(!lost.status.success());
    }
}
