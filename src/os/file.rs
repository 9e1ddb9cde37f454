//! The file that holds an arena: opening, creating, growing, locking, passing on.
//!
//! What this room guarantees:
//!
//! * every descriptor it makes is close-on-exec, and no open follows a link or waits for a peer;
//! * none that it keeps has a number that stands for standard input, output or error: where those are closed,
//!   what the program prints would go into the arena;
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

/// `f_type` of tmpfs.
pub(super) const TMPFS_MAGIC: u64 = 0x0102_1994;

// ---------------------------------------------------------------------------------------------
// Opening
// ---------------------------------------------------------------------------------------------

/// Mode bits with which others than its owner may write a file.
pub(crate) const WRITABLE_BY_OTHERS: u32 = 0o022;

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

/// What the kernel numbered a tmpfs by when it was mounted, if the file is on one: 64 bits at random, so no
/// other has the number, in this boot or another. `None` for other file systems, and before Linux 5.13.
pub(crate) fn tmpfs_number(file: &File) -> io::Result<Option<u64>> {
    const { assert!(size_of::<libc::fsid_t>() == 8) };
    // SAFETY: plain numbers, which the kernel fills.
    let mut system: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: an open file, and a place for what is known of its file system.
    while unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut system) } != 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: eight bytes of plain numbers, which the C library does not name.
    let number = unsafe { (&raw const system.f_fsid).cast::<u64>().read_unaligned() };
    let tmpfs = u64::try_from(system.f_type) == Ok(TMPFS_MAGIC);
    Ok((tmpfs && number != 0).then_some(number))
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
    above_standard(opened)
}

/// The same file under another number, if it has that of a standard stream.
pub(crate) fn above_standard(opened: OwnedFd) -> io::Result<File> {
    if opened.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(File::from(opened));
    }
    let first = libc::STDERR_FILENO + 1;
    let above = rustix::io::fcntl_dupfd_cloexec(&opened, first)?;
    Ok(File::from(above))
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
            file: above_standard(file)?,
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
                    file: above_standard(file)?,
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
    above_standard(rustix::fs::memfd_create(name, flags)?)
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
mod tests;
