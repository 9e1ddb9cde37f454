//! Workers in an arena that is scribbled over: they do what they can, and get errors.

use crate::{Random, format::field};
use sharena::{
    Arena, Error, RelPtr, Result, Root, Share,
    sync::{Mutex, RwLock, Semaphore},
};
use std::{
    alloc::Layout,
    fs::File,
    os::fd::{AsRawFd, FromRawFd},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::*},
    time::Duration,
};

/// The exit code of a worker that got nothing but errors.
pub(crate) const GAVE_UP: i32 = 3;
/// Errors in a row after which a worker gives up.
const ENOUGH: u32 = 300;
const PATIENCE: Duration = Duration::from_millis(300);

/// Counters outside the arena: what each worker did, errors, words written.
pub(crate) struct Beats {
    file: File,
    map: memmap2::MmapRaw,
}

impl Beats {
    const ERRORS: usize = 62;
    const WORDS: usize = 63;

    /// A file in memory that children inherit.
    pub(crate) fn create() -> Result<Beats> {
        // SAFETY: a valid string; the descriptor is nobody else's.
        let file = unsafe {
            let fd = libc::memfd_create(c"storm".as_ptr(), 0);
            if fd < 0 {
                return Err(std::io::Error::last_os_error().into());
            }
            File::from_raw_fd(fd)
        };
        file.set_len(4096)?;
        Self::map(file)
    }

    pub(crate) fn inherit(fd: &str) -> Result<Beats> {
        let fd = fd.parse().map_err(Error::other)?;
        // SAFETY: the parent left this descriptor to its child for this.
        Self::map(unsafe { File::from_raw_fd(fd) })
    }

    fn map(file: File) -> Result<Beats> {
        let map = memmap2::MmapOptions::new().len(4096).map_raw(&file)?;
        Ok(Beats { file, map })
    }

    pub(crate) fn fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    pub(crate) fn of(&self, number: usize) -> &AtomicU64 {
        assert!(number < 64);
        // SAFETY: a page of atomics.
        unsafe { &*self.map.as_ptr().cast::<AtomicU64>().add(number) }
    }

    pub(crate) fn words(&self) -> &AtomicU64 {
        self.of(Self::WORDS)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.of(Self::ERRORS).load(Relaxed)
    }

    pub(crate) fn operations(&self) -> u64 {
        (0..Self::ERRORS).map(|n| self.of(n).load(Relaxed)).sum()
    }
}

#[derive(Share, Default)]
#[repr(C)]
struct Links {
    blocks: [Option<RelPtr<u64>>; 16],
}

#[derive(Share)]
#[repr(C)]
struct Numbers([u64; 300]);

impl Default for Numbers {
    fn default() -> Self {
        Numbers([0; 300])
    }
}

/// Everything in here may have any value.
struct Plain {
    left: Root<Mutex<Numbers>>,
    right: Root<Mutex<Numbers>>,
    links: Root<Mutex<Links>>,
    halves: Root<RwLock<[u64; 2]>>,
    permits: Root<Semaphore>,
}

impl Plain {
    fn create(arena: &Arena) -> Result<Plain> {
        Ok(Plain {
            left: arena.root("left")?,
            right: arena.root("right")?,
            links: arena.root("links")?,
            halves: arena.root("halves")?,
            permits: arena.root_with("permits", |permits: &mut Semaphore| {
                *permits = Semaphore::new(2);
                Ok(())
            })?,
        })
    }
}

/// Makes the arena; gives the offsets of its locks, as text.
pub(crate) fn create(name: &str) -> Result<String> {
    let arena = Arena::options().max_size(32 << 20).slots(40).named(name)?;
    let plain = Plain::create(&arena)?;
    let base = arena.base().addr();
    let locks = [
        (&raw const *plain.left).addr() - base,
        (&raw const *plain.right).addr() - base,
        (&raw const *plain.links).addr() - base,
        (&raw const *plain.halves).addr() - base,
        (&raw const *plain.permits).addr() - base,
        field("Header.directory").start as usize,
    ];
    Ok(locks.map(|at| at.to_string()).join(","))
}

/// Runs with the arguments mode, arena, counters, number, seed.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let [_, name, fd, number, seed] = arguments else {
        return ExitCode::FAILURE;
    };
    let (Ok(beats), Ok(number), Ok(seed)) = (Beats::inherit(fd), number.parse(), seed.parse())
    else {
        return ExitCode::FAILURE;
    };
    crash_on_unknown_panics();
    match work(name, &beats, number, seed) {
        Ok(()) | Err(_) => ExitCode::from(GAVE_UP as u8),
    }
}

