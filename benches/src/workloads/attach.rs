//! Coming to an arena that others filled.

use crate::{
    measure::{Bar, Contest, OURS, Row, names, per_operation_waiting},
    processes::{Worker, obey},
    rivals::name,
    settings::Settings,
    table::Report,
};
use sharena::{
    Arena,
    collections::{HashMap, Vec as SharedVec},
    sync::Mutex,
};

const ENTRIES: &str = "entries";
/// The small arena, as a rival of the large one.
const SMALL: &str = "a small one";
const BYTES: &str = "bytes";
type Entries = Mutex<HashMap<u64, u64>>;

pub(crate) fn run(settings: &Settings, report: &mut Report) {
    let limit = Bar::AtMost(100.0);
    let (entries, bytes) = match settings.quick {
        true => (1_000_000, 256 << 20),
        false => (10_000_000, 4 << 30),
    };
    let rows = vec![
        Row::new("attach: open, find; small", &[limit]).in_unit("us"),
        Row::new(
            format!("attach: open, find; {} MiB", bytes >> 20),
            &[limit, Bar::Times(SMALL, 1.2)],
        )
        .in_unit("us"),
    ];
    if !settings.wants(&names(&rows)) {
        return;
    }
    report.title(&format!(
        "attach: a new process opens an arena and finds a root; small: 1000 entries, large: {entries}"
    ));
    let small = Filled::new(1000, 0);
    let large = Filled::new(entries, bytes);
    let mut contest = Contest::new(settings, rows).rounds(15).cold();
    contest.entrant(OURS, || {
        vec![attach(OURS, &small.name), attach(OURS, &large.name)]
    });
    contest.entrant(SMALL, || vec![f64::NAN, attach(OURS, &small.name)]);
    let lmdb = crate::rivals::maps::Lmdb::new();
    contest.entrant("LMDB", move || vec![attach("LMDB", lmdb.path()), f64::NAN]);
    #[cfg(boost)]
    for boost in crate::rivals::boost::all() {
        let segment = boost.create(256 << 20);
        segment.name_number(ENTRIES);
        contest.entrant(boost.name, move || {
            vec![attach(boost.name, segment.path()), f64::NAN]
        });
    }
    contest.run(report);
}

/// An arena with so many entries, and as large.
struct Filled {
    name: String,
}

impl Filled {
    fn new(entries: u64, bytes: u64) -> Filled {
        let name = name("attach");
        let arena = Arena::named(&name).expect("an arena can be created");
        let map = arena.root::<Entries>(ENTRIES).expect("there is room");
        let mut map = map.lock().expect("free");
        for key in 0..entries {
            map.insert(key, key).expect("there is room");
        }
        drop(map);
        let fill = arena.root::<Mutex<SharedVec<u64>>>(BYTES);
        let fill = fill.expect("there is room");
        let mut fill = fill.lock().expect("free");
        let missing = bytes.saturating_sub(arena.stats().committed) / 8;
        fill.reserve_exact(missing as usize).expect("there is room");
        (0..missing).for_each(|number| fill.push(number).expect("reserved"));
        Filled { name }
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = Arena::unlink_named(&self.name);
    }
}

/// Microseconds until a new process has it.
fn attach(system: &str, file: &str) -> f64 {
    let mut worker = Worker::start(1, "attach", &[system, file]);
    worker.order(1);
    worker.answer() / 1000.0
}

/// A process that attaches.
pub(crate) fn play(system: &str, file: &str) {
    #[cfg(boost)]
    if let Some(boost) = crate::rivals::boost::named(system) {
        return obey(|_| {
            per_operation_waiting(1, || {
                let segment = boost.open(file);
                assert_eq!(segment.find_number(ENTRIES), 7);
                segment
            })
        });
    }
    obey(|_| match system {
        OURS => per_operation_waiting(1, || {
            let arena = Arena::open_named(file).expect("the arena is there");
            let root = arena.find::<Entries>(ENTRIES).expect("it is there");
            (arena, root)
        }),
        _ => per_operation_waiting(1, || crate::rivals::maps::Lmdb::open(file)),
    });
}
