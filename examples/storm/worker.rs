//! One worker: does random things until it is killed.

use crate::{
    Random,
    world::{ACCOUNTS, Halves, World},
};
use sharena::{Arena, Error, Result, collections::Vec, sync::Mutex};
use std::{process::ExitCode, time::Duration};

/// Runs with the arguments mode, arena, number, seed.
pub(crate) fn run(arguments: &[std::string::String]) -> ExitCode {
    let [mode, name, number, seed] = arguments else {
        return ExitCode::FAILURE;
    };
    if mode == "--alone" && std::process::id() != 1 {
        eprintln!("a worker is not alone in its namespace");
        return ExitCode::FAILURE;
    }
    match work(name, number, seed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker {number} (seed {seed}): {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(name: &str, number: &str, seed: &str) -> Result {
    let number: usize = number.parse().map_err(Error::other)?;
    let mut random = Random::new(seed.parse().map_err(Error::other)?);
    let arena = Arena::named(name)?;
    let world = World::create(&arena)?;
    loop {
        match random.below(59) {
            0..9 => transfer(&arena, &world, &mut random)?,
            9..14 => transact(&arena, &world, &mut random)?,
            14..22 => write(&world, &mut random)?,
            22..25 => count(&world, &mut random)?,
            25..27 => recount(&world, &mut random)?,
            27..34 => link(&arena, &world, &mut random)?,
            34..38 => take_a_permit(&world, &mut random)?,
            38..41 => name_and_unname(&arena, &mut random)?,
            41..51 => or_deadlock(read(&world, &mut random))?,
            51..55 => or_deadlock(write_halves(&world, &mut random))?,
            55..58 => or_deadlock(read_and_write(&arena, &world, &mut random))?,
            _ => fork_one(&arena, &world, &mut random)?,
        }
        world.note_progress(number);
    }
}

/// Money moves from one bank to the other: two locks, one unit.
fn transfer(arena: &Arena, world: &World, random: &mut Random) -> Result {
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    let amount = random.below(100) as i64;
    let moved = arena.section(|| {
        let (mut left, mut right) = match random.below(2) {
            0 => (world.left.lock()?, world.right.lock()?),
            _ => {
                let right = world.right.lock()?;
                (world.left.lock()?, right)
            }
        };
        // An account is taken out and put in again, so that the map is rearranged as well.
        let balance = left.get(&from).copied().unwrap_or(0);
        left.remove(&from);
        *right.entry(to).or_default()? += amount;
        left.insert(from, balance - amount)?;
        Ok(())
    });
    match moved {
        // Taking the locks in another order is asking for it: nothing was changed then.
        Err(Error::Deadlock { .. }) => Ok(()),
        done => done,
    }
}

/// The same in a transaction, which is undone where an account has not enough, and for no reason.
fn transact(arena: &Arena, world: &World, random: &mut Random) -> Result {
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    let amount = random.below(100) as i64;
    let (order, whim) = (random.below(2), random.below(4));
    let moved = arena.transaction(|tx| {
        let (mut left, mut right) = match order {
            0 => (tx.lock(&world.left)?, tx.lock(&world.right)?),
            _ => {
                let right = tx.lock(&world.right)?;
                (tx.lock(&world.left)?, right)
            }
        };
        let balance = right.get(&from).copied().unwrap_or(0);
        right.remove(&from);
        *left.entry(to).or_default()? += amount;
        if balance < amount || whim == 0 {
            return Err(Error::WouldBlock);
        }
        right.insert(from, balance - amount)?;
        Ok(())
    });
    match moved {
        Err(Error::WouldBlock | Error::Deadlock { .. }) => Ok(()),
        done => done,
    }
}

/// Words come and go, and their length is kept beside them.
fn write(world: &World, random: &mut Random) -> Result {
    let mut book = world.book.lock()?;
    match random.below(4) {
        0 | 1 => {
            let word = "storm ".repeat(random.below(12) as usize);
            book.words.push_from(word.as_str())?;
            book.bytes += word.len() as u64;
        }
        2 => {
            if let Some(word) = book.words.last_mut() {
                word.push_str("!")?;
                book.bytes += 1;
            }
        }
        _ if book.words.len() > 50 => {
            let len = random.below(50) as usize;
            let gone: usize = book.words[len..].iter().map(|word| word.len()).sum();
            book.words.truncate(len);
            book.bytes -= gone as u64;
        }
        _ => {}
    }
    Ok(())
}

/// A list of numbers grows large and is cut again: spans, growth in place.
fn count(world: &World, random: &mut Random) -> Result {
    let mut book = world.book.lock()?;
    if book.numbers.len() > 200_000 {
        book.numbers = Vec::new();
        book.sum = 0;
        return Ok(());
    }
    for _ in 0..random.below(5000) {
        let number = random.below(1 << 40);
        book.numbers.push(number)?;
        book.sum = book.sum.wrapping_add(number);
    }
    Ok(())
}

/// Every number changes: a long journal, which takes long to undo.
fn recount(world: &World, random: &mut Random) -> Result {
    let mut book = world.book.lock()?;
    let less = random.below(1 << 20);
    let book = &mut *book;
    for number in book.numbers.iter_mut() {
        let fewer = number.saturating_sub(less);
        book.sum = book.sum.wrapping_sub(*number - fewer);
        *number = fewer;
    }
    Ok(())
}

/// A block is linked where another was, which is freed.
fn link(arena: &Arena, world: &World, random: &mut Random) -> Result {
    let block = arena.alloc_value(random.below(1000))?;
    let mut links = world.links.lock()?;
    let place = random.below(16) as usize;
    if let Some(old) = links.blocks[place].take() {
        // SAFETY: linked here only, and taken out just now.
        unsafe { arena.dealloc(old)? };
        links.linked -= 1;
    }
    if random.below(3) > 0 {
        block.link(&mut links.blocks[place])?;
        links.linked += 1;
    }
    Ok(())
}

/// Several read at once, and each finds what a writer left whole.
fn read(world: &World, random: &mut Random) -> Result {
    let one = world.halves[0].read()?;
    let other = match random.below(2) {
        0 => Some(world.halves[1].read()?),
        _ => None,
    };
    one.verify()?;
    let again = world.halves[0].read()?;
    drop(one);
    if random.below(8) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(300)));
    }
    other.map_or(Ok(()), |other| other.verify())?;
    again.verify()
}

