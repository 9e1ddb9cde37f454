//! Start states: what an arena holds, and in which condition it is.

use crate::subject::Act;
use sharena::{
    Arena, Error, Options, Result, Root, Share,
    collections::{String, Vec as Shared},
    sync::Mutex,
};
use std::{any::Any, cell::RefCell, collections::HashMap, panic::resume_unwind, rc::Rc, thread};

/// Bytes of the arenas that are stepped through.
pub(crate) const SIZE: u64 = 256 << 10;

/// How the arenas are made.
pub(crate) fn small() -> Options {
    let mut options = Arena::options();
    options.max_size(SIZE).slots(6);
    options
}

/// What came before the operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The thread that operates has filled the arena, and owns its slabs.
    Own,
    /// As `Own`, and there is no free slab, nor a free block, left.
    Full,
    /// As `Full`, and the thread keeps no memory for a longer log.
    FullToTheLast,
    /// Nobody owns the slabs: blocks that are freed are freed remotely, unless slabs are adopted.
    Abandoned,
    /// A dead thread owns the slabs, and is not recovered yet.
    OfTheDead,
    /// As `OfTheDead`, which had a root that was removed meanwhile.
    Removed(&'static str),
    /// As `Abandoned`, and the thread that operates has not touched the arena yet.
    Unattached,
}

/// A state to step from.
pub(crate) struct Start {
    pub(crate) name: &'static str,
    pub(crate) fill: Act,
    pub(crate) condition: Condition,
}

impl Start {
    pub(crate) const fn own(name: &'static str, fill: Act) -> Self {
        Start {
            name,
            fill,
            condition: Condition::Own,
        }
    }

    /// Of this root the dead had a handle when it was removed.
    pub(crate) const fn removed(name: &'static str, fill: Act, root: &'static str) -> Self {
        Start {
            name,
            fill,
            condition: Condition::Removed(root),
        }
    }

    /// Nobody has touched the arena yet.
    pub(crate) const fn unattached(fill: Act) -> Self {
        Start {
            name: "not attached yet",
            fill,
            condition: Condition::Unattached,
        }
    }

    /// The same contents in the three other conditions.
    pub(crate) fn in_all_conditions(fill: Act) -> [Self; 3] {
        let start = |name, condition| Start {
            name,
            fill,
            condition,
        };
        [
            start("full arena", Condition::Full),
            start("remote blocks", Condition::Abandoned),
            start("blocks of the dead", Condition::OfTheDead),
        ]
    }

    /// Makes the state. Whoever calls this operates on it, in a thread of its own.
    pub(crate) fn make(&self) -> Arena {
        keep_roots();
        match self.condition {
            Condition::Own => self.filled(),
            Condition::Full => {
                let arena = self.filled();
                fill_up(&arena);
                arena
            }
            Condition::FullToTheLast => {
                let arena = self.filled();
                fill_up_slowly(&arena).expect("room for a root");
                arena
            }
            Condition::Abandoned | Condition::Unattached => {
                self.reopened(false, |arena| arena.image())
            }
            Condition::OfTheDead => self.reopened(true, |arena| arena.image()),
            Condition::Removed(name) => self.reopened(true, |arena| {
                let root = arena.find::<Mutex<u64>>(name).expect("it is there");
                arena.remove(name).expect("it can be removed");
                let image = arena.image();
                drop(root);
                image
            }),
        }
    }

    fn filled(&self) -> Arena {
        let arena = small().in_memory().expect("memory");
        keep_roots();
        // On both sides of what the operation is about.
        add_spares(&arena).expect("room for the spares");
        (self.fill)(&arena).expect("room for the start state");
        add_spares(&arena).expect("room for the spares");
        arena
    }

    /// A copy, whose threads are all dead.
    fn reopened(
        &self,
        leave_the_dead: bool,
        image: impl FnOnce(&Arena) -> Vec<u8> + Send,
    ) -> Arena {
        let image = in_a_thread(|| image(&self.filled()));
        let mut options = small();
        options.leave_the_dead(leave_the_dead);
        options.from_image(&image).expect("an image opens")
    }
}

thread_local! {
    static KEPT: RefCell<Option<HashMap<&'static str, Rc<dyn Any>>>> = const { RefCell::new(None) };
}

/// Makes the calling thread keep roots until it ends: to look one up takes many instructions.
pub(crate) fn keep_roots() {
    KEPT.set(Some(HashMap::new()));
}

