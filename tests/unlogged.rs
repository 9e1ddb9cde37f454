//! What is unlogged stays as it was written; everything beside it is put back.

use sharena::{
    Arena, Error, Share,
    collections::{Box, HashMap, String, Vec},
    share::Unlogged,
    sync::Mutex,
};

#[derive(Share, Default)]
#[repr(C)]
struct Frame {
    number: u64,
    pixels: Unlogged<[[u16; 8]; 4]>,
    name: String,
    more: [Unlogged<u64>; 2],
    end: u32,
}

#[derive(Share, Default)]
#[repr(C)]
struct World {
    inline: Frame,
    list: Vec<Frame>,
    samples: Vec<Unlogged<u64>>,
    boxed: Box<Frame>,
    map: HashMap<u64, Frame>,
}

fn change(frame: &mut Frame, by: u64) {
    frame.number += by;
    frame.pixels[1][1] += by as u16;
    frame
        .name
        .push_str(if by == 1 { "a" } else { "b" })
        .unwrap();
    frame.more[1].0 += by;
    frame.end += by as u32;
}

fn change_all(world: &mut World, by: u64) {
    change(&mut world.inline, by);
    change(&mut world.list[1], by);
    world.list.iter_mut().for_each(|frame| change(frame, by));
    change(world.boxed.get_mut().unwrap(), by);
    change(world.map.get_mut(&1).unwrap(), by);
    world.map.values_mut().for_each(|frame| change(frame, by));
    for sample in world.samples.as_mut_slice() {
        sample.0 += by;
    }
}

fn look(frame: &Frame) -> Look {
    let name = frame.name.to_string();
    (
        frame.number,
        frame.pixels[1][1].into(),
        name,
        frame.more[1].0,
        frame.end.into(),
    )
}

fn observe(world: &World) -> std::vec::Vec<Look> {
    let samples = world.samples.iter().map(|sample| sample.0).sum();
    let mut all = vec![
        look(&world.inline),
        (0, samples, std::string::String::new(), samples, 0),
    ];
    all.extend(world.list.iter().map(look));
    all.push(look(world.boxed.get().unwrap()));
    all.push(look(&world.map[&1]));
    all
}

fn arena() -> (Arena, sharena::Root<Mutex<World>>) {
    let arena = Arena::options().max_size(16 << 20).in_memory().unwrap();
    let world = arena.root::<Mutex<World>>("world").unwrap();
    let mut guard = world.lock().unwrap();
    for _ in 0..3 {
        guard.list.push(Frame::default()).unwrap();
        guard.samples.push(Unlogged(0)).unwrap();
    }
    guard.boxed.set(Frame::default()).unwrap();
    guard.map.insert(1, Frame::default()).unwrap();
    change_all(&mut guard, 1);
    drop(guard);
    (arena, world)
}

type Look = (u64, u64, std::string::String, u64, u64);

/// What is to be there: of the logged parts what was before, of the others what came after.
fn mixed(before: std::vec::Vec<Look>, after: std::vec::Vec<Look>) -> std::vec::Vec<Look> {
    let pairs = before.into_iter().zip(after);
    pairs
        .map(|(old, new)| (old.0, new.1, old.2, new.3, old.4))
        .collect()
}

#[test]
fn a_death_leaves_it_as_it_was_written() {
    let (arena, world) = arena();
    let mut guard = world.lock().unwrap();
    let before = observe(&guard);
    change_all(&mut guard, 2);
    let expected = mixed(before.clone(), observe(&guard));
    assert_ne!(expected, before);
    // What a kill would leave here.
    let image = arena.image();
    drop(guard);
    drop((world, arena));
    let arena = Arena::from_image(&image).unwrap();
    let world = arena.find::<Mutex<World>>("world").unwrap();
    let world = world.lock().unwrap();
    assert_eq!(observe(&world), expected);
    drop(world);
    assert!(arena.check().is_clean(), "{}", arena.check());
}

#[test]
fn undoing_leaves_it_too() {
    let (arena, world) = arena();
    let before = observe(&world.lock().unwrap());
    let undone = arena.transaction(|tx| {
        change_all(&mut *tx.lock(&world)?, 2);
        Err::<(), _>(Error::other("no"))
    });
    assert!(undone.is_err());
    let after = observe(&world.lock().unwrap());
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((old.0, &old.2, old.4), (new.0, &new.2, new.4));
        assert!(new.1 > old.1 && new.3 > old.3);
    }
    assert!(arena.check().is_clean(), "{}", arena.check());
}

/// A million unlogged numbers are changed in an arena that has no room for a copy of them.
#[test]
fn it_takes_no_room_in_the_journal() {
    let arena = Arena::options().max_size(12 << 20).in_memory().unwrap();
    let fill = |unlogged: bool| -> sharena::Result {
        if unlogged {
            let root = arena.root::<Mutex<Vec<Unlogged<u64>>>>("unlogged")?;
            root.lock()?.resize(1 << 20, Unlogged(1))?;
            root.lock()?.try_as_mut_slice()?.fill(Unlogged(2));
            arena.remove("unlogged")
        } else {
            let root = arena.root::<Mutex<Vec<u64>>>("logged")?;
            root.lock()?.resize(1 << 20, 1)?;
            root.lock()?.try_as_mut_slice()?.fill(2);
            arena.remove("logged")
        }
    };
    fill(true).unwrap();
    assert!(matches!(
        fill(false),
        Err(Error::Full { .. } | Error::NoSpace { .. })
    ));
}
