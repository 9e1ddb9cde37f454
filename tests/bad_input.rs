//! Bad input gives an error of its own, which says what was expected and what was found.

mod common;

use common::Scratch;
use sharena::{Access, Arena, Error, Options, sync::Mutex};
use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

/// A small arena with a root in it, closed again.
fn arena(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.path(name);
    let arena = create(&path).unwrap();
    *arena.root::<Mutex<u64>>("root").unwrap().lock().unwrap() = 42;
    path
}

fn small() -> Options {
    let mut options = Arena::options();
    options.max_size(1 << 20).slots(8);
    options
}

fn create(path: &Path) -> Result<Arena, Error> {
    // SAFETY: only the tests here use the file, one at a time.
    unsafe { small().create(path) }
}

fn open(path: &Path) -> Result<Arena, Error> {
    // SAFETY: what is wrong with the files is what the tests are about.
    unsafe { Arena::open(path) }
}

macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            Err(other) => panic!("another error: {other:?}"),
            Ok(_) => panic!("no error"),
        }
    };
}

/// Overwrites bytes of a file.
fn patch(path: &Path, at: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

#[test]
fn what_is_no_file() {
    let scratch = Scratch::new("no-file");
    assert_error!(open(&scratch.path("missing")), Error::Missing { .. });
    assert_error!(
        open(&scratch.0),
        Error::NotAFile {
            found: "a directory",
            ..
        }
    );
    let pipe = scratch.path("pipe");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: a valid path.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert_error!(open(&pipe), Error::NotAFile { .. });
    let socket = scratch.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_error!(open(&socket), Error::NotAFile { .. });
    let target = arena(&scratch, "target");
    symlink(&target, scratch.path("link")).unwrap();
    assert_error!(
        open(&scratch.path("link")),
        Error::NotAFile {
            found: "a symbolic link",
            ..
        }
    );
}

#[test]
fn truncated_at_every_byte_of_the_header_and_beyond() {
    let scratch = Scratch::new("truncated");
    let path = arena(&scratch, "arena");
    let whole = fs::read(&path).unwrap();
    let cut = scratch.path("cut");
    let lengths = (0..4096).chain((4096..whole.len()).step_by(4096));
    for length in lengths {
        fs::write(&cut, &whole[..length]).unwrap();
        fs::set_permissions(&cut, fs::Permissions::from_mode(0o600)).unwrap();
        assert_error!(
            open(&cut),
            Error::Truncated { found, expected } if found == length as u64 && expected > found
        );
    }
}

#[test]
fn headers_of_something_else() {
    let scratch = Scratch::new("headers");
    let path = arena(&scratch, "arena");
    let whole = fs::read(&path).unwrap();
    let try_with = |at: u64, bytes: &[u8]| {
        fs::write(&path, &whole).unwrap();
        patch(&path, at, bytes);
        open(&path)
    };
    assert_error!(
        try_with(0, b"SQLite f"),
        Error::ForeignMagic { found } if &found == b"SQLite f"
    );
    assert_error!(
        try_with(8, &2u32.to_le_bytes()),
        Error::Version {
            expected: 1,
            found: 2
        }
    );
    assert_error!(
        try_with(12, &0x0102_0304u32.to_be_bytes()),
        Error::Endianness
    );
    assert_error!(
        try_with(16, &32u32.to_le_bytes()),
        Error::PointerWidth {
            expected: 64,
            found: 32
        }
    );
    assert_error!(
        try_with(20, &65536u32.to_le_bytes()),
        Error::PageSize { found: 65536, .. }
    );
    assert_error!(
        try_with(24, &4u64.to_le_bytes()),
        Error::Features { unknown: 4 }
    );
    assert_error!(try_with(32, &[1; 8]), Error::Fingerprint { .. });
    assert_error!(try_with(40, &[0; 8]), Error::Damaged { .. });
    for (at, value) in [
        (56, 4096u64),
        (56, u64::MAX),
        (64, 99),
        (68, 1),
        (104, 0),
        (104, 1 << 40),
    ] {
        let bytes = value.to_le_bytes();
        let bytes = if at == 64 || at == 68 {
            &bytes[..4]
        } else {
            &bytes
        };
        match try_with(at, bytes) {
            Err(Error::Damaged { .. } | Error::Truncated { .. }) => {}
            other => panic!("{at}: {value}: {other:?}"),
        }
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(
        *open(&path)
            .unwrap()
            .find::<Mutex<u64>>("root")
            .unwrap()
            .lock()
            .unwrap(),
        42
    );
}

#[test]
fn foreign_owners_and_writers() {
    let scratch = Scratch::new("owners");
    let path = arena(&scratch, "arena");
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_error!(open(&path), Error::WritableByOthers { mode: found } if found == mode);
        // SAFETY: nobody else is there.
        let trusting = unsafe { small().allow_foreign_writers(true).open(&path) };
        assert!(trusting.is_ok());
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    if std::os::unix::fs::chown(&path, Some(12345), None).is_err() {
        eprintln!("not root: the owner cannot be changed");
        return;
    }
    assert_error!(open(&path), Error::WrongOwner { found: 12345, .. });
    // SAFETY: nobody else is there.
    let trusting = unsafe { small().allow_foreign_writers(true).open(&path) };
    assert!(trusting.is_ok());
}

#[test]
fn existing_files_and_modes() {
    let scratch = Scratch::new("existing");
    let path = arena(&scratch, "arena");
    assert_error!(create(&path), Error::Exists { .. });
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let path = scratch.path("shared");
    // SAFETY: nobody else is there.
    let arena = unsafe { small().mode(0o640).create(&path) }.unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    drop(arena);
    assert_error!(
        create(&scratch.path("no such directory/arena")),
        Error::Os { .. }
    );
    assert_eq!(
        fs::read_dir(&scratch.0).unwrap().count(),
        2,
        "something was left over"
    );
}

#[test]
fn names() {
    for name in ["", "a/b", "..", ".hidden", "zero\0byte", &"x".repeat(201)] {
        assert_error!(Arena::named(name), Error::BadName { .. });
    }
    let arena = small().in_memory().unwrap();
    assert_error!(arena.root::<Mutex<u64>>(""), Error::BadName { .. });
    assert_error!(
        arena.root::<Mutex<u64>>(&"x".repeat(256)),
        Error::BadName { .. }
    );
    arena.root::<Mutex<u64>>(&"x".repeat(255)).unwrap();
    assert_error!(
        arena.find::<Mutex<u64>>("unknown"),
        Error::UnknownRoot { name } if name == "unknown"
    );
    assert_error!(arena.remove("unknown"), Error::UnknownRoot { .. });
}

#[test]
fn other_types() {
    let arena = small().in_memory().unwrap();
    arena.root::<Mutex<u64>>("number").unwrap();
    match arena.root::<Mutex<[u32; 3]>>("number") {
        Err(Error::TypeMismatch {
            name,
            expected,
            found,
        }) => {
            assert_eq!(name, "number");
            assert!(expected.contains("u32"), "{expected}");
            assert!(found.contains("u64"), "{found}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn options() {
    let too_small = Arena::options().max_size(4096).in_memory();
    assert_error!(
        too_small,
        Error::BadOption {
            option: "max_size",
            ..
        }
    );
    let too_much = Arena::options()
        .max_size(1 << 20)
        .initial_size(1 << 21)
        .in_memory();
    assert_error!(
        too_much,
        Error::BadOption {
            option: "initial_size",
            ..
        }
    );
    let read_only = Arena::options().access(Access::ReadOnly).anonymous();
    assert_error!(
        read_only,
        Error::BadOption {
            option: "access",
            ..
        }
    );
    let one_slot = Arena::options().max_size(1 << 20).slots(1).in_memory();
    assert_error!(one_slot, Error::BadOption { .. });
}

#[test]
fn exhausted_slots() {
    let arena = Arena::options()
        .max_size(1 << 20)
        .slots(3)
        .anonymous()
        .unwrap();
    let root = arena.root::<Mutex<u64>>("root").unwrap();
    let barrier = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            *root.lock().unwrap() += 1;
            barrier.wait();
            barrier.wait();
        });
        barrier.wait();
        // The reserved slot, this thread's and the other's: no more.
        scope
            .spawn(|| assert_error!(root.lock(), Error::NoSlots { slots: 2 }))
            .join()
            .unwrap();
        barrier.wait();
        // Its slot is free when the thread has really ended.
        first.join().unwrap();
    });
    std::thread::scope(|scope| {
        let late = scope.spawn(|| *root.lock().unwrap() += 1);
        late.join().expect("a slot is free again");
    });
}

#[test]
fn exhausted_arena() {
    let arena = small().in_memory().unwrap();
    let layout = std::alloc::Layout::from_size_align(1000, 8).unwrap();
    let mut blocks = Vec::new();
    let error = loop {
        match arena.alloc(layout) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(
            error,
            Error::Full {
                maximum: 1_048_576,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(blocks.len() > 500, "{}", blocks.len());
    let many = blocks.len();
    blocks.clear();
    while let Ok(block) = arena.alloc(layout) {
        blocks.push(block);
    }
    assert_eq!(blocks.len(), many, "what was freed can be had again");
    let huge = std::alloc::Layout::from_size_align(1 << 40, 8).unwrap();
    assert_error!(arena.alloc(huge), Error::Full { .. });
    let strict = std::alloc::Layout::from_size_align(8, 1 << 20).unwrap();
    assert_error!(arena.alloc(strict), Error::Layout { .. });
}

#[test]
fn foreign_and_double_frees() {
    let arena = small().in_memory().unwrap();
    let pointer = arena.alloc_value(1u64).unwrap().into_raw().unwrap();
    let inside = sharena::RelPtr::<u8>::from_offset(pointer.offset() + 4).unwrap();
    let front = sharena::RelPtr::<u8>::from_offset(64).unwrap();
    let beyond = sharena::RelPtr::<u8>::from_offset(1 << 30).unwrap();
    for foreign in [inside, front, beyond] {
        // SAFETY: nobody uses what is there; the call is refused.
        let freed = unsafe { arena.dealloc(foreign) };
        assert_error!(freed, Error::ForeignPointer { .. });
    }
    // SAFETY: allocated above, and used by nobody.
    unsafe { arena.dealloc(pointer).unwrap() };
    // SAFETY: refused.
    assert_error!(unsafe { arena.dealloc(pointer) }, Error::DoubleFree { .. });
    assert_error!(beyond.resolve(&arena), Error::BadPointer { .. });
    assert_error!(
        inside.cast::<u64>().resolve(&arena),
        Error::BadPointer { .. }
    );
}

#[test]
fn copies() {
    let scratch = Scratch::new("copies");
    let path = arena(&scratch, "arena");
    let copy = scratch.path("copy");
    let original = open(&path).unwrap();
    assert_eq!(
        open(&path).unwrap().base(),
        original.base(),
        "two mappings of one file"
    );
    fs::copy(&path, &copy).unwrap();
    assert_error!(open(&copy), Error::Twin { .. });
    // Alone, a copy is an arena of its own; whoever lived in the original is dead in it.
    let root = original.find::<Mutex<u64>>("root").unwrap();
    let guard = root.lock().unwrap();
    fs::copy(&path, &copy).unwrap();
    drop(guard);
    drop(root);
    drop(original);
    let copied = open(&copy).unwrap();
    assert_eq!(
        *copied.find::<Mutex<u64>>("root").unwrap().lock().unwrap(),
        42
    );
    assert!(copied.check().is_ok(), "{}", copied.check());
}

/// Written in another boot, or on another tmpfs.
#[test]
fn another_life() {
    let scratch = Scratch::new("life");
    for (name, life) in [
        ("boot", [7; 16]),
        (
            "tmpfs",
            [7, 0].map(|byte| [byte; 8]).concat().try_into().unwrap(),
        ),
    ] {
        let path = arena(&scratch, name);
        let before = fs::read(&path).unwrap()[72..88].to_vec();
        patch(&path, 72, &life);
        let arena = open(&path).unwrap();
        assert_eq!(
            *arena.find::<Mutex<u64>>("root").unwrap().lock().unwrap(),
            42
        );
        assert_eq!(arena.stats().slots_attached, 1);
        assert_eq!(fs::read(&path).unwrap()[72..88], before, "{name}");
    }
}

#[test]
fn a_full_file_system() {
    let scratch = Scratch::new("full");
    let place = scratch.path("tmpfs");
    fs::create_dir(&place).unwrap();
    let c = |text: &str| std::ffi::CString::new(text).unwrap();
    let (kind, options) = (c("tmpfs"), c("size=1m"));
    let target = c(place.to_str().unwrap());
    // SAFETY: valid strings; mounts a file system of our own.
    let mounted = unsafe {
        libc::mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            options.as_ptr().cast(),
        )
    };
    if mounted != 0 {
        eprintln!("not root: no small file system can be mounted");
        return;
    }
    {
        // SAFETY: nobody else is there.
        let arena = unsafe { Arena::options().slots(8).create(place.join("arena")) }.unwrap();
        let layout = std::alloc::Layout::from_size_align(2000, 8).unwrap();
        let mut blocks = Vec::new();
        let error = loop {
            match arena.alloc(layout) {
                // SAFETY: a block of 2000 bytes; each byte is touched, so that a page that is not
                // there would be seen.
                Ok(block) => unsafe {
                    block.as_ptr().write_bytes(7, 2000);
                    blocks.push(block);
                },
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
        assert!(blocks.len() > 100, "{}", blocks.len());
        blocks.truncate(50);
        for _ in 0..50 {
            blocks.push(arena.alloc(layout).unwrap());
        }
        drop(blocks);
        assert!(arena.check().is_ok(), "{}", arena.check());
        // SAFETY: nobody else is there.
        let second = unsafe { Arena::options().create(place.join("second")) };
        assert_error!(second, Error::NoSpace { .. });
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
    }
    // SAFETY: mounted above.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
}

#[test]
fn little_address_space() {
    // SAFETY: the child only creates arenas and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let limited = |bytes: u64| {
            let limit = libc::rlimit {
                rlim_cur: bytes,
                rlim_max: libc::RLIM_INFINITY,
            };
            // SAFETY: a valid limit.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
        };
        // What other tests have mapped at the moment was inherited.
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = statm
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        limited(pages * 4096 + (4 << 30));
        let halved = Arena::anonymous().is_ok_and(|arena| {
            let reserved = arena.stats().reserved;
            (1 << 28..=4 << 30).contains(&reserved)
        });
        limited(1 << 20);
        let refused = matches!(Arena::anonymous(), Err(Error::NoAddressSpace { .. }));
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!halved) | i32::from(!refused) << 1) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0, "bit 8: not halved, bit 9: not refused");
}

#[test]
fn descriptors_and_pages() {
    let arena = Arena::anonymous().unwrap();
    // SAFETY: the file is only looked at, and not made shorter, which is refused.
    unsafe {
        use std::os::fd::AsRawFd;
        let fd = arena.as_fd().unwrap().as_raw_fd();
        assert_ne!(libc::fcntl(fd, libc::F_GETFD) & libc::FD_CLOEXEC, 0);
        assert_ne!(libc::fcntl(fd, libc::F_GET_SEALS) & libc::F_SEAL_SHRINK, 0);
        assert_eq!(libc::ftruncate(fd, 0), -1);
    }
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let start = format!("{:x}-", arena.base().addr());
    let flags = maps
        .split_once(&start)
        .and_then(|(_, rest)| rest.split_once("VmFlags:"))
        .map(|(_, rest)| rest.lines().next().unwrap_or_default())
        .unwrap();
    assert!(flags.split(' ').any(|flag| flag == "dd"), "dumped: {flags}");
}
