//! Semaphores across processes, some of which are killed.

mod common;

use common::{Forked, Random, await_stage, reach, until};
use sharena::{
    Arena, Error, Root, Share,
    sync::{Mutex, Semaphore},
};
use std::{
    sync::atomic::{AtomicU32, Ordering::*},
    thread,
    time::Duration,
};

#[derive(Share, Default)]
#[repr(C)]
struct World {
    permits: Semaphore,
    signal: Semaphore,
    inside: AtomicU32,
    stage: AtomicU32,
    lock: Mutex<u64>,
}

fn world(permits: u32) -> (Arena, Root<World>) {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let world = arena.root_with::<World>("world", |world| {
        world.permits = Semaphore::new(permits);
        Ok(())
    });
    (arena, world.unwrap())
}

#[test]
fn no_more_than_so_many_at_a_time() {
    let (_arena, world) = world(2);
    let children: Vec<_> = (0..5)
        .map(|_| {
            Forked::run(|| {
                for _ in 0..300 {
                    let permit = world.permits.acquire().unwrap();
                    if world.inside.fetch_add(1, AcqRel) >= 2 {
                        return 1;
                    }
                    thread::yield_now();
                    world.inside.fetch_sub(1, AcqRel);
                    drop(permit);
                }
                0
            })
        })
        .collect();
    children.into_iter().for_each(Forked::succeed);
    assert_eq!(world.permits.available(), 2);
}

#[test]
fn a_permit_of_a_killed_process_comes_back_to_a_waiter() {
    let (_arena, world) = world(1);
    for round in 1..=20 {
        let mut holder = Forked::run(|| {
            let _permit = world.permits.acquire().unwrap();
            reach(&world.stage, round);
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        });
        await_stage(&world.stage, round);
        assert!(matches!(
            world.permits.try_acquire(),
            Err(Error::WouldBlock)
        ));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| drop(world.permits.acquire().unwrap()));
            thread::sleep(Duration::from_millis(2));
            holder.kill();
            waiter.join().unwrap();
        });
        assert_eq!(world.permits.available(), 1);
    }
}

#[test]
fn posts_are_signals() {
    let (_arena, world) = world(0);
    let child = Forked::run(|| {
        for _ in 0..500 {
            world.permits.acquire().unwrap().forget();
            world.signal.post().unwrap();
        }
        0
    });
    for _ in 0..500 {
        world.permits.post().unwrap();
        world.signal.acquire().unwrap().forget();
    }
    child.succeed();
    assert_eq!(
        (world.permits.available(), world.signal.available()),
        (0, 0)
    );
    world.signal.post_many(3).unwrap();
    assert_eq!(world.signal.available(), 3);
}

#[test]
fn trying_and_refusals() {
    let (arena, world) = world(0);
    assert!(matches!(
        world.permits.try_acquire(),
        Err(Error::WouldBlock)
    ));
    let short = Duration::from_millis(20);
    assert!(matches!(
        world.permits.try_acquire_for(short),
        Err(Error::TimedOut)
    ));
    let on_the_stack = Semaphore::new(1);
    assert!(matches!(on_the_stack.acquire(), Err(Error::NotInArena)));
    assert!(world.permits.post_many(u32::MAX).is_ok());
    assert!(world.permits.post().is_err(), "beyond the most");
    // Waiting while a section retains a lock would keep others from giving the permit.
    arena
        .section(|| {
            drop(world.lock.lock()?);
            assert!(matches!(world.signal.acquire(), Err(Error::InSection)));
            Ok(())
        })
        .unwrap();
}

#[test]
fn permits_of_many_semaphores() {
    let arena = Arena::options().max_size(16 << 20).in_memory().unwrap();
    let many = arena
        .root_with::<[[Semaphore; 20]; 2]>("many", |many| {
            for one in many.iter_mut().flatten() {
                *one = Semaphore::new(1);
            }
            Ok(())
        })
        .unwrap();
    let mut permits = Vec::new();
    let error = loop {
        match many[permits.len() / 20][permits.len() % 20].acquire() {
            Ok(permit) => permits.push(permit),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, Error::TooManyPermits { limit: 32 }),
        "{error:?}"
    );
    assert_eq!(permits.len(), 32);
    permits.clear();
    assert!(many.iter().flatten().all(|one| one.available() == 1));
}

#[test]
fn nothing_is_lost_over_many_kills() {
    let (arena, world) = world(3);
    let mut random = Random(9);
    for _ in 0..200 {
        let mut workers: Vec<_> = (0..3)
            .map(|_| {
                Forked::run(|| {
                    loop {
                        let one = world.permits.acquire().unwrap();
                        let two = world.permits.try_acquire();
                        world.stage.fetch_add(1, Relaxed);
                        drop(one);
                        drop(two);
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_micros(random.below(2000)));
        workers.iter_mut().for_each(Forked::kill);
        drop(workers);
        arena.reap().unwrap();
        assert_eq!(world.permits.available(), 3);
    }
    until("they did something", || world.stage.load(Relaxed) > 0);
}
