//! What happens where memory ends: odd sizes, the rest of the last page, and after unmapping.
//!
//! ```sh
//! cargo run --example page_edges
//! ```
//!
//! Processors map memory in pages, mostly of 4096 bytes. A file can have any length. First the bare
//! `mmap`, to see what the kernel does with the difference; then what sharena makes of it.

mod processes;

use memmap2::{MmapMut, MmapOptions};
use processes::Result;
use sharena::{Arena, Error, RelPtr, sync::Mutex};
use std::{fs, fs::File, io, path::Path, process::ExitCode, ptr};

fn main() -> ExitCode {
    processes::run(|_| play())
}

fn play() -> Result {
    let folder = Folder::new()?;
    the_bare_mapping(&folder.0.join("bare"))?;
    odd_sizes(&folder.0.join("odd.arena"))?;
    after_unmapping()?;
    println!("ok: nothing of this can go wrong in safe code");
    Ok(())
}

/// A file of 5000 bytes, mapped as two pages and a third one.
fn the_bare_mapping(path: &Path) -> Result {
    let page = page_size()?;
    let length = page + 904;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    file.set_len(length as u64)?;
    // SAFETY: nobody else knows the file.
    let mut map: MmapMut = unsafe { MmapOptions::new().len(3 * page).map_mut(&file)? };

    // The last page is there as a whole. What lies behind the file's end is zero; it can even be
    // written, but never becomes part of the file.
    if map[length..2 * page].iter().any(|&byte| byte != 0) {
        return Err("the rest of the last page is not zero".into());
    }
    map[length] = 1;
    println!(
        "a file of {length} bytes: the rest of its last page, up to {}, is zero",
        2 * page
    );

    // The page behind it has addresses, but nothing is there.
    let signal = signal_of_reading(&map[2 * page])?;
    println!(
        "reading the page behind that: killed by signal {signal} (SIGBUS is {})",
        libc::SIGBUS
    );
    if signal != libc::SIGBUS {
        return Err("expected SIGBUS".into());
    }
    drop(map);
    Ok(())
}

/// An arena whose sizes are no multiples of anything.
fn odd_sizes(path: &Path) -> Result {
    let page = page_size()? as u64;
    // SAFETY: nobody else knows the file.
    let arena = unsafe {
        Arena::options()
            .max_size(777_777)
            .initial_size(5_000)
            .create(path)?
    };
    let stats = arena.stats();
    let length = fs::metadata(path)?.len();
    println!("asked for 5000 bytes of at most 777777");
    println!(
        "got {} of at most {}, in a file of {length}",
        stats.committed, stats.reserved
    );
    // What is handed out lies in whole pages of the file, below the maximum: there is no rest of a
    // page that is in the mapping but not in the file, and no page behind it, so no SIGBUS either.
    if stats.reserved != 777_777 || length > stats.reserved || length % page != 0 {
        return Err("expected whole pages, below the maximum".into());
    }

    // A relative pointer is checked against what has memory behind it, each time it is resolved.
    arena.resolve(offset(length - 8)?)?;
    println!("the last 8 bytes, at {}, can be had", length - 8);
    for bad in [length - 4, length, stats.reserved, u64::MAX - 7, 8, 0] {
        let refused = offset(bad).and_then(|pointer| arena.resolve(pointer));
        match refused {
            Err(error @ Error::BadPointer { .. }) => println!("  refused: {error}"),
            Err(Error::Other(null)) => println!("  refused: offset {bad}: {null}"),
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(format!("offset {bad} was not refused").into()),
        }
    }

    // The file is cut short behind everybody's back (for an arena that is in use, whoever opens it
    // by path promises that this does not happen). Who opens it next is told so.
    drop(arena);
    File::options()
        .write(true)
        .open(path)?
        .set_len(length - 1)?;
    // SAFETY: as above.
    match unsafe { Arena::open(path) } {
        Err(error @ Error::Truncated { .. }) => println!("  refused: {error}"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("a file that is too short was opened".into()),
    }
    Ok(())
}

fn offset(offset: u64) -> sharena::Result<RelPtr<u64>> {
    RelPtr::from_offset(offset).ok_or_else(|| "it is null".into())
}

/// Using memory after it was unmapped does not compile:
///
/// ```text
/// let root = arena.root::<Mutex<u64>>("count")?;
/// let guard = root.lock()?;
/// drop(root);             // error[E0505]: cannot move out of `root` because it is borrowed
/// println!("{}", *guard);
/// ```
///
/// Every reference into an arena borrows from a guard or a handle, and a handle keeps the arena
/// mapped. So there is no order of dropping things in which something is left hanging.
fn after_unmapping() -> Result {
    let arena = Arena::anonymous()?;
    let base = arena.base().addr();
    let root = arena.root::<Mutex<u64>>("count")?;
    drop(arena);
    // The root is a handle too.
    *root.lock()? = 1;
    let mapped = is_mapped(base)?;
    drop(root);
    let still_mapped = is_mapped(base)?;
    println!("mapped with one handle left: {mapped}; with none: {still_mapped}");
    match (mapped, still_mapped) {
        (true, false) => Ok(()),
        _ => Err("expected true and false".into()),
    }
}

fn is_mapped(base: usize) -> Result<bool> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let base = format!("{base:x}-");
    Ok(maps.lines().any(|line| line.starts_with(&base)))
}

/// Reads a byte in a child process, which may crash, and says by which signal.
fn signal_of_reading(byte: *const u8) -> Result<i32> {
    // SAFETY: the process has one thread, and the child only reads, and ends without cleaning up.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let no_core_file = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the byte is in the mapping; that nothing is behind it is what is tried here.
        unsafe {
            libc::setrlimit(libc::RLIMIT_CORE, &no_core_file);
            ptr::read_volatile(byte);
            libc::_exit(0);
        }
    }
    let mut status = 0;
    // SAFETY: a child of this process, and a place for the answer.
    if child < 0 || unsafe { libc::waitpid(child, &mut status, 0) } != child {
        return Err(io::Error::last_os_error().into());
    }
    match libc::WIFSIGNALED(status) {
        true => Ok(libc::WTERMSIG(status)),
        false => Err("the child could read where nothing is".into()),
    }
}

fn page_size() -> Result<usize> {
    // SAFETY: takes a number only.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(usize::try_from(size)?)
}

/// A folder for the files of this run, removed with them when it is dropped.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let name = format!("page_edges-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Folder(path)),
            Err(error) => {
                Err(format!("could not make the folder {}: {error}", path.display()).into())
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
