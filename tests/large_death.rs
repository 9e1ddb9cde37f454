//! The death of a process that owned much: all of it comes back. How long that takes is printed.

mod common;

use common::{Forked, await_stage, reach};
use sharena::{Arena, Result};
use std::{alloc::Layout, sync::atomic::AtomicU32, time::Instant};

/// What the process owns: 10,000 slabs of 64 KiB and more.
const OWNED: u64 = 1 << 30;

fn large() -> Arena {
    Arena::options().max_size(2 << 30).anonymous().unwrap()
}

/// A word that forked children share, in no arena: who uses one has a slot in it.
fn shared_word() -> &'static AtomicU32 {
    let (access, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, kind, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: a page of zeros that is never unmapped.
    unsafe { &*page.cast() }
}

/// Lets a child own much, kills it, and asserts that nothing of it is left.
fn kill_who(what: &str, own: impl FnOnce(&Arena, &AtomicU32) -> Result) {
    let arena = large();
    let stage = shared_word();
    let before = arena.stats();
    let mut owner = Forked::run(|| i32::from(own(&arena, stage).is_err()));
    await_stage(stage, 1);
    let then = arena.stats();
    assert!(then.used + then.cached >= before.used + OWNED, "{then:?}");
    owner.kill();
    let began = Instant::now();
    arena.reap().unwrap();
    let time = began.elapsed();
    let after = arena.stats();
    println!("{what}: recovered in {time:.2?}");
    assert_eq!(
        (after.slots_attached, after.used, after.cached),
        (before.slots_attached, before.used, before.cached)
    );
    assert!(arena.check().is_clean(), "{}", arena.check());
}

/// Takes blocks of a size until they are so many bytes, and keeps them.
fn take(arena: &Arena, size: usize, keep: impl Fn(sharena::Reserved<u8>) -> Result) -> Result {
    let layout = Layout::from_size_align(size, 8).expect("a sane size");
    (0..OWNED / size as u64).try_for_each(|_| keep(arena.alloc(layout)?))
}

fn wait_for_the_end(stage: &AtomicU32) {
    reach(stage, 1);
    loop {
        std::thread::sleep(common::PATIENCE);
    }
}

fn unpublished(size: usize) {
    kill_who(&format!("blocks of {size} bytes"), |arena, stage| {
        take(arena, size, |block| {
            std::mem::forget(block);
            Ok(())
        })?;
        wait_for_the_end(stage);
        Ok(())
    });
}

fn published(size: usize) {
    let what = format!("blocks of {size} bytes, in a section");
    kill_who(&what, |arena, stage| {
        arena.section(|| {
            take(arena, size, |block| block.into_raw().map(drop))?;
            wait_for_the_end(stage);
            Ok(())
        })
    });
}

/// One at a time: each arena takes a GiB.
#[test]
fn the_death_of_a_large_owner() {
    for size in [512, 8192, 60_000] {
        unpublished(size);
    }
    for size in [8192, 60_000, 1 << 30] {
        published(size);
    }
}
