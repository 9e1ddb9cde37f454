//! Arenas without a name are handed to other processes; pages as one wishes.

mod common;

use common::{Forked, await_stage, reach};
use sharena::{Access, Arena, Error, Share, collections::Vec, sync::Mutex};
use std::{
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::Command,
    sync::atomic::AtomicU32,
};

/// Set in a process that was started with an inherited arena: its descriptor's number.
const INHERITED: &str = "SHARENA_TEST_INHERITED";

#[derive(Share, Default)]
#[repr(C)]
struct World {
    numbers: Mutex<Vec<u64>>,
    stage: AtomicU32,
}

#[test]
fn sent_through_a_socket() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    // The child is made before the arena, so that it knows nothing of it.
    let child = Forked::run(|| {
        // SAFETY: the sender is this test.
        let arena = unsafe { Arena::receive_from(&theirs) }.unwrap();
        let world = arena.find::<World>("world").unwrap();
        world.numbers.lock().unwrap().push(2).unwrap();
        reach(&world.stage, 1);
        0
    });
    let arena = Arena::anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    world.numbers.lock().unwrap().push(1).unwrap();
    arena.send_to(&ours).unwrap();
    await_stage(&world.stage, 1);
    child.succeed();
    assert_eq!(*world.numbers.lock().unwrap(), [1, 2]);
    let in_memory = Arena::in_memory().unwrap();
    assert!(matches!(in_memory.send_to(&ours), Err(Error::Os { .. })));
}

#[test]
fn heir() {
    let Ok(number) = std::env::var(INHERITED) else {
        return;
    };
    // SAFETY: the parent says that this is the arena's descriptor, which nobody else here has.
    let fd = unsafe { OwnedFd::from_raw_fd(number.parse().unwrap()) };
    // SAFETY: the parent is this test.
    let arena = unsafe { Arena::from_fd(fd) }.unwrap();
    let world = arena.find::<World>("world").unwrap();
    assert_eq!(*world.numbers.lock().unwrap(), [1]);
    world.numbers.lock().unwrap().push(2).unwrap();
}

#[test]
fn inherited_by_another_program() {
    let arena = Arena::anonymous().unwrap();
    let world = arena.root::<World>("world").unwrap();
    world.numbers.lock().unwrap().push(1).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let number = arena.inherit(&mut command).unwrap();
    command
        .args(["heir", "--exact"])
        .env(INHERITED, number.to_string());
    assert!(command.output().unwrap().status.success());
    assert_eq!(*world.numbers.lock().unwrap(), [1, 2]);
    // One that was not told so has not got it.
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["heir", "--exact"])
        .env(INHERITED, number.to_string());
    assert!(!command.output().unwrap().status.success());
}

#[test]
fn pages_at_once_and_huge() {
    let mut options = Arena::options();
    options
        .max_size(64 << 20)
        .initial_size(8 << 20)
        .populate(true)
        .huge_pages(true);
    let arena = options.anonymous().unwrap();
    assert!(arena.stats().committed >= 8 << 20);
    let root = arena.root::<World>("world").unwrap();
    root.numbers.lock().unwrap().try_extend(0..100_000).unwrap();
    assert_eq!(
        root.numbers.lock().unwrap().iter().sum::<u64>(),
        4_999_950_000
    );
}

#[test]
fn one_mapping_for_each_way_of_access() {
    let path = std::path::PathBuf::from(format!("/dev/shm/sharena-access-{}", std::process::id()));
    // SAFETY: only this test uses the file.
    let open = |access| unsafe { Arena::options().access(access).open(&path) };
    // SAFETY: as above.
    let arena = unsafe { Arena::create(&path) }.unwrap();
    let root = arena.root::<Mutex<u64>>("number").unwrap();
    *root.lock().unwrap() = 5;
    root.freeze().unwrap();
    let reader = open(Access::ReadOnly).unwrap();
    assert_ne!(reader.base(), arena.base());
    assert_eq!(reader.base(), open(Access::ReadOnly).unwrap().base());
    assert!(matches!(open(Access::CopyOnWrite), Err(Error::Twin { .. })));
    assert_eq!(
        *reader
            .find::<Mutex<u64>>("number")
            .unwrap()
            .frozen()
            .unwrap(),
        5
    );
    drop((root, arena, reader));
    let copy = open(Access::CopyOnWrite).unwrap();
    let mut frozen = copy
        .find::<Mutex<u64>>("number")
        .unwrap()
        .into_frozen()
        .unwrap();
    // SAFETY: there is no other reference to it.
    *unsafe { frozen.make_mut() }.unwrap() = 6;
    assert_eq!(*frozen, 6);
    drop((frozen, copy));
    let arena = open(Access::ReadWrite).unwrap();
    assert_eq!(
        *arena
            .find::<Mutex<u64>>("number")
            .unwrap()
            .frozen()
            .unwrap(),
        5
    );
    std::fs::remove_file(&path).unwrap();
}
