//! Sharena and what its users would pick instead, behind the same few operations.

pub(crate) mod boost;
pub(crate) mod heaps;
pub(crate) mod maps;
pub(crate) mod same_hash;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Where files of rivals lie: on tmpfs, as arenas do.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from("/dev/shm")
}

/// A name that nobody else has.
pub(crate) fn name(purpose: &str) -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Relaxed);
    format!("sharena-bench-{purpose}-{}-{serial}", std::process::id())
}
