//! Proofs that take two: a thread is stopped between two steps, others act, and what the death of
//! all of them leaves at that instant is recovered and looked at.

use sharena::{
    Arena, Error, Options,
    collections::{String as Text, Vec as Shared},
    mutant,
    sync::{Mutex, RwLock, Semaphore},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering::*},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// No wait of a scene is longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The thread that is stopped.
const ACTOR: &str = "actor";

/// Plays a scene: panics if a rule is broken in it.
pub(crate) fn run(which: &str) {
    match which {
        "the end of a section" => end_of_a_section(),
        "the midst of a scope" => midst_of_a_scope(),
        "the midst of a scope that reads" => midst_of_a_scope_that_reads(),
        "a snapshot while others write" => snapshot_while_others_write(),
        "a snapshot while others take permits" => snapshot_while_others_take_permits(),
        "a slow reader" => slow_reader(),
        "a free that is repeated" => repeated_free(40, 1),
        "two frees" => repeated_free(40, 2),
        "frees in two sections" => frees_in_two_sections(),
        "a slot's next owner frees" => next_owner_frees(),
        "a span's free that is repeated" => repeated_free(2000, 1),
        "the midst of a recovery" => midst_of_a_recovery(),
        "a late recoverer" => late_recoverer(),
        "a quick successor" => quick_successor(),
        "a slow claimant" => slow_claimant(),
        "a successor at work" => successor_at_work(),
        "recoverers that are killed" => killed_recoverers(),
        "a holder that is killed" => killed_holder(),
        "a slot's second owner" => second_owner(),
        _ => panic!("there is no scene {which}"),
    }
}

/// Where the actor stops, until it may go on.
#[derive(Default)]
struct Stop {
    visits: AtomicUsize,
    reached: AtomicBool,
    go: AtomicBool,
}

