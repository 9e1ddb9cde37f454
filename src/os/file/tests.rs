//! Files as they should be, as they should not, and those of others.

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

#[test]
fn a_tmpfs_has_a_number_of_its_own() {
    let [shared, other] = scratches();
    let number = |file: &File| tmpfs_number(file).unwrap();
    let in_it = |scratch: &Scratch, name| File::create(scratch.path(name)).unwrap();
    let first = number(&in_it(&shared, "first"));
    assert_eq!(number(&in_it(&shared, "second")), first);
    let memory = memfd("sharena-test").unwrap();
    // Since Linux 5.13.
    if first.is_some() {
        assert_ne!(number(&memory), first);
    }
    if !process::is_tmpfs(&other.0) {
        assert_eq!(number(&in_it(&other, "first")), None);
    }
}
