//! Sixteen processes race to create one arena, and some are killed: there is always exactly one good
//! arena, and nothing is left over.

mod common;

use common::{Forked, Random};
use sharena::{Arena, sync::Mutex};
use std::{fs, path::PathBuf, thread, time::Duration};

const RACERS: usize = 16;

/// Opens or creates, counts itself, and says which arena it found.
fn race(path: &PathBuf, ids: &fs::File) -> i32 {
    use std::io::Write;
    // SAFETY: the file is used by the racers only, through sharena.
    let arena = unsafe { Arena::options().max_size(1 << 24).open_or_create(path) };
    let Ok(arena) = arena else {
        return 1;
    };
    let Ok(root) = arena.root::<Mutex<u64>>("racers") else {
        return 2;
    };
    let counted = root.lock().map(|mut racers| *racers += 1);
    if counted.is_err() {
        return 3;
    }
    let mut ids = ids;
    i32::from(ids.write_all(&arena.id().to_le_bytes()).is_err()) * 4
}

#[test]
fn one_arena_whoever_is_killed() {
    let directory = PathBuf::from(format!("/dev/shm/sharena-race-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let mut random = Random(5);
    for round in 0..40 {
        let path = directory.join(format!("arena-{round}"));
        let ids_path = directory.join("ids");
        let ids = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&ids_path)
            .unwrap();
        let mut racers: Vec<_> = (0..RACERS)
            .map(|_| Forked::run(|| race(&path, &ids)))
            .collect();
        thread::sleep(Duration::from_micros(random.below(4000)));
        let killed = random.below(RACERS as u64 / 2) as usize;
        racers.iter_mut().take(killed).for_each(Forked::kill);
        racers.into_iter().skip(killed).for_each(Forked::succeed);
        let found = fs::read(&ids_path).unwrap();
        assert!(
            found.chunks(8).all(|id| id == &found[..8]),
            "several arenas"
        );
        // SAFETY: as above.
        let arena = unsafe { Arena::open(&path) }.unwrap();
        assert_eq!(arena.id().to_le_bytes(), found[..8]);
        let counted = *arena.find::<Mutex<u64>>("racers").unwrap().lock().unwrap();
        assert!(
            counted as usize >= RACERS - killed,
            "{counted} of {RACERS}, {killed} killed"
        );
        arena.reap().unwrap();
        assert!(arena.check().is_clean(), "{}", arena.check());
        fs::remove_file(&path).unwrap();
        fs::remove_file(&ids_path).unwrap();
    }
    assert_eq!(
        fs::read_dir(&directory).unwrap().count(),
        0,
        "something was left over"
    );
    fs::remove_dir(&directory).unwrap();
}
