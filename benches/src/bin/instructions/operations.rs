//! The operations.

use sharena::{
    Arena, RelPtr, Share,
    collections::{HashMap, String as SharedString, Vec as SharedVec},
    sync::{Mutex, RwLock, Semaphore},
};
use std::{
    alloc::Layout,
    hint::black_box,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

/// Does the operation so many times, within [`counted`].
pub(crate) type Operation = fn(&Arena) -> sharena::Result<()>;

pub(crate) const OPERATIONS: [(&str, Operation); 16] = [
    ("alloc and free 64 B", reserved_pair),
    ("alloc, publish and free 64 B", published_pair),
    ("alloc, link, free the old one, commit", linked_pair),
    ("free what another thread allocated", remote_free),
    ("lock and unlock", lock_and_read),
    ("lock, write and unlock", lock_and_write),
    ("lock to read and unlock", read_and_unlock),
    ("lock to read, two at a time", read_two),
    ("lock to write, write and unlock", write_and_unlock),
    ("take a permit and give it back", permit),
    ("push to a vector", push),
    ("find in a map", map_get),
    ("find in a map what is not there", map_miss),
    ("remove from and insert into a map", map_replace),
    (
        "remove a string from a map and insert it",
        map_replace_string,
    ),
    ("lock, insert into a map, unlock", map_insert_locked),
];

/// How often each operation is done.
static TIMES: AtomicU64 = AtomicU64::new(0);

/// Does an operation so many times, and as often before that, to make everything ready.
pub(crate) fn run(name: &str, times: u64) -> crate::Result {
    let known = OPERATIONS.iter().find(|(known, _)| *known == name);
    let (_, operation) = known.ok_or_else(|| format!("no operation {name:?}"))?;
    TIMES.store(times, Relaxed);
    let file = format!("instructions-{}", std::process::id());
    // Valgrind has few addresses to give.
    let arena = Arena::options().max_size(64 << 20).named(&file)?;
    Arena::unlink_named(&file)?;
    Ok(operation(&arena)?)
}

fn times() -> u64 {
    TIMES.load(Relaxed)
}

/// Callgrind looks for this name.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn counted(work: &mut dyn FnMut() -> sharena::Result<()>) -> sharena::Result<()> {
    work()
}

/// Does an operation to make everything ready, and then while it is counted.
fn repeat(mut operation: impl FnMut(u64) -> sharena::Result<()>) -> sharena::Result<()> {
    let times = times();
    (0..times).try_for_each(&mut operation)?;
    crate::waits::mark();
    counted(&mut || (0..times).try_for_each(&mut operation))?;
    crate::waits::mark();
    Ok(())
}

const BLOCK: Layout = Layout::new::<[u64; 8]>();

fn reserved_pair(arena: &Arena) -> sharena::Result<()> {
    repeat(|_| arena.alloc(BLOCK).map(|block| drop(black_box(block))))
}

fn published_pair(arena: &Arena) -> sharena::Result<()> {
    repeat(|_| {
        let block = arena.alloc(BLOCK)?.into_raw()?;
        // SAFETY: just allocated, and used by nobody.
        unsafe { arena.dealloc(block) }
    })
}

#[derive(Share, Default)]
#[repr(C)]
struct Places {
    places: [Option<RelPtr<u64>>; 8],
}

fn linked_pair(arena: &Arena) -> sharena::Result<()> {
    let places = arena.root::<Mutex<Places>>("places")?;
    let mut places = places.lock()?;
    repeat(|number| {
        let block = arena.alloc_value(number)?;
        let place = &mut places.places[number as usize % 8];
        let old = place.take();
        block.link(place)?;
        if let Some(old) = old {
            // SAFETY: it was linked here only, and is no longer.
            unsafe { arena.dealloc(old) }?;
        }
        places.commit()
    })
}

