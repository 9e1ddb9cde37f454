//! The only room that knows the kernel: files, memory advice, futexes, the life word, processes.
//!
//! Everything above asks this room for what it needs and never makes a system call itself. Each
//! file is one subject and depends on nothing of the crate outside this folder:
//!
//! * [`file`]: opening, creating, growing, locking and passing on the file that holds an arena;
//! * [`memory`]: advice on mapped pages, wipe-on-fork pages, barriers across processes;
//! * [`futex`]: sleeping and waking on words that several processes map;
//! * [`life`]: the word that the kernel marks when a thread dies;
//! * [`process`]: who and where this process is;
//! * [`incarnation`]: which of all that have its number a process is;
//! * [`exit`]: what runs when a thread or the process ends in order.
//!
//! Errors are those of the kernel, as `std::io::Error`; the callers say what was being tried.

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64"),
)))]
compile_error!(
    "sharena needs 64-bit little-endian Linux on x86-64 or aarch64: it relies on robust futexes, \
     open-file-description locks and wipe-on-fork pages, and its format fixes the byte order"
);

pub(crate) mod exit;
pub(crate) mod file;
pub(crate) mod futex;
pub(crate) mod incarnation;
pub(crate) mod life;
pub(crate) mod memory;
pub(crate) mod process;

#[cfg(test)]
pub(crate) mod testing;
