//! Money moves between two maps, by processes that are killed at random. None is ever lost.
//!
//! ```sh
//! cargo run --release --example bank [SECONDS]
//! ```
//!
//! A transfer changes two objects, each behind a lock of its own. In `arena.transaction` both locks
//! belong to one unit: the transfer takes place at the end, as a whole; or, where it is refused, or
//! the process is killed before, not at all. The killed ones need no cleaning up: whoever locks next
//! finds everything in order.

mod processes;

use processes::{Name, Process, Result, argument};
use sharena::{Arena, Error, Root, Share, collections::HashMap, sync::Mutex};
use std::{
    env,
    hash::{BuildHasher, Hasher, RandomState},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

const TELLERS: usize = 4;
const ACCOUNTS: u64 = 100;
const MONEY: i64 = 1_000_000;

/// What the tellers did.
#[derive(Share, Default, Clone, Copy)]
#[repr(C)]
struct Counts {
    transfers: u64,
    refused: u64,
}

/// Why a transfer does not take place.
enum Refusal {
    NotEnoughMoney,
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Failed(error)
    }
}

/// A branch of the bank: the balance of each account.
type Branch = Root<Mutex<HashMap<u64, i64>>>;

fn main() -> ExitCode {
    processes::run(|part| match part {
        None => direct(),
        Some("teller") => transfer_for_ever(),
        Some(other) => processes::unknown_part(other),
    })
}

fn direct() -> Result {
    let seconds = seconds()?;
    let name = Name::new("bank");
    let arena = Arena::named(name.as_str())?;
    let branches = [open_branch(&arena, "north")?, open_branch(&arena, "south")?];
    let counts = arena.root::<Mutex<Counts>>("counts")?;

    let mut tellers = Vec::new();
    for _ in 0..TELLERS {
        tellers.push(Process::start("teller", &[name.as_str()])?);
    }
    let (mut kills, mut audits) = (0, 0);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end || kills == 0 {
        thread::sleep(Duration::from_micros(2_000 + random() % 20_000));
        tellers.swap_remove(random() as usize % TELLERS).kill()?;
        kills += 1;
        audit(&arena, &branches)?;
        audits += 1;
        tellers.push(Process::start("teller", &[name.as_str()])?);
    }
    for teller in tellers {
        teller.kill()?;
        kills += 1;
    }
    audit(&arena, &branches)?;
    // And no memory leaked: `check` goes through the whole arena, which nobody else uses now.
    arena.reap()?;
    let report = arena.check();
    if !report.is_clean() {
        return Err(format!("the arena is not in order: {report}").into());
    }
    let Counts { transfers, refused } = *counts.lock()?;
    println!(
        "{transfers} transfers, {refused} refused, {kills} tellers killed, {} audits",
        audits + 1
    );
    if transfers == 0 {
        return Err("nobody transferred anything".into());
    }
    println!("ok: the sum is still {}", 2 * MONEY);
    Ok(())
}

/// A root that is filled before anybody else sees it.
fn open_branch(arena: &Arena, name: &str) -> Result<Branch> {
    Ok(
        arena.root_with(name, |branch: &mut Mutex<HashMap<u64, i64>>| {
            let accounts = branch.get_mut()?;
            for account in 0..ACCOUNTS {
                accounts.insert(account, MONEY / ACCOUNTS as i64)?;
            }
            Ok(())
        })?,
    )
}

/// Adds up all accounts, while nobody else can move anything.
fn audit(arena: &Arena, [north, south]: &[Branch; 2]) -> Result {
    let sum = arena.section(|| {
        let (north, south) = (north.lock()?, south.lock()?);
        Ok(north.values().sum::<i64>() + south.values().sum::<i64>())
    })?;
    match sum == 2 * MONEY {
        true => Ok(()),
        false => Err(format!("the sum is {sum}, expected {}", 2 * MONEY).into()),
    }
}

fn transfer_for_ever() -> Result {
    let arena = Arena::named(&argument(1)?)?;
    let (north, south) = (arena.find("north")?, arena.find("south")?);
    let counts = arena.find::<Mutex<Counts>>("counts")?;
    loop {
        let account = random() % ACCOUNTS;
        // Less than nothing goes from the south to the north.
        let amount = (random() % 40_000) as i64 - 20_000;
        match transfer(&arena, [&north, &south], account, amount, &counts) {
            Ok(()) => {}
            Err(Refusal::NotEnoughMoney) => counts.lock()?.refused += 1,
            Err(Refusal::Failed(error)) => return Err(error.into()),
        }
    }
}

/// Moves money from the account in the north to that in the south.
fn transfer(
    arena: &Arena,
    [north, south]: [&Branch; 2],
    account: u64,
    amount: i64,
    counts: &Root<Mutex<Counts>>,
) -> std::result::Result<(), Refusal> {
    arena.try_transaction(|tx| {
        // Always in this order. (Were another process to take them the other way round, one of the
        // two would get an error in the end, `Deadlock`, rather than wait for ever.)
        let (mut north, mut south) = (tx.lock(north)?, tx.lock(south)?);
        let there = south.entry(account).or_default()?;
        *there += amount;
        // Killed here, this process would have given money that it took from nobody. But the
        // transaction has not ended, so it has not given anything.
        let here = north.entry(account).or_default()?;
        *here -= amount;
        if *here < 0 || *there < 0 {
            // What was done above is undone.
            return Err(Refusal::NotEnoughMoney);
        }
        tx.lock(counts)?.transfers += 1;
        Ok(())
    })
}

/// The numbers need not be good: `std` makes a random one for each of its hash maps.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn seconds() -> Result<f64> {
    let Some(text) = env::args().nth(1) else {
        return Ok(2.0);
    };
    match text.parse() {
        Ok(seconds) if (0.0..1e6).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?} is no time: expected the seconds to run").into()),
    }
}
