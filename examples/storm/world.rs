//! What the workers share, and what must hold of it at any time.

use sharena::{
    Arena, RelPtr, Result, Root, Share,
    collections::{HashMap, String, Vec},
    sync::{Mutex, RwLock, Semaphore},
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Money in each of the two banks together.
pub(crate) const MONEY: i64 = 1_000_000;
pub(crate) const ACCOUNTS: u64 = 200;
pub(crate) const PERMITS: u32 = 2;

/// A list whose length in bytes is kept beside it: half a change would show.
#[derive(Share, Default)]
#[repr(C)]
pub(crate) struct Book {
    pub(crate) words: Vec<String>,
    pub(crate) bytes: u64,
    pub(crate) numbers: Vec<u64>,
    pub(crate) sum: u64,
}

/// Places for blocks that are linked and freed by hand.
#[derive(Share, Default)]
#[repr(C)]
pub(crate) struct Links {
    pub(crate) blocks: [Option<RelPtr<u64>>; 16],
    pub(crate) linked: u64,
}

/// What many read: whoever does must find all three numbers equal.
#[derive(Share, Default)]
#[repr(C)]
pub(crate) struct Halves {
    pub(crate) left: u64,
    pub(crate) list: Vec<u64>,
    pub(crate) right: u64,
}

impl Halves {
    pub(crate) fn verify(&self) -> Result {
        expect("the right half", self.left, self.right)?;
        expect("the list of the halves", self.left, self.list.len() as u64)
    }
}

type Accounts = Mutex<HashMap<u64, i64>>;

pub(crate) struct World {
    pub(crate) left: Root<Accounts>,
    pub(crate) right: Root<Accounts>,
    pub(crate) book: Root<Mutex<Book>>,
    pub(crate) links: Root<Mutex<Links>>,
    pub(crate) halves: Root<[RwLock<Halves>; 2]>,
    pub(crate) permits: Root<Semaphore>,
    progress: Root<[AtomicU64; 32]>,
}

impl World {
    /// Makes what is not there yet.
    pub(crate) fn create(arena: &Arena) -> Result<World> {
        let fill = |accounts: &mut Accounts| {
            let accounts = accounts.get_mut()?;
            for account in 0..ACCOUNTS {
                accounts.insert(account, MONEY / 2 / ACCOUNTS as i64)?;
            }
            Ok(())
        };
        Ok(World {
            left: arena.root_with("left", fill)?,
            right: arena.root_with("right", fill)?,
            book: arena.root("book")?,
            links: arena.root("links")?,
            halves: arena.root("halves")?,
            permits: arena.root_with("permits", |permits: &mut Semaphore| {
                *permits = Semaphore::new(PERMITS);
                Ok(())
            })?,
            progress: arena.root("progress")?,
        })
    }

    pub(crate) fn note_progress(&self, worker: usize) {
        self.progress[worker].fetch_add(1, Relaxed);
    }

    pub(crate) fn progress(&self, worker: usize) -> u64 {
        self.progress[worker].load(Relaxed)
    }

    pub(crate) fn operations(&self) -> u64 {
        self.progress.iter().map(|one| one.load(Relaxed)).sum()
    }

    /// Looks at everything; nobody else may be at work.
    pub(crate) fn verify(&self, arena: &Arena) -> Result {
        let left: i64 = self.left.lock()?.values().sum();
        let right: i64 = self.right.lock()?.values().sum();
        expect("the money in both banks", MONEY, left + right)?;
        let book = self.book.lock()?;
        let bytes: usize = book.words.iter().map(|word| word.len()).sum();
        expect("the bytes of all words", book.bytes, bytes as u64)?;
        let sum = book
            .numbers
            .iter()
            .fold(0u64, |sum, n| sum.wrapping_add(*n));
        expect("the sum of the numbers", book.sum, sum)?;
        drop(book);
        let links = self.links.lock()?;
        let linked = links.blocks.iter().flatten().count() as u64;
        expect("the linked blocks", links.linked, linked)?;
        drop(links);
        for halves in self.halves.iter() {
            halves.read()?.verify()?;
            // None of the dead reads any more.
            drop(halves.write()?);
        }
        expect("the free permits", PERMITS, self.permits.available())?;
        let report = arena.check();
        if !report.is_clean() {
            std::thread::sleep(std::time::Duration::from_millis(200));
            let again = arena.check();
            return Err(format!("the arena is not in order:\n{report}\nlater:\n{again}").into());
        }
        Ok(())
    }
}

fn expect<T: PartialEq + std::fmt::Display>(what: &str, expected: T, found: T) -> Result {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what}: expected {expected}, found {found}").into())
}