fn change(halves: &mut Halves) -> Result {
    halves.left += 1;
    if halves.list.len() >= 100 {
        halves.left = 0;
        halves.list = Vec::new();
    } else {
        halves.list.push(7)?;
    }
    halves.right = halves.left;
    Ok(())
}

fn write_halves(world: &World, random: &mut Random) -> Result {
    let mut halves = world.halves[random.below(2) as usize].write()?;
    change(&mut halves)
}

/// A unit that reads one, writes the other, and finds the first as it was.
fn read_and_write(arena: &Arena, world: &World, random: &mut Random) -> Result {
    let from = random.below(2) as usize;
    arena.section(|| {
        let before = world.halves[from].read()?.left;
        change(&mut *world.halves[1 - from].write()?)?;
        let after = world.halves[from].read()?;
        after.verify()?;
        if before != after.left {
            return Err("what a section had read was changed meanwhile".into());
        }
        Ok(())
    })
}

/// Sections read what others want to write, and these may wait in a circle: nothing was changed then.
fn or_deadlock(done: Result) -> Result {
    match done {
        Err(Error::Deadlock { .. }) => Ok(()),
        done => done,
    }
}

fn take_a_permit(world: &World, random: &mut Random) -> Result {
    let permit = world.permits.acquire()?;
    if random.below(8) == 0 {
        std::thread::sleep(Duration::from_micros(random.below(300)));
    }
    drop(permit);
    Ok(())
}

/// Roots come and go.
fn name_and_unname(arena: &Arena, random: &mut Random) -> Result {
    let name = format!("root {}", random.below(8));
    let root = arena.root::<Mutex<Vec<u64>>>(&name)?;
    root.lock()?.push(1)?;
    if random.below(2) == 0 {
        match arena.remove(&name) {
            Ok(()) | Err(Error::UnknownRoot { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A child works too, and ends in the middle of it half of the time.
fn fork_one(arena: &Arena, world: &World, random: &mut Random) -> Result {
    let parent = std::process::id();
    // SAFETY: the process has one thread, and the child uses nothing from before but handles.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: a plain request: the child dies with its parent.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            // It may have died before the request.
            if std::os::unix::process::parent_id() != parent {
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            let done = link(arena, world, random).and_then(|()| write(world, random));
            let guard = world.book.lock();
            let code = i32::from(done.is_err() || guard.is_err());
            // SAFETY: ends the child at once, with the guard still there: a death.
            unsafe { libc::_exit(code) }
        }
        child if child > 0 => {
            let mut status = 0;
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            if status != 0 {
                return Err(format!("a forked child failed: {status:#x}").into());
            }
            Ok(())
        }
        _ => Err(std::io::Error::last_os_error().into()),
    }
}