/// One panic is an error in another shape: a value is borrowed mutably, and the journal cannot grow.
fn crash_on_unknown_panics() {
    std::panic::set_hook(std::boxed::Box::new(|info| {
        if !info.to_string().contains("could not record a value") {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
    }));
}

fn work(name: &str, beats: &Beats, number: usize, seed: u64) -> Result {
    let mut random = Random::new(seed);
    let arena = Arena::open_named(name)?;
    let plain = Plain::create(&arena)?;
    let mut failed = 0;
    while failed < ENOUGH {
        match catch_unwind(AssertUnwindSafe(|| one(&arena, &plain, &mut random))) {
            Ok(Ok(())) => failed = 0,
            Ok(Err(_)) | Err(_) => {
                failed += 1;
                beats.of(Beats::ERRORS).fetch_add(1, Relaxed);
            }
        }
        beats.of(number).fetch_add(1, Relaxed);
    }
    Ok(())
}

fn one(arena: &Arena, plain: &Plain, random: &mut Random) -> Result {
    match random.below(80) {
        0..16 => transfer(arena, plain, random),
        16..28 => link(arena, plain, random),
        28..38 => fill_blocks(arena, random),
        38..50 => take_a_permit(plain),
        50..58 => name_and_unname(arena, random),
        58 => arena.reap().map(drop),
        59 => {
            let _ = format!("{:?}", arena.stats());
            arena.roots().map(drop)
        }
        60 => {
            arena.check();
            Ok(())
        }
        61..64 => keep_a_block(arena, random),
        64..74 => read(plain),
        _ => write(plain),
    }
}

fn read(plain: &Plain) -> Result {
    let one = plain.halves.try_read_for(PATIENCE)?;
    let two = plain.halves.try_read()?;
    std::hint::black_box((one[0], two[1]));
    Ok(())
}

fn write(plain: &Plain) -> Result {
    let mut halves = plain.halves.try_write_for(PATIENCE)?;
    *halves = [halves[0].wrapping_add(1); 2];
    Ok(())
}

fn transfer(arena: &Arena, plain: &Plain, random: &mut Random) -> Result {
    let (from, to) = (random.below(300) as usize, random.below(300) as usize);
    let done = arena.section(|| {
        let mut left = plain.left.try_lock_for(PATIENCE)?;
        let mut right = plain.right.try_lock_for(PATIENCE)?;
        left.0[from] = left.0[from].wrapping_sub(1);
        right.0[to] = right.0[to].wrapping_add(1);
        Ok(())
    });
    if matches!(done, Err(Error::Poisoned)) {
        plain.left.clear_poison()?;
        plain.right.clear_poison()?;
    }
    done
}

fn link(arena: &Arena, plain: &Plain, random: &mut Random) -> Result {
    let block = arena.alloc_value(random.below(1000))?;
    let mut links = plain.links.try_lock_for(PATIENCE)?;
    let place = random.below(16) as usize;
    if let Some(old) = links.blocks[place].take() {
        if let Ok(value) = arena.resolve(old) {
            // SAFETY: eight bytes of the arena, whatever is in them.
            unsafe { value.read_volatile() };
        }
        // SAFETY: nobody uses the block as anything but numbers.
        unsafe { arena.dealloc(old)? };
    }
    block.link(&mut links.blocks[place]).map(drop)
}

fn some_size(random: &mut Random) -> usize {
    let bits = random.below(18);
    random.below(1 << bits) as usize + 1
}

/// Blocks come and go, and each of their bytes is written.
fn fill_blocks(arena: &Arena, random: &mut Random) -> Result {
    let mut blocks = std::vec::Vec::new();
    for _ in 0..random.below(20) {
        let size = some_size(random);
        let block = arena.alloc(Layout::from_size_align(size, 8).map_err(Error::other)?)?;
        // SAFETY: a block of that size, if it was given out to one only; else what is written is
        // nonsense that is seen elsewhere.
        unsafe { block.as_ptr().write_bytes(0xaa, size) };
        blocks.push(block);
    }
    Ok(())
}

/// A block is published, and freed again most of the time.
fn keep_a_block(arena: &Arena, random: &mut Random) -> Result {
    let size = some_size(random);
    let block = arena.alloc(Layout::from_size_align(size, 8).map_err(Error::other)?)?;
    let kept = block.into_raw()?;
    if random.below(8) > 0 {
        // SAFETY: nobody else knows of it.
        unsafe { arena.dealloc(kept)? };
    }
    Ok(())
}

fn take_a_permit(plain: &Plain) -> Result {
    plain.permits.try_acquire_for(PATIENCE).map(drop)
}

fn name_and_unname(arena: &Arena, random: &mut Random) -> Result {
    let name = format!("root {}", random.below(8));
    let root = arena.root::<Mutex<u64>>(&name)?;
    *root.try_lock_for(PATIENCE)? += 1;
    if random.below(2) == 0 {
        arena.remove(&name)?;
    }
    Ok(())
}

/// Looks at everything, in an arena that nobody uses any more. Mode, arena, counters.
pub(crate) fn inspect(arguments: &[String]) -> ExitCode {
    let [_, name, _] = arguments else {
        return ExitCode::FAILURE;
    };
    crash_on_unknown_panics();
    let _ = look_at(name);
    ExitCode::SUCCESS
}

fn look_at(name: &str) -> Result {
    let arena = Arena::open_named(name)?;
    let _ = format!("{:?}", arena.stats());
    let _ = arena.check().to_string();
    let _ = arena.reap();
    let plain = Plain::create(&arena)?;
    let mut random = Random::new(7);
    for _ in 0..50 {
        let done = catch_unwind(AssertUnwindSafe(|| one(&arena, &plain, &mut random)));
        if matches!(done, Ok(Err(Error::NoSlots { .. }))) {
            // Each further attempt takes seconds.
            break;
        }
    }
    Ok(())
}
