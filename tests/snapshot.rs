//! Copies of arenas that are in use: no section is half done in them, whoever is killed meanwhile.
#![cfg(target_os = "linux")]

mod common;

use common::{Forked, Random, Scratch, until};
use sharena::{
    Access, Arena, Error, Options, Result, Root,
    collections::{HashMap, String, Vec},
    sync::{Mutex, RwLock, Semaphore},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
    thread,
    time::{Duration, Instant},
};

fn names(scratch: &Scratch) -> std::vec::Vec<std::string::String> {
    let entries = fs::read_dir(&scratch.0).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let names = entries.map(|entry| name(entry).into_string().unwrap());
    let mut names: std::vec::Vec<_> = names.collect();
    names.sort();
    names
}

fn options() -> Options {
    let mut options = Arena::options();
    options.max_size(32 << 20).slots(32);
    options
}

fn create(path: &Path) -> Arena {
    // SAFETY: nobody but these tests uses the file.
    unsafe { options().create(path) }.unwrap()
}

fn open(path: &Path) -> Arena {
    // SAFETY: as above.
    unsafe { options().open(path) }.unwrap()
}

#[track_caller]
fn assert_clean(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

type Shelves = Mutex<HashMap<String, Vec<Mutex<u64>>>>;
type Inner = Mutex<Vec<Mutex<u64>>>;

#[test]
fn a_copy_has_what_was_there() {
    let scratch = Scratch::new("snapshot-there");
    let copy = scratch.path("copy");
    let arena = create(&scratch.path("original"));
    let shelves = arena.root::<Shelves>("shelves").unwrap();
    for (number, name) in ["one", "two", "a name of more than 16 bytes"]
        .iter()
        .enumerate()
    {
        let mut shelves = shelves.lock().unwrap();
        let shelf = shelves.entry(name).or_default().unwrap();
        shelf.push(Mutex::new(number as u64)).unwrap();
    }
    *arena
        .root::<RwLock<[u64; 9]>>("pair")
        .unwrap()
        .write()
        .unwrap() = [3; 9];
    let inner = arena.root::<Inner>("frozen").unwrap();
    inner.lock().unwrap().push(Mutex::new(5)).unwrap();
    let frozen = inner.freeze().unwrap();
    drop(inner);
    arena.root::<AtomicU64>("plain").unwrap().store(6, Release);
    let permits = arena.root_with("permits", |permits: &mut Semaphore| {
        *permits = Semaphore::new(2);
        Ok(())
    });
    let permits = permits.unwrap();
    let permit = permits.acquire().unwrap();

    arena.snapshot(&copy).unwrap();
    shelves.lock().unwrap().clear();
    *frozen[0].lock().unwrap() = 8;
    drop(permit);
    assert_clean(&arena);
    drop((shelves, frozen, permits, arena));

    let copy = open(&copy);
    assert_clean(&copy);
    let shelves = copy.find::<Shelves>("shelves").unwrap();
    for (number, name) in ["one", "two", "a name of more than 16 bytes"]
        .iter()
        .enumerate()
    {
        let mut shelves = shelves.lock().unwrap();
        assert_eq!(
            *shelves.get_mut(name).unwrap()[0].get_mut().unwrap(),
            number as u64
        );
    }
    assert_eq!(
        *copy
            .find::<RwLock<[u64; 9]>>("pair")
            .unwrap()
            .read()
            .unwrap(),
        [3; 9]
    );
    let frozen = copy.find::<Inner>("frozen").unwrap();
    assert_eq!(*frozen.frozen().unwrap()[0].lock().unwrap(), 5);
    assert_eq!(copy.find::<AtomicU64>("plain").unwrap().load(Acquire), 6);
    // Whoever had a permit is dead in the copy.
    assert_eq!(copy.find::<Semaphore>("permits").unwrap().available(), 2);
    shelves.lock().unwrap().clear();
    assert_clean(&copy);
}

#[test]
fn what_is_refused() {
    let scratch = Scratch::new("snapshot-refused");
    let (original, copy) = (scratch.path("original"), scratch.path("copy"));
    let arena = create(&original);
    let number = arena.root::<Mutex<u64>>("number").unwrap();
    let shared = arena.root::<RwLock<u64>>("shared").unwrap();
    let guard = number.lock().unwrap();
    assert!(matches!(arena.snapshot(&copy), Err(Error::InSection)));
    drop(guard);
    let guard = shared.read().unwrap();
    assert!(matches!(arena.snapshot(&copy), Err(Error::InSection)));
    drop(guard);
    let inside = arena.section(|| arena.snapshot(&copy));
    assert!(matches!(inside, Err(Error::InSection)));
    assert!(matches!(
        arena.snapshot(&original),
        Err(Error::Exists { .. })
    ));
    let nowhere = arena.snapshot(scratch.path("no such folder/copy"));
    assert!(
        matches!(nowhere, Err(Error::Os { path: Some(_), .. })),
        "{nowhere:?}"
    );
    // SAFETY: nobody but this test uses the file.
    let reader = unsafe { options().access(Access::ReadOnly).open(&original) }.unwrap();
    assert!(matches!(reader.snapshot(&copy), Err(Error::ReadOnly)));
    reader.flush().unwrap();
    arena.flush().unwrap();
    assert_eq!(names(&scratch), ["original"]);
    // A poisoned lock is no reason to have no copy, nor is a lock that is taken away.
    let panicked = std::panic::catch_unwind(|| {
        let _guard = number.lock();
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    let removed = arena.root::<Mutex<Vec<u64>>>("removed").unwrap();
    removed.lock().unwrap().push(1).unwrap();
    arena.remove("removed").unwrap();
    arena.snapshot(&copy).unwrap();
    assert!(number.is_poisoned() && number.lock().is_err());
    drop((number, shared, removed, reader, arena));
    let copy = open(&copy);
    assert!(copy.find::<Mutex<u64>>("number").unwrap().is_poisoned());
    assert!(copy.find::<Mutex<Vec<u64>>>("removed").is_err());
    copy.reap().unwrap();
    assert_clean(&copy);
}

#[test]
fn an_arena_in_ordinary_memory_becomes_a_file() {
    let scratch = Scratch::new("snapshot-memory");
    let copy = scratch.path("copy");
    let arena = options().in_memory().unwrap();
    let numbers = arena.root::<Mutex<Vec<u64>>>("numbers").unwrap();
    numbers.lock().unwrap().try_extend(0..100_000).unwrap();
    arena.flush().unwrap();
    arena.snapshot(&copy).unwrap();
    drop((numbers, arena));
    let copy = open(&copy);
    let numbers = copy.find::<Mutex<Vec<u64>>>("numbers").unwrap();
    assert_eq!(numbers.lock().unwrap().iter().sum::<u64>(), 4_999_950_000);
    numbers.lock().unwrap().try_extend(0..100_000).unwrap();
    assert_clean(&copy);
}

/// No half of a file is left where it does not fit.
#[test]
fn a_copy_that_does_not_fit_is_an_error() {
    let scratch = Scratch::new("snapshot-full");
    let arena = create(&scratch.path("original"));
    let numbers = arena.root::<Mutex<Vec<u64>>>("numbers").unwrap();
    numbers.lock().unwrap().try_extend(0..100_000).unwrap();
    let copy = scratch.path("copy");
    Forked::run(|| {
        let limit = libc::rlimit {
            rlim_cur: 300_000,
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: changes this child only.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
        }
        let error = arena.snapshot(&copy).unwrap_err();
        assert!(matches!(error, Error::Os { .. }), "{error}");
        *numbers.lock().unwrap() = Vec::new();
        0
    })
    .succeed();
    assert!(numbers.lock().unwrap().is_empty());
    assert_eq!(names(&scratch), ["original"]);
}

#[test]
fn it_waits_for_writers_and_for_readers() {
    let scratch = Scratch::new("snapshot-waits");
    let arena = create(&scratch.path("original"));
    let numbers = arena.root::<Mutex<[u64; 2]>>("numbers").unwrap();
    let shared = arena
        .root::<RwLock<Vec<Mutex<[u64; 2]>>>>("shared")
        .unwrap();
    shared.write().unwrap().push(Mutex::new([0; 2])).unwrap();
    let waits_for = |name: &str, hold: &(dyn Fn(&dyn Fn()) + Sync)| {
        let (stage, copy) = (AtomicU32::new(0), scratch.path(name));
        thread::scope(|scope| {
            let holder = scope.spawn(|| {
                hold(&|| {
                    stage.store(1, Release);
                    thread::sleep(Duration::from_millis(50));
                    assert_eq!(stage.load(Acquire), 1, "it did not wait");
                });
            });
            until("the lock is held", || stage.load(Acquire) == 1);
            arena.snapshot(&copy).unwrap();
            stage.store(2, Release);
            // Only then it has left the arena.
            holder.join().unwrap();
        });
    };
    waits_for("writer", &|wait| {
        let mut numbers = numbers.lock().unwrap();
        numbers[0] += 1;
        wait();
        numbers[1] += 1;
    });
    // What a reader's lock leads to may be locked, and changed.
    waits_for("reader", &|wait| {
        let shared = shared.read().unwrap();
        let mut inner = shared[0].lock().unwrap();
        inner[0] += 1;
        wait();
        inner[1] += 1;
    });
    drop((numbers, shared, arena));
    let copy = open(&scratch.path("writer"));
    assert_eq!(
        *copy
            .find::<Mutex<[u64; 2]>>("numbers")
            .unwrap()
            .lock()
            .unwrap(),
        [1; 2]
    );
    drop(copy);
    let copy = open(&scratch.path("reader"));
    let shared = copy.find::<RwLock<Vec<Mutex<[u64; 2]>>>>("shared").unwrap();
    assert_eq!(*shared.read().unwrap()[0].lock().unwrap(), [1; 2]);
    assert_clean(&copy);
}

const ACCOUNTS: u64 = 50;
const EACH: u64 = 5000;
type Accounts = Mutex<HashMap<u64, Vec<u64>>>;

/// Two banks; each account is a list, whose length is the balance. And a semaphore beside them.
struct Banks {
    arena: Arena,
    banks: [Root<Accounts>; 2],
    permits: Root<Semaphore>,
}

const PERMITS: u32 = 3;
/// More than a log has room for in its slot.
const MANY: u64 = 700;
type Numbers = Vec<Mutex<u64>>;

impl Banks {
    fn of(arena: Arena) -> Banks {
        let banks = ["north", "south"].map(|name| arena.root::<Accounts>(name).unwrap());
        let permits = arena.root_or_init("permits", || Semaphore::new(PERMITS));
        Banks {
            banks,
            permits: permits.unwrap(),
            arena,
        }
    }

    /// One bank's table lies far from the other's: it takes time to copy what is between them.
    fn fill(&self) {
        for bank in &self.banks {
            let mut bank = bank.lock().unwrap();
            bank.reserve(10_000).unwrap();
            for account in 0..ACCOUNTS {
                let units = bank.entry(account).or_default().unwrap();
                units.resize((EACH / ACCOUNTS) as usize, account).unwrap();
            }
            drop(bank);
            let between = self.arena.root::<Mutex<Vec<u64>>>("between").unwrap();
            between.lock().unwrap().resize(1 << 20, 7).unwrap();
        }
    }

    fn total(&self) -> u64 {
        let of = |bank: &Root<Accounts>| bank.lock().unwrap().values().map(Vec::len).sum::<usize>();
        self.banks.iter().map(|bank| of(bank) as u64).sum()
    }

    /// Moves a unit. The locks are taken in one order: so nobody waits in a circle.
    fn transfer(&self, random: &mut Random) -> Result {
        let to_south = random.below(2) == 0;
        let (source, target) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
        self.arena.section(|| {
            let (mut giver, mut taker) = (self.banks[0].lock()?, self.banks[1].lock()?);
            if !to_south {
                std::mem::swap(&mut giver, &mut taker);
            }
            let unit = giver
                .get_mut(&source)
                .and_then(|units| units.pop().map(|unit| *unit));
            if let Some(unit) = unit {
                taker.get_mut(&target).ok_or("no account")?.push(unit)?;
            }
            Ok(())
        })
    }

    /// Lists come and go: what is dropped is freed behind the lock's release.
    fn churn(&self, random: &mut Random) -> Result {
        let bank = &self.banks[random.below(2) as usize];
        let mut bank = bank.lock()?;
        let key = 1000 + random.below(50);
        if bank.remove(&key).is_none() {
            bank.insert(key, Vec::new())?;
        }
        Ok(())
    }

    /// A root that takes a long section to make; or it goes again.
    fn make_a_root(&self, random: &mut Random) -> Result {
        let name = format!("numbers {}", random.below(4));
        match self.arena.remove(&name) {
            Err(Error::UnknownRoot { .. }) => {}
            done => return done,
        }
        let made = self.arena.root_with(&name, |numbers: &mut Numbers| {
            for _ in 0..MANY {
                numbers.push(Mutex::new(0))?;
            }
            for number in numbers.iter_mut() {
                *number.get_mut()? = 1;
            }
            Ok(())
        });
        made.map(drop)
    }

    /// What goes on.
    fn stir(&self, random: &mut Random) -> Result {
        match random.below(16) {
            0 => self.make_a_root(random),
            1 => self.arena.trim().map(drop),
            2..5 => self.churn(random),
            5..9 => self.permits.acquire().map(drop),
            _ => self.transfer(random),
        }
    }

    /// Goes on until it is killed.
    fn work(&self, seed: u64) -> i32 {
        let mut random = Random(seed);
        loop {
            match self.stir(&mut random) {
                Ok(()) | Err(Error::Full { .. }) => {}
                Err(error) => {
                    eprintln!("{error}");
                    return 1;
                }
            }
        }
    }
}

/// Nothing of a copy is half done, and nothing lost.
fn assert_whole(copy: &Path) {
    let banks = Banks::of(open(copy));
    banks.arena.reap().unwrap();
    let report = banks.arena.check();
    assert!(report.is_clean(), "{report}");
    let lists = |bank: &Root<Accounts>| {
        let mut bank = bank.lock().unwrap();
        bank.retain(|&account, _| account < ACCOUNTS);
    };
    banks.banks.iter().for_each(lists);
    assert_eq!(banks.total(), 2 * EACH);
    assert_eq!(banks.permits.available(), PERMITS);
    for root in banks.arena.roots().unwrap() {
        if root.name.starts_with("numbers") {
            let numbers = banks.arena.find::<Numbers>(&root.name).unwrap();
            let sum: u64 = numbers.iter().map(|number| *number.lock().unwrap()).sum();
            assert_eq!((numbers.len() as u64, sum), (MANY, MANY));
        }
    }
    let mut random = Random(1);
    for _ in 0..100 {
        banks.stir(&mut random).unwrap();
    }
    assert_eq!(banks.permits.available(), PERMITS);
}

/// Processes that use an arena, which this one does not map: it looks at the copies.
struct Crowd {
    scratch: Scratch,
    workers: std::vec::Vec<Forked>,
}

impl Crowd {
    fn new(name: &str, workers: u64) -> Crowd {
        let scratch = Scratch::new(name);
        let original = scratch.path("original");
        Forked::run(|| {
            Banks::of(create(&original)).fill();
            0
        })
        .succeed();
        let work = |seed| Forked::run(|| Banks::of(open(&original)).work(seed));
        let workers = (0..workers).map(work).collect();
        Crowd { scratch, workers }
    }

    fn copy(&self) -> PathBuf {
        self.scratch.path("copy")
    }

    /// A process that makes a copy.
    fn copier(&self) -> Forked {
        let original = self.scratch.path("original");
        Forked::run(|| {
            open(&original).snapshot(self.copy()).unwrap();
            0
        })
    }

    /// Looks at the copy, if there is one, and takes it away. Says whether there was.
    fn has_copied(&self) -> bool {
        let copy = self.copy();
        let exists = copy.exists();
        if exists {
            assert_whole(&copy);
            fs::remove_file(copy).unwrap();
        }
        assert_eq!(names(&self.scratch), ["original"]);
        exists
    }

    /// Nobody was disturbed, and nobody waits for a dead copier.
    fn end(mut self) {
        let mut workers = self.workers.iter_mut();
        assert!(workers.all(|worker| !worker.ended()), "a worker ended");
        let original = self.scratch.path("original");
        Forked::run(|| {
            let banks = Banks::of(open(&original));
            let mut random = Random(9);
            (0..200).for_each(|_| banks.transfer(&mut random).unwrap());
            0
        })
        .succeed();
        self.workers.clear();
        let banks = Banks::of(open(&original));
        banks.arena.reap().unwrap();
        assert!(banks.arena.check().is_clean(), "{}", banks.arena.check());
    }
}

#[test]
fn copies_of_an_arena_that_is_in_use_are_whole() {
    let crowd = Crowd::new("snapshot-used", 3);
    for _ in 0..15 {
        crowd.copier().succeed();
        assert!(crowd.has_copied());
    }
    crowd.end();
}

#[test]
fn a_kill_leaves_a_whole_copy_or_none_and_nobody_waiting() {
    let crowd = Crowd::new("snapshot-killed", 2);
    let began = Instant::now();
    crowd.copier().succeed();
    let longest = 3 * began.elapsed().as_micros() as u64;
    assert!(crowd.has_copied());
    let (mut random, mut whole, mut none) = (Random(5), 0, 0);
    // Until enough of both was seen.
    while whole < 5 || none < 20 {
        let mut copier = crowd.copier();
        thread::sleep(Duration::from_micros(random.below(longest)));
        copier.kill();
        match crowd.has_copied() {
            true => whole += 1,
            false => none += 1,
        }
        assert!(
            whole + none < 2000,
            "{whole} copies were made, {none} were not"
        );
    }
    crowd.end();
}

/// Whoever has one lock and waits for another that the copier has, is let pass; and gets no error.
#[test]
fn others_take_their_locks_in_whatever_order() {
    let scratch = Scratch::new("snapshot-order");
    for order in [[0, 1], [1, 0]] {
        let arena = create(&scratch.path("original"));
        let pair = ["one", "other"].map(|name| arena.root::<Mutex<u64>>(name).unwrap());
        let done = AtomicU32::new(0);
        thread::scope(|scope| {
            let user = scope.spawn(|| {
                let mut turns = 0u64;
                while done.load(Acquire) == 0 || turns < 10 {
                    let turn = arena.section(|| {
                        let mut first = pair[order[0]].lock()?;
                        thread::sleep(Duration::from_micros(50));
                        let mut second = pair[order[1]].lock()?;
                        (*first, *second) = (*first + 1, *second + 1);
                        Ok(())
                    });
                    turn.unwrap();
                    turns += 1;
                }
                turns
            });
            for _ in 0..20 {
                arena.snapshot(scratch.path("copy")).unwrap();
                fs::remove_file(scratch.path("copy")).unwrap();
            }
            done.store(1, Release);
            let turns = user.join().unwrap();
            assert!(pair.iter().all(|number| *number.lock().unwrap() == turns));
        });
        drop((pair, arena));
        fs::remove_file(scratch.path("original")).unwrap();
    }
}