impl Stop {
    /// Stops the actor when it comes to one of these places for the first time.
    fn at(places: &'static [&'static str]) -> Arc<Stop> {
        Self::at_visit(1, places)
    }

    /// The same for a later time.
    fn at_visit(visit: usize, places: &'static [&'static str]) -> Arc<Stop> {
        let stop = Arc::new(Stop::default());
        let stopper = stop.clone();
        mutant::watch(move |place| {
            let is_actor = std::thread::current().name() == Some(ACTOR);
            let is_here = is_actor && places.contains(&place);
            if is_here && stopper.visits.fetch_add(1, AcqRel) + 1 == visit {
                stopper.stand_here();
            }
        });
        stop
    }

    fn stand_here(&self) {
        self.reached.store(true, Release);
        until("the actor may go on", || self.go.load(Acquire));
    }

    fn await_actor(&self) {
        until("the actor stops", || self.reached.load(Acquire));
    }

    fn go_on(&self) {
        self.go.store(true, Release);
    }

    /// What is left if everybody dies now. Then the actor is let go, and the arena closed.
    fn image_then_go_on(&self, arena: Arena, actor: JoinHandle<()>) -> Vec<u8> {
        let image = arena.image();
        self.go_on();
        actor.join().expect("the actor ends");
        image
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Starts the thread that is to be stopped.
fn actor(act: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = std::thread::Builder::new().name(ACTOR.to_owned());
    builder.spawn(act).expect("a thread starts")
}

fn small() -> Options {
    let mut options = Arena::options();
    options.max_size(1 << 20).slots(64);
    options
}

/// Recovers what was left when everybody died. The arena itself must be gone: two with the same
/// bytes cannot be open at once.
fn recovered(options: &Options, image: &[u8]) -> Arena {
    let left = options.from_image(image).expect("an image opens");
    assert_in_order(&left);
    left
}

fn reap(arena: &Arena) {
    arena.reap().expect("the dead are recovered");
}

fn assert_in_order(arena: &Arena) {
    let report = arena.check();
    assert!(report.is_clean(), "{report}");
}

type Number = Mutex<u64>;

/// Has the actor take a snapshot, and calls `meanwhile` while it stands at a place.
fn amid_a_snapshot<R>(arena: &Arena, place: &'static str, meanwhile: impl FnOnce() -> R) -> R {
    let path = std::env::temp_dir().join(format!("sharena-mutants-{}", std::process::id()));
    let stop = Stop::at(vec![place].leak());
    let copier = actor({
        let (arena, path) = (arena.clone(), path.clone());
        move || arena.snapshot(path).unwrap()
    });
    stop.await_actor();
    let done = meanwhile();
    stop.go_on();
    copier.join().expect("the actor ends");
    std::fs::remove_file(path).expect("there is a copy");
    done
}

/// Nobody takes a permit, or gives one back, between the reading of semaphores and of slots.
fn snapshot_while_others_take_permits() {
    let arena = small().anonymous().unwrap();
    let permits = arena.root_or_init("permits", || Semaphore::new(2)).unwrap();
    let taken = Arc::new(AtomicBool::new(false));
    let place = "before a snapshot reads the slots";
    let (taker, early) = amid_a_snapshot(&arena, place, || {
        let (permits, taken) = (permits.clone(), taken.clone());
        let sign = taken.clone();
        let taker = std::thread::spawn(move || {
            drop(permits.acquire().unwrap());
            sign.store(true, Release);
        });
        let began = Instant::now();
        while !taken.load(Acquire) && began.elapsed() < Duration::from_millis(300) {
            std::thread::sleep(Duration::from_millis(1));
        }
        (taker, taken.load(Acquire))
    });
    taker.join().expect("it gets one in the end");
    assert!(!early, "a permit moved");
    assert_in_order(&arena);
}

/// Nobody has a lock while a copy is made.
fn snapshot_while_others_write() {
    let arena = small().anonymous().unwrap();
    let root = arena.root::<Number>("number").unwrap();
    let taken = amid_a_snapshot(&arena, "before a snapshot is copied", || {
        root.try_lock_for(Duration::from_millis(20)).map(drop)
    });
    assert!(matches!(taken, Err(Error::TimedOut)), "{taken:?}");
    *root.lock().unwrap() += 1;
    assert_in_order(&arena);
}

fn number(arena: &Arena) -> u64 {
    *arena.root::<Number>("number").unwrap().lock().unwrap()
}

/// Writes a 2 if the lock can be had; says whether.
fn write_if_free(arena: &Arena) -> bool {
    match arena.root::<Number>("number").unwrap().try_lock() {
        Ok(mut guard) => {
            *guard = 2;
            true
        }
        Err(Error::WouldBlock) => false,
        Err(error) => panic!("{error}"),
    }
}

/// J8: somebody wants the lock while its holder is about to end its section.
fn end_of_a_section() {
    let arena = small().in_memory().unwrap();
    let root = arena.root::<Number>("number").unwrap();
    let stop = Stop::at(&["between release and commit", "between commit and release"]);
    let holder = actor(move || *root.lock().unwrap() = 1);
    stop.await_actor();
    let expected = if write_if_free(&arena) { 2 } else { 1 };
    let image = stop.image_then_go_on(arena, holder);
    assert_eq!(number(&recovered(&small(), &image)), expected);
}

/// S2: somebody wants a lock whose guard went, while the scope goes on.
fn midst_of_a_scope() {
    let arena = small().in_memory().unwrap();
    let root = arena.root::<Number>("number").unwrap();
    let stop = Arc::new(Stop::default());
    let stopper = stop.clone();
    let theirs = arena.clone();
    let holder = actor(move || {
        let done = theirs.section(|| {
            *root.lock()? = 1;
            stopper.stand_here();
            Ok(())
        });
        done.unwrap();
    });
    stop.await_actor();
    let expected = if write_if_free(&arena) { 2 } else { 0 };
    let image = stop.image_then_go_on(arena, holder);
    assert_eq!(number(&recovered(&small(), &image)), expected);
}

type Pair = RwLock<[u64; 2]>;

/// S2: somebody wants to write what a scope has read, and will read once more.
fn midst_of_a_scope_that_reads() {
    let arena = small().in_memory().unwrap();
    let root = arena.root::<Pair>("pair").unwrap();
    let stop = Arc::new(Stop::default());
    let stopper = stop.clone();
    let theirs = arena.clone();
    let reader = actor(move || {
        let done = theirs.section(|| {
            let before = *root.read()?;
            stopper.stand_here();
            assert_eq!(*root.read()?, before, "what a section had read was written");
            Ok(())
        });
        done.unwrap();
    });
    stop.await_actor();
    match arena.root::<Pair>("pair").unwrap().try_write() {
        Ok(mut pair) => *pair = [1, 1],
        Err(Error::WouldBlock) => {}
        Err(error) => panic!("{error}"),
    }
    stop.go_on();
    reader.join().expect("a section reads the same twice");
    assert!(arena.root::<Pair>("pair").unwrap().try_write().is_ok());
    assert_in_order(&arena);
}

/// L8: a writer comes while a reader has not filled its cell yet.
fn slow_reader() {
    let arena = small().in_memory().unwrap();
    let root = arena.root::<Pair>("pair").unwrap();
    // Attached, so that it takes no other lock on its way.
    drop(root.read());
    let stop = Stop::at(&["before a reader's cell", "before a sleep"]);
    let reads = Arc::new(AtomicBool::new(false));
    let (theirs, reading) = (root.clone(), reads.clone());
    let reader = actor(move || {
        let pair = theirs.read().unwrap();
        reading.store(true, Release);
        assert_eq!(pair[0], pair[1]);
    });
    stop.await_actor();
    let mut pair = root.try_write().expect("nobody reads yet");
    pair[0] = 1;
    stop.go_on();
    until("the reader reads, or sleeps", || {
        reads.load(Acquire) || stop.visits.load(Acquire) > 1
    });
    assert!(!reads.load(Acquire), "one reads what another writes");
    pair[1] = 1;
    drop(pair);
    reader.join().expect("it sees a whole change");
    assert_in_order(&arena);
}

type Texts = Mutex<Shared<Text>>;

/// Pushes a text of so many words to a list; gives the address of its block.
fn push(arena: &Arena, list: &str, words: usize) -> usize {
    let root = arena.root::<Texts>(list).unwrap();
    let mut list = root.lock().unwrap();
    list.push_from("text ".repeat(words).as_str()).unwrap();
    list.last().unwrap().as_ptr().addr()
}

/// J9, J10, H4: blocks are freed by another than their slab's owner, who would like to have them
/// back before the last of these frees is over, while it can still be repeated.
fn repeated_free(words: usize, frees: usize) {
    let arena = small().in_memory().unwrap();
    let blocks: Vec<usize> = (0..20).map(|_| push(&arena, "one", words)).collect();
    let stop = Stop::at_visit(frees, &["a block was freed"]);
    let root = arena.root::<Texts>("one").unwrap();
    let freer = actor(move || root.lock().unwrap().truncate(20 - frees));
    stop.await_actor();
    let is_freed = |block| blocks[20 - frees..].contains(&block);
    (0..50).any(|_| is_freed(push(&arena, "two", words)));
    let image = stop.image_then_go_on(arena, freer);
    recovered(&small(), &image);
}

/// J9: blocks of another's slabs are freed by two sections of a thread, one behind the other. It dies when
/// the second one has committed, and has freed nothing yet.
fn frees_in_two_sections() {
    let arena = small().in_memory().unwrap();
    push_twenty(&arena);
    let stop = Stop::at_visit(2, &["between commit and release"]);
    let root = arena.root::<Texts>("one").unwrap();
    let freer = actor(move || {
        root.lock().unwrap().truncate(19);
        root.lock().unwrap().truncate(10);
    });
    stop.await_actor();
    let image = stop.image_then_go_on(arena, freer);
    assert_eq!(texts(&recovered(&small(), &image)), 10);
}

/// J9: a thread dies when it has done one of two frees. Its slot's next owner dies when a section that
/// frees more has committed, and has freed nothing yet.
fn next_owner_frees() {
    let arena = small().in_memory().unwrap();
    push_twenty(&arena);
    let dies_at = |arena: Arena, visit, places, left| {
        let stop = Stop::at_visit(visit, places);
        let root = arena.root::<Texts>("one").unwrap();
        let freer = actor(move || root.lock().unwrap().truncate(left));
        stop.await_actor();
        stop.image_then_go_on(arena, freer)
    };
    let image = dies_at(arena, 2, &["a block was freed"], 18);
    let image = dies_at(
        recovered(&small(), &image),
        1,
        &["between commit and release"],
        5,
    );
    assert_eq!(texts(&recovered(&small(), &image)), 5);
}

fn push_twenty(arena: &Arena) {
    for _ in 0..20 {
        push(arena, "one", 40);
    }
}

fn texts(arena: &Arena) -> usize {
    arena.root::<Texts>("one").unwrap().lock().unwrap().len()
}

/// An arena with a dead thread, who had the lock of the number; recovered by nobody yet.
fn with_a_dead_holder() -> Arena {
    let arena = small().in_memory().unwrap();
    let root = arena.root::<Number>("number").unwrap();
    push(&arena, "one", 40);
    let mut guard = root.lock().unwrap();
    *guard = 1;
    let image = arena.image();
    drop(guard);
    drop((root, arena));
    small().leave_the_dead(true).from_image(&image).unwrap()
}

/// R1: a recoverer that saw a dead thread, and takes the lease when another one has finished, and
/// the slot has a new owner.
fn late_recoverer() {
    let arena = with_a_dead_holder();
    let stop = Stop::at(&["before a lease"]);
    let theirs = arena.clone();
    let late = actor(move || reap(&theirs));
    stop.await_actor();
    arena.reap().unwrap();
    let root = arena.root::<Number>("number").unwrap();
    let mut guard = root.lock().unwrap();
    *guard = 5;
    stop.go_on();
    late.join().unwrap();
    assert_eq!(*guard, 5, "a living thread was recovered");
    *guard += 1;
    drop(guard);
    assert_eq!(number(&arena), 6);
    assert_in_order(&arena);
}

/// R6: a slot has a new owner, who has slabs, before its recoverer is done with the last step.
fn quick_successor() {
    let arena = with_a_dead_holder();
    let stop = Stop::at(&["a slot was left"]);
    let theirs = arena.clone();
    let recoverer = actor(move || reap(&theirs));
    stop.await_actor();
    push(&arena, "two", 40);
    stop.go_on();
    recoverer.join().unwrap();
    let others = arena.clone();
    let other = std::thread::spawn(move || {
        for _ in 0..200 {
            push(&others, "three", 40);
        }
    });
    other.join().unwrap();
    for _ in 0..200 {
        push(&arena, "two", 40);
    }
    assert_in_order(&arena);
}

/// R2: somebody wants a lock of the dead while its recoverer is at work.
fn midst_of_a_recovery() {
    let arena = with_a_dead_holder();
    let stop = Stop::at(&["before a journal is resolved"]);
    let theirs = arena.clone();
    let recoverer = actor(move || reap(&theirs));
    stop.await_actor();
    let expected = if write_if_free(&arena) { 2 } else { 0 };
    stop.go_on();
    recoverer.join().unwrap();
    assert_eq!(number(&arena), expected);
    assert_in_order(&arena);
}

/// R6: a slot has a new owner, who holds a lock, when its recoverer takes the last step.
fn successor_at_work() {
    let arena = with_a_dead_holder();
    let stop = Stop::at(&["a slot was left"]);
    let theirs = arena.clone();
    let recoverer = actor(move || reap(&theirs));
    stop.await_actor();
    let root = arena.root::<Number>("number").unwrap();
    let _guard = root.lock().unwrap();
    stop.go_on();
    recoverer.join().unwrap();
    let others = root.clone();
    let other = std::thread::spawn(move || {
        let waited = others.try_lock_for(Duration::from_millis(200)).map(drop);
        assert!(matches!(waited, Err(Error::TimedOut)), "{waited:?}");
    });
    other.join().expect("the lock is held by a living thread");
}

/// R5: somebody reaps while a thread has claimed a slot, and is not in it yet.
fn slow_claimant() {
    let arena = small().in_memory().unwrap();
    let root = arena.root::<Number>("number").unwrap();
    let stop = Stop::at(&["a slot was claimed"]);
    let claimant = actor(move || *root.lock().unwrap() += 1);
    stop.await_actor();
    reap(&arena);
    assert_eq!(arena.stats().slots_attached, 2, "a claim was freed");
    stop.go_on();
    claimant.join().unwrap();
    assert_eq!(number(&arena), 1);
}

type Lists = Mutex<Shared<Shared<u64>>>;

fn large() -> Options {
    let mut options = Arena::options();
    options.max_size(256 << 20);
    options
}

/// An arena in the midst of a section whose log has a segment in a block that the section itself
/// had and freed, and in which its log restores bytes.
fn long_section() -> Vec<u8> {
    let arena = large().in_memory().unwrap();
    let lists = arena.root::<Lists>("lists").unwrap();
    let mut guard = lists.lock().unwrap();
    for at in 0..4 {
        guard.push(Shared::new()).unwrap();
        for _ in 0..500 {
            guard[at].push(1).unwrap();
        }
    }
    guard.commit().unwrap();
    // A block of the size that segments have, which headers are recorded in; then a larger one.
    let headers = 8192 / size_of::<Shared<u64>>();
    guard.reserve_exact(headers - 4).unwrap();
    guard.push(Shared::new()).unwrap();
    guard[4].push(7).unwrap();
    guard.reserve_exact(1000).unwrap();
    // Outgrows the slot's part of the log.
    for list in guard.iter_mut().take(4) {
        list.iter_mut().for_each(|value| *value = 2);
    }
    arena.image()
}

/// R3: recoverers are killed, each behind one more of the log's entries, and others go on.
fn killed_recoverers() {
    let image = long_section();
    let arena = large().leave_the_dead(true).from_image(&image).unwrap();
    let images = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (watched, kept) = (arena.clone(), images.clone());
    mutant::watch(move |place| {
        let is_actor = std::thread::current().name() == Some(ACTOR);
        if is_actor && place == "an entry was undone" {
            kept.lock().unwrap().push(watched.image());
        }
    });
    actor(move || reap(&arena)).join().unwrap();
    mutant::watch(|_| ());
    let images = images.lock().unwrap();
    assert!(images.len() > 3, "the log was too short");
    for image in images.iter() {
        let left = large().from_image(image).expect("an image opens");
        assert_in_order(&left);
        let lists = left.root::<Lists>("lists").unwrap();
        let guard = lists.lock().unwrap();
        assert_eq!(guard.len(), 4, "there were 4 lists");
        assert!(guard.iter().all(|list| list.iter().eq([1; 500].iter())));
    }
}

/// Whether a thread of this process sleeps.
/// J2: two threads that have a slot one behind the other change the same list, each in its first section;
/// the second one dies in the midst of it.
fn second_owner() {
    let arena = small().in_memory().unwrap();
    with_the_list(&arena, |_| ());
    with_the_list(&arena, |list| list.lock().unwrap().push(1).unwrap());
    let image = with_the_list(&arena, |list| {
        let mut list = list.lock().unwrap();
        list.push(2).unwrap();
        arena.image()
    });
    drop(arena);
    let left = recovered(&small(), &image);
    with_the_list(&left, |list| {
        assert!(list.lock().unwrap().iter().eq(&[1]), "half of a section");
    });
}

/// Calls `act` in a thread that ends, so that its slot is free again.
fn with_the_list<R: Send>(arena: &Arena, act: impl FnOnce(&Mutex<Shared<u64>>) -> R + Send) -> R {
    let act = || act(&arena.root("list").unwrap());
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

fn is_asleep(thread: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    // Its name, in parentheses, comes before its state.
    stat.is_ok_and(|stat| stat.contains(&format!("({ACTOR}) S ")))
}

/// P3: who waits for a lock learns of its holder's death, and does not wait for ever.
fn killed_holder() {
    let arena = Arena::anonymous().unwrap();
    let root = arena.root::<Number>("number").unwrap();
    let stage = arena.root::<AtomicU32>("stage").unwrap();
    // SAFETY: the process has one thread so far, and the child uses handles only.
    let holder = unsafe { libc::fork() };
    if holder == 0 {
        let _guard = root.lock();
        stage.store(1, Release);
        std::thread::sleep(2 * PATIENCE);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    assert!(holder > 0, "no child");
    until("the lock is taken", || stage.load(Acquire) == 1);
    let stop = Stop::at(&["before a sleep"]);
    stop.go_on();
    let thread = Arc::new(AtomicI32::new(0));
    let known = thread.clone();
    let waiter = actor(move || {
        // SAFETY: a plain query.
        known.store(unsafe { libc::gettid() }, Release);
        *root.lock().unwrap() = 1;
    });
    stop.await_actor();
    until("the waiter sleeps", || is_asleep(thread.load(Acquire)));
    // SAFETY: a child of ours that was not waited for.
    unsafe { libc::kill(holder, libc::SIGKILL) };
    until("the waiter has the lock", || waiter.is_finished());
    waiter.join().unwrap();
}