/// A root of the arena that the thread works with.
pub(crate) fn root<T: Share + Sync + Default>(
    arena: &Arena,
    name: &'static str,
) -> Result<Rc<Root<T>>> {
    KEPT.with_borrow_mut(|kept| {
        let known = kept.as_ref().and_then(|kept| kept.get(name));
        if let Some(known) = known.and_then(|any| any.clone().downcast::<Root<T>>().ok())
            && known.arena().base() == arena.base()
        {
            return Ok(known);
        }
        let root = Rc::new(arena.root::<T>(name)?);
        if let Some(kept) = kept {
            kept.insert(name, root.clone());
        }
        Ok(root)
    })
}

/// Runs `f` in a thread that ends, so that nothing of it stays attached to an arena.
pub(crate) fn in_a_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let done = thread::scope(|scope| scope.spawn(f).join());
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

type Spares = Mutex<Shared<String>>;

const SPARES: &str = "spares";

/// Blocks that no operation is about, of the sizes that those have, in slabs of the same thread.
pub(crate) fn add_spares(arena: &Arena) -> Result {
    let root = arena.root::<Spares>(SPARES)?;
    let mut spares = root.lock()?;
    for len in [3, 20, 40, 90, 150, 300] {
        spares.push_from("s".repeat(len).as_str())?;
    }
    Ok(())
}

/// Frees some of the spare blocks; says whether they were as they should be.
pub(crate) fn free_spares(arena: &Arena, how_many: usize) -> Result<bool> {
    let root = arena.root::<Spares>(SPARES)?;
    let mut spares = root.lock()?;
    let mut sound = true;
    for _ in 0..how_many {
        let Some(spare) = spares.pop() else { break };
        sound &= spare.bytes().all(|byte| byte == b's');
    }
    Ok(sound)
}

/// Whether those that are left are as they should be.
pub(crate) fn spares_are_sound(arena: &Arena) -> Result<bool> {
    let root = arena.root::<Spares>(SPARES)?;
    let spares = root.lock()?;
    Ok(spares
        .iter()
        .all(|spare| !spare.is_empty() && spare.bytes().all(|byte| byte == b's')))
}

type Ballast = Mutex<Shared<Shared<u8>>>;

const BALLAST: &str = "ballast";
const MOST_BALLAST: usize = 2500;

/// Allocates whatever there is.
fn fill_up(arena: &Arena) {
    let root = arena.root::<Ballast>(BALLAST).expect("room for a root");
    let mut ballast = root.lock().expect("a free lock");
    ballast
        .reserve_exact(MOST_BALLAST)
        .expect("room for the list");
    let classes = (1..=8).rev().flat_map(|quarter| {
        // Large ones first, down to the smallest.
        let sizes: &[usize] = match quarter {
            8 => &[2048, 1792, 1536, 1280],
            7 => &[1024, 896, 768, 640],
            6 => &[512, 448, 384, 320],
            5 => &[256, 224, 192, 160],
            4 => &[128, 112],
            3 => &[96, 80],
            2 => &[64, 48],
            _ => &[32, 16],
        };
        sizes.iter().copied()
    });
    for size in classes {
        while ballast.len() < MOST_BALLAST {
            ballast.push(Shared::new()).expect("there is capacity");
            let last = ballast.last_mut().expect("pushed just now");
            match last.reserve_exact(size) {
                Ok(()) => {}
                Err(Error::Full { .. }) => {
                    ballast.pop();
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// The same in short sections, whose log needs no segments: none is kept for the next one.
fn fill_up_slowly(arena: &Arena) -> Result {
    let root = arena.root::<Ballast>(BALLAST)?;
    root.lock()?.reserve_exact(MOST_BALLAST / 3)?;
    for size in (4..12).rev().map(|shift| 1 << shift) {
        let another = || {
            let mut ballast = root.lock()?;
            ballast.push(Shared::new())?;
            ballast
                .last_mut()
                .expect("pushed just now")
                .reserve_exact(size)
        };
        while another().is_ok() {}
    }
    Ok(())
}

/// Makes room again, if the arena was filled up.
pub(crate) fn relieve(arena: &Arena) -> Result {
    let root = match arena.find::<Ballast>(BALLAST) {
        Ok(root) => root,
        Err(Error::UnknownRoot { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    // One by one: a full arena has no room for a long journal. The largest come first.
    for index in 0..60 {
        let mut ballast = root.lock()?;
        if index < ballast.len() {
            ballast[index] = Shared::new();
        }
    }
    Ok(())
}
