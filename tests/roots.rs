//! Roots: created once, whoever races; removed as files are, whoever still has them.

mod common;

use common::{Forked, await_stage, reach, until};
use sharena::{
    Arena, Error, Root, Share,
    collections::{HashMap, String, Vec},
    sync::Mutex,
};
use std::{
    sync::atomic::{AtomicU32, Ordering::*},
    thread,
    time::Duration,
};

type Names = Mutex<HashMap<u64, Vec<String>>>;

fn fill(names: &mut Names) -> sharena::Result {
    let names = names.get_mut()?;
    for n in 0..20u64 {
        let list = names.entry(n).or_default()?;
        list.push_from("a name")?;
        list.push_from("a longer name that takes a block of its own")?;
    }
    Ok(())
}

fn arena() -> (Arena, Root<[AtomicU32; 4]>) {
    let arena = Arena::options().max_size(16 << 20).anonymous().unwrap();
    let stages = arena.root::<[AtomicU32; 4]>("stages").unwrap();
    (arena, stages)
}

#[test]
fn found_listed_and_removed() {
    // In a process of its own: what is there when a process forks, as the other tests here do,
    // counts until the process ends.
    Forked::run(|| {
        find_list_and_remove();
        0
    })
    .succeed();
}

fn find_list_and_remove() {
    let (arena, _stages) = arena();
    let names = arena.root_with::<Names>("names", fill).unwrap();
    assert_eq!(names.lock().unwrap().len(), 20);
    assert_eq!(
        arena.find::<Names>("names").unwrap().lock().unwrap().len(),
        20
    );
    let listed = arena.roots().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1].name, "names");
    assert_eq!(listed[1].type_name, "Mutex<HashMap<u64, Vec<String>>>");
    assert_eq!(listed[1].offset, names.rel_ptr().offset());
    arena.remove("names").unwrap();
    assert!(matches!(
        arena.find::<Names>("names"),
        Err(Error::UnknownRoot { .. })
    ));
    // Who has it goes on with it, while another takes the name.
    names.lock().unwrap().remove(&3);
    let new = arena.root::<Names>("names").unwrap();
    assert!(new.lock().unwrap().is_empty());
    let other = names.clone();
    drop(names);
    assert_eq!(other.lock().unwrap().len(), 19);
    let used = arena.stats().used;
    drop(other);
    assert!(arena.stats().used < used, "what nobody has is freed");
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn a_failed_or_panicking_filling_creates_nothing() {
    let (arena, _stages) = arena();
    let failed = arena.root_with::<Names>("names", |names| {
        fill(names)?;
        Err("no".into())
    });
    assert_eq!(failed.err().unwrap().to_string(), "no");
    let panicked = thread::scope(|scope| {
        let fill_and_panic = || {
            arena.root_with::<Names>("names", |names| {
                fill(names)?;
                panic!("on purpose")
            })
        };
        scope.spawn(move || drop(fill_and_panic())).join().is_err()
    });
    assert!(panicked);
    assert_eq!(arena.roots().unwrap().len(), 1);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn one_value_whoever_races() {
    let (arena, stages) = arena();
    for round in 0..20u32 {
        let name = format!("root {round}");
        let racers: std::vec::Vec<_> = (0..16u64)
            .map(|n| {
                Forked::run(|| {
                    let root = arena.root_with::<Mutex<u64>>(&name, |value| {
                        *value = Mutex::new(1000 * (n + 1));
                        Ok(())
                    });
                    *root.unwrap().lock().unwrap() += 1;
                    0
                })
            })
            .collect();
        racers.into_iter().for_each(Forked::succeed);
        let value = *arena.find::<Mutex<u64>>(&name).unwrap().lock().unwrap();
        assert_eq!(value % 1000, 16, "{value}");
    }
    drop(stages);
    arena.reap().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn kept_by_another_process_until_it_goes_or_is_killed() {
    for killed in [false, true] {
        let (arena, stages) = arena();
        let names = arena.root_with::<Names>("names", fill).unwrap();
        drop(names);
        let mut holder = Forked::run(|| {
            let names = arena.find::<Names>("names").unwrap();
            reach(&stages[0], 1);
            until("told", || stages[0].load(Acquire) >= 2);
            let kept = names.lock().unwrap().len() == 20;
            reach(&stages[0], 3);
            if killed {
                thread::sleep(Duration::from_secs(60));
            }
            i32::from(!kept)
        });
        await_stage(&stages[0], 1);
        arena.remove("names").unwrap();
        let used = arena.stats().used;
        arena.reap().unwrap();
        assert_eq!(arena.stats().used, used, "freed although somebody has it");
        reach(&stages[0], 2);
        await_stage(&stages[0], 3);
        if killed {
            holder.kill();
        } else {
            holder.succeed();
        }
        arena.reap().unwrap();
        assert!(arena.stats().used < used, "not freed");
        assert!(arena.check().is_clean(), "{}", arena.check());
    }
}

#[test]
fn creators_are_killed_at_any_time() {
    let (arena, stages) = arena();
    for round in 0..150u64 {
        let mut creator = Forked::run(|| {
            for n in 0.. {
                let name = format!("root {}", n % 5);
                let root = arena.root_with::<Names>(&name, fill).unwrap();
                stages[1].fetch_add(1, Relaxed);
                drop(root);
                let _ = arena.remove(&name);
            }
            0
        });
        thread::sleep(Duration::from_micros(round * 37 % 3000));
        creator.kill();
        for info in arena.roots().unwrap() {
            if info.name != "stages" {
                let root = arena.find::<Names>(&info.name).unwrap();
                assert_eq!(root.lock().unwrap().len(), 20, "half a root");
            }
        }
    }
    assert!(stages[1].load(Relaxed) > 0);
    for info in arena.roots().unwrap() {
        if info.name != "stages" {
            arena.remove(&info.name).unwrap();
        }
    }
    arena.reap().unwrap();
    assert!(arena.check().is_clean(), "{}", arena.check());
    assert_eq!(arena.roots().unwrap().len(), 1);
}

#[test]
fn a_type_of_another_shape_is_refused_by_name() {
    mod one {
        use super::*;
        #[derive(Share, Default)]
        #[repr(C)]
        pub(super) struct Order {
            id: u64,
            price: f64,
        }
    }
    mod two {
        use super::*;
        #[derive(Share, Default)]
        #[repr(C)]
        pub(super) struct Order {
            id: u64,
            price: f32,
        }
    }
    mod same {
        use super::*;
        #[derive(Share, Default)]
        #[repr(C)]
        pub(super) struct Order {
            id: u64,
            price: f64,
        }
    }
    let (arena, _stages) = arena();
    arena.root::<Mutex<one::Order>>("order").unwrap();
    arena.root::<Mutex<same::Order>>("order").unwrap();
    match arena.root::<Mutex<two::Order>>("order") {
        Err(Error::TypeMismatch {
            expected, found, ..
        }) => {
            assert!(
                expected.contains("f32") && found.contains("f64"),
                "{expected}\n{found}"
            );
        }
        other => panic!("{:?}", other.err()),
    }
}
