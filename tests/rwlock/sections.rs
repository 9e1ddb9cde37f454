//! Read locks in sections and transactions.

use super::*;

/// S2: what a section read stays as it was read, until the section ends.
#[test]
fn a_section_keeps_what_it_read() {
    let (arena, world) = world();
    arena
        .section(|| {
            assert_eq!(*world.pair.read()?, [0, 0]);
            assert!(is_readable(&world.pair) && !is_writable(&world.pair));
            arena.section(|| {
                drop(world.other.read()?);
                Ok(())
            })?;
            assert!(!is_writable(&world.other));
            // Ours again at once.
            drop(world.pair.read()?);
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&world.pair) && is_writable(&world.other));
    check(&arena);
}

#[test]
fn a_section_writes_what_it_read_and_reads_what_it_wrote() {
    let (arena, world) = world();
    arena
        .section(|| {
            let before = *world.pair.read()?;
            *world.pair.write()? = [before[0] + 1, before[1] + 1];
            let read = world.pair.read()?;
            assert_eq!(*read, [1, 1]);
            assert!(matches!(world.pair.write(), Err(Error::WouldDeadlock)));
            drop(read);
            assert!(!is_readable(&world.pair));
            world.pair.write()?[1] += 0;
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&world.pair));
    assert_eq!(*world.pair.read().unwrap(), [1, 1]);
    check(&arena);
}

/// A guard from before, or one that leaves: its lock is held as long as it lives.
#[test]
fn read_guards_across_the_ends_of_sections() {
    let (arena, world) = world();
    let from_before = world.pair.read().unwrap();
    let leaves = arena.section(|| world.other.read()).unwrap();
    assert!(!is_writable(&world.pair) && !is_writable(&world.other));
    drop(leaves);
    assert!(is_writable(&world.other));
    arena
        .section(|| {
            drop(from_before);
            assert!(!is_writable(&world.pair), "retained");
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&world.pair));
    // One that was written: the lock is left to be read.
    let leaves = arena
        .section(|| {
            *world.other.write()? += 1;
            world.other.read()
        })
        .unwrap();
    assert_eq!(*leaves, 1);
    assert!(is_readable(&world.other) && !is_writable(&world.other));
    drop(leaves);
    assert!(is_writable(&world.other));
}

/// Read locks follow neither what is moved nor what is freed (J4).
#[test]
fn locks_that_are_moved_or_freed_are_read_no_more() {
    let arena = Arena::in_memory().unwrap();
    let lists = arena
        .root::<Mutex<collections::Vec<RwLock<u64>>>>("lists")
        .unwrap();
    arena
        .section(|| {
            let mut list = lists.lock()?;
            list.push(RwLock::new(1))?;
            list.push(RwLock::new(2))?;
            drop(list[0].read()?);
            mem::forget(list[1].read()?);
            list.swap(0, 1);
            // Neither is the lock that was read any more.
            assert_eq!((*list[0].read()?, *list[1].read()?), (2, 1));
            list.clear();
            list.shrink_to_fit()?;
            list.push(RwLock::new(3))?;
            *list[0].write()? += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(*lists.lock().unwrap()[0].read().unwrap(), 4);
    check(&arena);
}

/// A transaction reads and writes through itself.
#[test]
fn transactions() {
    let (arena, world) = world();
    let world = &world;
    arena
        .transaction(|tx| {
            assert!(matches!(world.pair.read(), Err(Error::InTransaction)));
            assert!(matches!(world.pair.write(), Err(Error::InTransaction)));
            let read = *tx.read(&world.other)?;
            assert!(!is_writable(&world.other));
            tx.write(&world.pair)?[0] = read + 1;
            tx.try_write(&world.pair)?[1] = *tx.try_read(&world.other)? + 1;
            mem::forget(tx.read(&world.other)?);
            Ok(())
        })
        .unwrap();
    assert!(is_writable(&world.other) && is_writable(&world.pair));
    assert_eq!(*world.pair.read().unwrap(), [1, 1]);
    let undone = arena.transaction(|tx| -> Result<(), Error> {
        *tx.write(&world.pair)? = [5, 6];
        assert_eq!(*tx.read(&world.pair)?, [5, 6]);
        drop(tx.try_read_for(&world.other, LONG)?);
        drop(tx.try_write_for(&world.other, LONG)?);
        Err("no".into())
    });
    assert!(undone.is_err());
    assert!(is_writable(&world.other) && is_writable(&world.pair));
    assert_eq!(*world.pair.read().unwrap(), [1, 1]);
    check(&arena);
}

/// S2: who waits for a permit might wait for somebody who waits for what the section has read.
#[test]
fn no_waiting_for_permits_while_a_section_keeps_what_it_read() {
    let arena = Arena::in_memory().unwrap();
    let lock = arena.root::<RwLock<u64>>("lock").unwrap();
    let permits = arena.root::<Semaphore>("permits").unwrap();
    arena
        .section(|| {
            drop(lock.read()?);
            assert!(matches!(permits.acquire(), Err(Error::InSection)));
            Ok(())
        })
        .unwrap();
    let _read = lock.read().unwrap();
    let short = permits.try_acquire_for(SHORT);
    assert!(matches!(short, Err(Error::TimedOut)));
}
