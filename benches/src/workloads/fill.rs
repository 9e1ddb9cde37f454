//! Filling fresh memory.

use super::arena;
use crate::{
    measure::{Bar, Contest, OURS, Row, per_operation},
    rivals::{folder, name},
    settings::Settings,
    table::Report,
};
use sharena::{collections, sync::Mutex};
use std::{fs::File, os::fd::AsRawFd, ptr};

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    let bytes: usize = if settings.quick { 512 << 20 } else { 4 << 30 };
    let name = format!("fill {} MiB by pushes", bytes >> 20);
    if !settings.wants(&[&name]) {
        return;
    }
    report
        .title("fill: numbers into an arena that grows; the rival writes them to a file on tmpfs");
    let row = Row::new(name, &[Bar::Times("tmpfs", 1.3)]);
    let mut contest = Contest::new(settings, vec![row]).rounds(3).cold();
    let count = bytes / 8;
    contest.entrant(OURS, || vec![push(count)]);
    contest.entrant("tmpfs", || vec![write(count)]);
    contest.run(report);
}

fn push(count: usize) -> f64 {
    let arena = arena();
    let vec = arena.root::<Mutex<collections::Vec<u64>>>("numbers");
    let vec = vec.expect("there is room");
    per_operation(count, || {
        let mut guard = vec.lock().expect("free");
        // Once: each time a guard is dereferenced mutably, it asks whether its value is recorded.
        let vec = &mut *guard;
        for number in 0..count as u64 {
            vec.push(number).expect("there is room");
        }
    })
}

/// Writes numbers to a new file through a mapping of the right size.
fn write(count: usize) -> f64 {
    let path = folder().join(name("fill"));
    let file =
        File::create_new(&path).and_then(|_| File::options().read(true).write(true).open(&path));
    let file = file.expect("a file can be created");
    std::fs::remove_file(&path).expect("it was just created");
    let bytes = count * 8;
    file.set_len(bytes as u64).expect("no memory is used yet");
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of a file that nobody else has.
    let numbers: *mut u64 = unsafe {
        let (shared, file) = (libc::MAP_SHARED, file.as_raw_fd());
        libc::mmap(ptr::null_mut(), bytes, protection, shared, file, 0).cast()
    };
    assert_ne!(numbers.cast(), libc::MAP_FAILED, "it can be mapped");
    let time = per_operation(count, || {
        for number in 0..count {
            // SAFETY: inside the mapping; volatile, so that it is written number by number.
            unsafe { numbers.add(number).write_volatile(number as u64) };
        }
    });
    // SAFETY: nobody uses it any more.
    unsafe { libc::munmap(numbers.cast(), bytes) };
    time
}
