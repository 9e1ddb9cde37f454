//! Options for an arena's pages: what `Options::huge_pages` is worth where the kernel has them, and
//! `Options::populate`.

use crate::{
    measure::{Contest, OURS, Random, Row, memory, names, per_operation},
    rivals::name,
    settings::Settings,
    table::Report,
};
use sharena::{Arena, Root, collections::HashMap, sync::Mutex};
use std::{alloc::Layout, hint::black_box};

/// The same with pages of the usual size.
const SMALL: &str = "small pages";

type Map = Mutex<HashMap<u64, u64>>;

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    huge_pages(settings, report);
    populated(settings, report);
}

fn huge_pages(settings: &Settings, report: &mut Report) {
    let rows = vec![
        Row::new("huge pages: map u64, insert growing", &[]),
        Row::new("huge pages: map u64, hit", &[]),
    ];
    if !settings.wants(&names(&rows)) {
        return;
    }
    let entries = settings.scaled(4_000_000) as u64;
    let before = memory("ShmemHugePages:");
    let arenas = [arena(true), arena(false)];
    let [huge, small] = arenas.each_ref().map(filled(entries));
    let found = (memory("ShmemHugePages:") - before) >> 20;
    if found == 0 {
        report
            .title("huge pages: left out, since the kernel gave none (shmem_enabled, huge=advise)");
        return;
    }
    report.title(&format!(
        "huge pages: map of {entries}; the kernel gave {found} MiB of them"
    ));
    let mut contest = Contest::new(settings, rows);
    for (system, arena, map) in [(OURS, &arenas[0], &huge), (SMALL, &arenas[1], &small)] {
        contest.entrant(system, move || {
            let insert = || drop_named(arena, filled_as("again", entries)(arena));
            let mut random = Random(3);
            let map = map.lock().expect("free");
            let hit = || {
                for _ in 0..entries {
                    let key = random.below(entries as usize) as u64;
                    black_box(map.get(&key));
                }
            };
            let hit = per_operation(entries as usize, hit);
            drop(map);
            vec![per_operation(entries as usize, insert), hit]
        });
    }
    contest.run(report);
}

fn arena(huge: bool) -> Arena {
    let name = name(if huge { "huge" } else { "small" });
    let mut options = Arena::options();
    let arena = options.huge_pages(huge).named(&name);
    let arena = arena.expect("an arena can be created");
    Arena::unlink_named(&name).expect("the arena has a name");
    arena
}

fn filled(entries: u64) -> impl Fn(&Arena) -> Root<Map> {
    filled_as("map", entries)
}

fn filled_as(root: &'static str, entries: u64) -> impl Fn(&Arena) -> Root<Map> {
    move |arena| {
        let map = arena.root::<Map>(root).expect("there is room");
        let mut entered = map.lock().expect("free");
        for key in 0..entries {
            entered.insert(key, key).expect("there is room");
        }
        drop(entered);
        map
    }
}

fn drop_named(arena: &Arena, map: Root<Map>) {
    drop(map);
    arena.remove("again").expect("it is there");
}

/// Without `Options::populate`.
const TOUCHED: &str = "as touched";

fn populated(settings: &Settings, report: &mut Report) {
    let rows = vec![
        Row::new("populate: create 256 MiB", &[]).in_unit("us"),
        Row::new("populate: first write to a page", &[]),
    ];
    if !settings.wants(&names(&rows)) {
        return;
    }
    report.title("populate: an arena of 256 MiB, all of it committed at once");
    let mut contest = Contest::new(settings, rows).rounds(3).cold();
    contest.entrant(OURS, || create_and_write(true));
    contest.entrant(TOUCHED, || create_and_write(false));
    contest.run(report);
}

/// Microseconds to create an arena, and nanoseconds for each page that is written to.
fn create_and_write(populate: bool) -> Vec<f64> {
    const BYTES: usize = 256 << 20;
    const PAGE: usize = 4096;
    let mut arena = None;
    let create = || {
        let mut options = Arena::options();
        options.initial_size(BYTES as u64).populate(populate);
        arena = Some(options.anonymous().expect("an arena can be created"));
    };
    let created = per_operation(1, create) / 1000.0;
    let arena = arena.expect("it was created");
    let layout = Layout::from_size_align(BYTES / 4 * 3, PAGE).expect("a layout");
    let block = arena.alloc(layout).expect("there is room");
    let pages = layout.size() / PAGE;
    let written = per_operation(pages, || {
        for page in 0..pages {
            // SAFETY: in the block, which is this function's.
            unsafe { block.as_ptr().add(page * PAGE).write_volatile(1) };
        }
    });
    vec![created, written]
}