fn remote_free(arena: &Arena) -> sharena::Result<()> {
    let count = 2 * times() as usize;
    let allocate = || -> sharena::Result<Vec<_>> {
        let blocks = (0..count).map(|_| arena.alloc(BLOCK)?.into_raw());
        blocks.collect()
    };
    let (give, take) = mpsc::channel();
    let (done, until) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // It stays: the slabs of one that has ended are nobody's.
        scope.spawn(move || {
            give.send(allocate()).expect("the other one waits");
            until.recv().expect_err("nothing is sent");
        });
        let mut blocks = take.recv().expect("it sends them")?.into_iter();
        let freed = repeat(|_| {
            let block = blocks.next().expect("one for each");
            // SAFETY: just allocated, and used by nobody.
            unsafe { arena.dealloc(block) }
        });
        drop(done);
        freed
    })
}

fn lock_and_read(arena: &Arena) -> sharena::Result<()> {
    let number = arena.root::<Mutex<u64>>("number")?;
    repeat(|_| {
        black_box(*number.lock()?);
        Ok(())
    })
}

fn lock_and_write(arena: &Arena) -> sharena::Result<()> {
    let number = arena.root::<Mutex<u64>>("number")?;
    repeat(|_| {
        *number.lock()? += 1;
        Ok(())
    })
}

fn read_and_unlock(arena: &Arena) -> sharena::Result<()> {
    let number = arena.root::<RwLock<u64>>("read")?;
    repeat(|_| {
        black_box(*number.read()?);
        Ok(())
    })
}

fn read_two(arena: &Arena) -> sharena::Result<()> {
    let one = arena.root::<RwLock<u64>>("read")?;
    let two = arena.root::<RwLock<u64>>("another")?;
    repeat(|_| {
        let (one, two) = (one.read()?, two.read()?);
        black_box(*one + *two);
        Ok(())
    })
}

fn write_and_unlock(arena: &Arena) -> sharena::Result<()> {
    let number = arena.root::<RwLock<u64>>("read")?;
    repeat(|_| {
        *number.write()? += 1;
        Ok(())
    })
}

fn permit(arena: &Arena) -> sharena::Result<()> {
    let permits = arena.root_with("permits", |permits: &mut Semaphore| {
        *permits = Semaphore::new(2);
        Ok(())
    })?;
    repeat(|_| permits.acquire().map(drop))
}

fn push(arena: &Arena) -> sharena::Result<()> {
    let vec = arena.root::<Mutex<SharedVec<u64>>>("vec")?;
    let mut vec = vec.lock()?;
    vec.reserve(2 * times() as usize)?;
    repeat(|number| vec.push(number))
}

type Map = Mutex<HashMap<u64, u64>>;

/// Keys that are spread.
fn key(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn filled_map(arena: &Arena) -> sharena::Result<sharena::Root<Map>> {
    let map = arena.root::<Map>("map")?;
    let mut entries = map.lock()?;
    for number in 0..times() {
        entries.insert(key(number), number)?;
    }
    drop(entries);
    Ok(map)
}

fn map_get(arena: &Arena) -> sharena::Result<()> {
    let map = filled_map(arena)?;
    let map = map.lock()?;
    repeat(|number| {
        black_box(map.get(&key(number)));
        Ok(())
    })
}

fn map_miss(arena: &Arena) -> sharena::Result<()> {
    let map = filled_map(arena)?;
    let map = map.lock()?;
    let times = times();
    repeat(|number| {
        black_box(map.get(&key(number + times)));
        Ok(())
    })
}

fn map_replace(arena: &Arena) -> sharena::Result<()> {
    let map = filled_map(arena)?;
    let mut map = map.lock()?;
    repeat(|number| {
        map.remove(&key(number));
        map.insert(key(number), number).map(drop)
    })
}

fn map_replace_string(arena: &Arena) -> sharena::Result<()> {
    let map = arena.root::<Mutex<HashMap<SharedString, u64>>>("strings")?;
    let keys: Vec<String> = (0..times()).map(|n| format!("{:016x}", key(n))).collect();
    let mut map = map.lock()?;
    for key in &keys {
        map.insert(key.as_str(), 0)?;
    }
    map.commit()?;
    repeat(|number| {
        let key = keys[number as usize].as_str();
        map.remove(key);
        map.insert(key, number)?;
        map.commit()
    })
}

fn map_insert_locked(arena: &Arena) -> sharena::Result<()> {
    let map = filled_map(arena)?;
    repeat(|number| map.lock()?.insert(key(number), number).map(drop))
}
