//! Can a process follow a pointer that another one stored in shared memory? A raw one: no. A
//! relative one: yes.
//!
//! ```sh
//! cargo run --example pointer
//! ```
//!
//! Process A stores a value in an arena, and beside it the value's address. Process B maps the same
//! arena, elsewhere: the address means nothing there. What means the same everywhere is how far the
//! value lies from the begin of the arena, and that is what a [`RelPtr`] holds.
//!
//! This is for those who build structures of their own. The containers of `sharena::collections`
//! have such pointers inside, and are used without any.

mod processes;

use memmap2::MmapOptions;
use processes::{Name, Process, Result, argument};
use sharena::{Arena, RelPtr, Share, sync::Mutex};
use std::{io, process::ExitCode, ptr};

/// The size of the mappings.
const SIZE: usize = 64 << 20;

const SECRET: u64 = 0x5ec2e7;

/// What A leaves for B.
#[derive(Share, Default)]
#[repr(C)]
struct Letter {
    /// An address of A. A field `*const u64` would not compile: a raw pointer is not `Share`. So the
    /// mistake must be disguised as a number.
    address: u64,
    /// Stored as 8 bytes, of which 0 is `None`.
    pointer: Option<RelPtr<u64>>,
}

fn main() -> ExitCode {
    processes::run(|part| match part {
        None => a(),
        Some("process B") => b(),
        Some(other) => processes::unknown_part(other),
    })
}

fn a() -> Result {
    let name = Name::new("pointer");
    let arena = Arena::options()
        .max_size(SIZE as u64)
        .named(name.as_str())?;
    println!("A has the arena at {:p}", arena.base());

    let letter = arena.root::<Mutex<Letter>>("letter")?;
    let mut guard = letter.lock()?;
    // A block that belongs to nobody yet, and would be freed if nothing else happened to it.
    let block = arena.alloc_value(SECRET)?;
    guard.address = block.as_ptr().addr() as u64;
    // Now the letter owns it: the block is given out and the pointer stored, both or neither,
    // whenever this process is killed.
    block.link(&mut guard.pointer)?;
    println!("A stored the value {SECRET:#x} at {:#x}", guard.address);
    // The guard ends here; B could not lock before.
    drop(guard);

    Process::start("process B", &[name.as_str()])?.finish()?;

    // Who builds structures by hand frees them by hand.
    let mut guard = letter.lock()?;
    if let Some(pointer) = guard.pointer.take() {
        // SAFETY: the letter was the block's only owner, and has let go of it.
        unsafe { arena.dealloc(pointer)? };
    }
    Ok(())
}

fn b() -> Result {
    // The kernel gives B another address than A anyway, unless it was told not to choose at random.
    let _in_the_way = MmapOptions::new().len(2 * SIZE).map_anon().ok();
    let arena = Arena::named(&argument(1)?)?;
    println!("B has the arena at {:p}", arena.base());

    let letter = arena.find::<Mutex<Letter>>("letter")?;
    let letter = letter.lock()?;
    let first = arena.base().addr() as u64;
    let mapped = first..first + arena.stats().reserved;
    println!("B's mapping is {:#x}..{:#x}", mapped.start, mapped.end);
    match mapped.contains(&letter.address) {
        false => println!("the raw pointer {:#x} is not in there", letter.address),
        // The mappings overlap by chance.
        true => println!(
            "the raw pointer {:#x} is elsewhere in there",
            letter.address
        ),
    }
    println!("following it nevertheless: {}", follow(letter.address)?);

    let pointer = letter.pointer.ok_or("A has stored no pointer")?;
    // Resolving checks that the target lies in the arena and is aligned. What is there, and who else
    // uses it, only the program can know: so following it is `unsafe`.
    let target = arena.resolve(pointer)?;
    // SAFETY: A allocated it as a `u64`, and this process holds the lock that protects it.
    let found = unsafe { *target };
    println!("the relative pointer {pointer:?} is {target:p} here: {found:#x}");
    if found != SECRET {
        return Err(format!("B found {found:#x}, expected {SECRET:#x}").into());
    }
    println!("ok: a raw pointer fails in another process, a RelPtr works");
    Ok(())
}

/// Reads from an address that this process was not given: in a child, since it may crash.
fn follow(address: u64) -> Result<String> {
    // SAFETY: the process has one thread, and the child only reads, and ends without cleaning up.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let no_core_file = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: none, for reading there: this is the mistake. It happens in a process that has
        // nothing to lose.
        unsafe {
            libc::setrlimit(libc::RLIMIT_CORE, &no_core_file);
            let found = ptr::read_volatile(ptr::with_exposed_provenance::<u64>(address as usize));
            libc::_exit(i32::from(found == SECRET));
        }
    }
    let mut status = 0;
    // SAFETY: a child of this process, and a place for the answer.
    if child < 0 || unsafe { libc::waitpid(child, &mut status, 0) } != child {
        return Err(io::Error::last_os_error().into());
    }
    match libc::WIFSIGNALED(status) {
        true => Ok(format!(
            "killed by signal {} (SIGSEGV is {})",
            libc::WTERMSIG(status),
            libc::SIGSEGV
        )),
        // Something else of B lies there by chance, which is worse.
        false if libc::WEXITSTATUS(status) == 0 => Ok("it read something else".into()),
        false => Err("A and B have the arena at the same address by chance: try again".into()),
    }
}
