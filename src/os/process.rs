//! Who and where this process is: boot, user, threads, signals, directories.

use super::{file::TMPFS_MAGIC, memory::WipedWord};
use std::{
    env, fs,
    io::{self, Read},
    mem,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    ptr,
    sync::atomic::{AtomicU64, Ordering::*},
};

/// Identifies this boot of the machine.
pub(crate) fn boot_id() -> io::Result<[u8; 16]> {
    let mut buffer = [0; 64];
    let text = read_at_once("/proc/sys/kernel/random/boot_id", &mut buffer)?;
    let text = String::from_utf8_lossy(text);
    parse_uuid(text.trim()).ok_or_else(|| {
        let found = format!("/proc/sys/kernel/random/boot_id holds {text:?}, not a UUID");
        io::Error::new(io::ErrorKind::InvalidData, found)
    })
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'-').collect();
    let mut id = [0; 16];
    if digits.len() != 2 * id.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// What one read gives of a file: all of it, for files of `/proc` that fit.
pub(super) fn read_at_once<'b>(path: &str, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut file = fs::File::open(path)?;
    let len = loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            len => break len?,
        }
    };
    Ok(&buffer[..len])
}

/// A number of this process that differs in a forked child. Never 0.
///
/// # Panics
///
/// If there is no memory for one page, and nobody called [`prepare`](super::memory::prepare) before.
pub(crate) fn generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let word = WipedWord::Generation.get();
    let word = word.expect("no memory for one page");
    match word.load(Acquire) {
        0 => {
            let new = NEXT.fetch_add(1, Relaxed);
            match word.compare_exchange(0, new, AcqRel, Acquire) {
                Ok(_) => new,
                Err(theirs) => theirs,
            }
        }
        known => known,
    }
}

/// The user whose rights this process acts with.
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Number of the calling thread in its process-id namespace: what futex words hold.
pub(crate) fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_pid().unsigned_abs()
}

/// Runs `f` while no signal handler can run in this thread, but for those of signals that the
/// thread's own instructions raise: a blocked one of these would kill the process.
pub(crate) fn with_signals_blocked<R>(f: impl FnOnce() -> R) -> R {
    let _restore = BlockedSignals::block();
    f()
}

/// Restores the signal mask of the thread when dropped, also while unwinding.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn block() -> BlockedSignals {
        // SAFETY: zeros are a valid `sigset_t`, and both pointers are to local sets. The call
        // cannot fail with these arguments.
        unsafe {
            let (mut all, mut before) = (mem::zeroed(), mem::zeroed());
            libc::sigfillset(&mut all);
            for raised in [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGILL,
                libc::SIGFPE,
                libc::SIGTRAP,
            ] {
                libc::sigdelset(&mut all, raised);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            BlockedSignals { before }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// Fills `bytes` from the kernel's random generator.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // SAFETY: the kernel writes at most `rest.len()` bytes there.
        let filled = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(filled) {
            Ok(filled) => rest = &mut rest[filled..],
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(())
}

/// The directory of named arenas, made if it is not there.
///
/// It is `$XDG_RUNTIME_DIR/sharena` if that variable names an absolute directory of this user on
/// tmpfs, else `/dev/shm/sharena-<user>`. It must be a real directory of this user with mode
/// 0700; anything else, a symbolic link included, is an error.
pub(crate) fn runtime_directory() -> io::Result<PathBuf> {
    let base = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let directory = match base.filter(|base| is_usable_base(base)) {
        Some(base) => base.join("sharena"),
        None => PathBuf::from(format!("/dev/shm/sharena-{}", effective_user())),
    };
    match check_private_directory(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_private_directory(&directory)?;
        }
        found => found?,
    }
    Ok(directory)
}

fn is_usable_base(base: &Path) -> bool {
    let owned = || fs::metadata(base).is_ok_and(|base| base.uid() == effective_user());
    base.is_absolute() && is_tmpfs(base) && owned()
}

pub(super) fn is_tmpfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|system| u64::try_from(system.f_type) == Ok(TMPFS_MAGIC))
}

fn make_private_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(refusal(
                path,
                error.kind(),
                &format!("cannot be made: {error}"),
            ));
        }
    }
    check_private_directory(path)
}

