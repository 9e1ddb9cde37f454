use sharena::{Arena, sync::Mutex};
#[test]
fn in_memory_root() {
    let arena = Arena::in_memory().unwrap();
    let root = arena.root::<Mutex<u64>>("n").unwrap();
    *root.lock().unwrap() += 1;
    assert_eq!(*root.lock().unwrap(), 1);
    let again = arena.root::<Mutex<u64>>("n").unwrap();
    assert_eq!(*again.lock().unwrap(), 1);
    assert!(arena.root::<Mutex<i64>>("n").is_err());
}
#[test]
fn killed_holder_is_undone() {
    let arena = Arena::anonymous().unwrap();
    let root = arena.root::<Mutex<u64>>("n").unwrap();
    *root.lock().unwrap() = 7;
    for _ in 0..20 {
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let mut g = root.lock().unwrap();
            *g = 99;
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        let t = std::time::Instant::now();
        while *root.lock().unwrap() != 7
            || unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } == 0
        {}
        eprintln!("{:?}", t.elapsed());
        assert_eq!(*root.lock().unwrap(), 7);
    }
    let b = arena
        .alloc(std::alloc::Layout::from_size_align(100_000, 8).unwrap())
        .unwrap();
    let p = b.into_raw().unwrap();
    unsafe { arena.dealloc(p).unwrap() };
    assert!(unsafe { arena.dealloc(p) }.is_err());
    let v = arena.alloc_value(5u64).unwrap().into_raw().unwrap();
    assert_eq!(unsafe { *v.resolve(&arena).unwrap() }, 5);
}
#[test]
fn named() {
    let name = format!("smoke-{}", std::process::id());
    let a = Arena::named(&name).unwrap();
    a.root::<Mutex<u64>>("x").unwrap();
    let b = Arena::named(&name).unwrap();
    assert_eq!(a.base(), b.base());
    println!("{:?}", a.roots().unwrap());
    a.remove("x").unwrap();
    assert!(a.roots().unwrap().is_empty());
    Arena::unlink_named(&name).unwrap();
}