/// Only the owner of the directory or of its parent could change what is seen here, and the
/// parent is this user's own or has the sticky bit.
fn check_private_directory(path: &Path) -> io::Result<()> {
    use io::ErrorKind::{NotADirectory, PermissionDenied};
    let found = fs::symlink_metadata(path)?;
    let mode = found.mode() & 0o777;
    if !found.is_dir() {
        return Err(refusal(
            path,
            NotADirectory,
            "is a link or a file, expected a directory",
        ));
    }
    if found.uid() != effective_user() {
        let owners = format!(
            "belongs to user {}, expected {}",
            found.uid(),
            effective_user()
        );
        return Err(refusal(path, PermissionDenied, &owners));
    }
    if mode != 0o700 {
        let modes = format!("has mode {mode:04o}, expected 0700");
        return Err(refusal(path, PermissionDenied, &modes));
    }
    Ok(())
}

fn refusal(path: &Path, kind: io::ErrorKind, why: &str) -> io::Error {
    io::Error::new(
        kind,
        format!("the runtime directory {} {why}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::{PermissionsExt, symlink},
        process::id,
    };

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = PathBuf::from(format!("/dev/shm/sharena-test-{}-{name}", id()));
        let _ = fs::remove_file(&path);
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn boot_id_is_stable_and_parsed() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(boot_id().unwrap(), [0; 16]);
        let id = parse_uuid("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!((id[0], id[1], id[15]), (0, 0x11, 0xff));
        assert_eq!(parse_uuid("0011"), None);
        assert_eq!(parse_uuid("+0112233-4455-6677-8899-aabbccddeeff"), None);
    }

    #[test]
    fn a_thread_has_its_own_number() {
        let other = std::thread::spawn(thread_id).join().unwrap();
        assert_ne!(thread_id(), other);
    }

    fn blocked(signal: i32) -> bool {
        // SAFETY: reads the mask into a local set.
        unsafe {
            let mut now = mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), &mut now);
            libc::sigismember(&now, signal) == 1
        }
    }

    #[test]
    fn signals_are_blocked_and_restored_also_on_panic() {
        assert!(with_signals_blocked(|| blocked(libc::SIGTERM)));
        assert!(!blocked(libc::SIGTERM));
        let panicked = std::panic::catch_unwind(|| with_signals_blocked(|| panic!("on purpose")));
        assert!(panicked.is_err() && !blocked(libc::SIGTERM));
        with_signals_blocked(|| {
            with_signals_blocked(|| ());
            assert!(blocked(libc::SIGTERM));
        });
    }

    #[test]
    fn random_bytes_differ() {
        let (mut a, mut b) = ([0; 300], [0; 300]);
        random(&mut a).unwrap();
        random(&mut b).unwrap();
        assert_ne!(a, b);
        random(&mut []).unwrap();
    }

    #[test]
    fn private_directories_are_made_once_and_checked() {
        let path = scratch("private");
        make_private_directory(&path).unwrap();
        make_private_directory(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = make_private_directory(&path).unwrap_err();
        assert!(
            error.to_string().contains("mode 0755, expected 0700"),
            "{error}"
        );
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn links_and_files_are_refused() {
        let (path, target) = (scratch("link"), scratch("target"));
        make_private_directory(&target).unwrap();
        symlink(&target, &path).unwrap();
        let error = make_private_directory(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(make_private_directory(&path).is_err());
        fs::remove_file(&path).unwrap();
        fs::remove_dir(&target).unwrap();
        assert!(make_private_directory(&path.join("a/b")).is_err());
    }

    #[test]
    fn foreign_directories_are_refused() {
        if effective_user() == 0 {
            let path = scratch("foreign");
            make_private_directory(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
            let error = make_private_directory(&path).unwrap_err();
            assert!(
                error.to_string().contains("belongs to user 12345"),
                "{error}"
            );
            fs::remove_dir(&path).unwrap();
        }
    }

    #[test]
    fn bases_must_be_absolute_own_and_on_tmpfs() {
        assert!(!is_usable_base(Path::new("dev/shm")));
        assert!(!is_usable_base(Path::new("/proc")));
        assert!(!is_usable_base(Path::new("/nowhere")));
        let path = scratch("base");
        make_private_directory(&path).unwrap();
        assert!(is_usable_base(&path));
        fs::remove_dir(&path).unwrap();
    }

    #[test]
    fn the_runtime_directory_is_private() {
        let path = runtime_directory().unwrap();
        assert!(path.is_absolute());
        check_private_directory(&path).unwrap();
    }
}
