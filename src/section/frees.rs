//! What a section frees once it is committed. Mostly it is one block of the thread's own: that has a
//! place in the context. Others are a stack of words, two for each block of the thread's own.

use super::Ctx;
use crate::{heap::Block, layout::SlabState, mapping::Mapping};

/// A free that waits for commit.
pub(super) enum Deferred {
    /// Of a block in a slab that is this slot's, and so stays its as long as the block is given out
    /// (H5).
    Own(SmallBlock),
    Other {
        /// Behind its entry in the log; 0 if that had no room for one.
        position: u64,
        offset: u64,
        /// What its slab was when the free was decided: of a span's head the exact word. Others may
        /// change hands. [`DOOMED`] for a container, whose header was copied to the offset.
        state: SlabState,
    },
}

/// A small block, and where its bit is.
#[derive(Clone, Copy)]
pub(super) struct SmallBlock {
    pub(super) offset: u64,
    pub(super) class: usize,
    /// See [`Mapping::place_of`].
    pub(super) place: usize,
}

impl SmallBlock {
    #[inline(always)]
    pub(super) fn new(mapping: &Mapping, block: Block, offset: u64) -> Self {
        SmallBlock {
            offset,
            class: block.class,
            place: block.place(mapping),
        }
    }
}

/// The state of what is not a block: a container to be taken apart, whose type is next in
/// [`Body::doomed`](super::ctx::Body::doomed).
pub(super) const DOOMED: SlabState = SlabState(0);

/// Frees that wait for commit, but for the first, if the context has that. The last word of each tells how
/// many there are of it: the offset, and for a block of the thread's own also its class and [`OWN`].
#[derive(Default)]
pub(super) struct Frees {
    words: Vec<u64>,
}

const OWN: u64 = 1 << 63;
const CLASS: u32 = 48;
const OFFSET: u64 = (1 << CLASS) - 1;

impl Frees {
    fn push(&mut self, free: Deferred) {
        match free {
            Deferred::Own(block) => self.push_own(block),
            Deferred::Other {
                position,
                offset,
                state,
            } => self.words.extend([position, state.0, offset]),
        }
    }

    #[inline(always)]
    fn push_own(&mut self, block: SmallBlock) {
        let last = OWN | (block.class as u64) << CLASS | block.offset;
        self.words.extend([block.place as u64, last]);
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<Deferred> {
        let (free, words) = last_of(&self.words)?;
        self.words.truncate(self.words.len() - words);
        Some(free)
    }

    fn clear(&mut self) {
        self.words.clear();
    }

    /// All of them, from the last to the first.
    fn iter(&self) -> impl Iterator<Item = Deferred> {
        let mut left = &self.words[..];
        std::iter::from_fn(move || {
            let (free, words) = last_of(left)?;
            left = &left[..left.len() - words];
            Some(free)
        })
    }
}

impl Ctx {
    /// Leaves the free of a block of the thread's own to the section's end.
    #[inline(always)]
    pub(super) fn leave_own_free(&mut self, block: SmallBlock) {
        if self.flags.has_frees() {
            self.flags.set_more_frees(true);
            return self.body_mut().frees.push_own(block);
        }
        self.flags.set_one_free(true);
        self.one_free.offset = block.offset;
        self.one_free.class = block.class;
        self.one_free.place = block.place;
    }

    /// Leaves any free to the section's end.
    #[inline(never)]
    pub(super) fn leave_free(&mut self, free: Deferred) {
        self.flags.set_more_frees(true);
        self.body_mut().frees.push(free);
    }

    /// Takes the last of the frees that are left.
    #[inline(always)]
    pub(super) fn next_free(&mut self) -> Option<Deferred> {
        if let Some(free) = self.body_mut().frees.pop() {
            return Some(free);
        }
        self.flags.set_more_frees(false);
        let first = self.flags.has_one_free();
        self.flags.set_one_free(false);
        first.then_some(Deferred::Own(self.one_free))
    }

    /// All that are left, from the last to the first.
    pub(super) fn frees(&self) -> impl Iterator<Item = Deferred> {
        let first = self.flags.has_one_free();
        let first = first.then_some(Deferred::Own(self.one_free));
        self.body().frees.iter().chain(first)
    }

    /// Forgets what a section was to free that is undone.
    pub(super) fn forget_frees(&mut self) {
        self.body_mut().frees.clear();
        self.flags.set_one_free(false);
        self.flags.set_more_frees(false);
    }
}

/// The last free, if it is of a block of the thread's own.
#[inline(always)]
fn own(words: &[u64]) -> Option<SmallBlock> {
    match *words {
        [.., place, last] if last & OWN != 0 => Some(SmallBlock {
            offset: last & OFFSET,
            class: (last >> CLASS & 0x1f) as usize,
            place: place as usize,
        }),
        _ => None,
    }
}

/// The last free, and how many words it has.
#[inline(always)]
fn last_of(words: &[u64]) -> Option<(Deferred, usize)> {
    if let Some(block) = own(words) {
        return Some((Deferred::Own(block), 2));
    }
    let &[.., position, state, offset] = words else {
        return None;
    };
    let other = Deferred::Other {
        position,
        offset,
        state: SlabState(state),
    };
    Some((other, 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arena, Error, collections::Vec, sync::Mutex};

    fn own(number: u64) -> Deferred {
        Deferred::Own(SmallBlock {
            offset: number << 4,
            class: number as usize % 32,
            place: number as usize * 7,
        })
    }

    fn other(number: u64) -> Deferred {
        Deferred::Other {
            position: number * 8,
            offset: number << 4,
            state: SlabState(number * 3),
        }
    }

    /// Its kind, and all that is in it.
    fn parts(free: Deferred) -> (bool, [u64; 3]) {
        match free {
            Deferred::Own(SmallBlock {
                offset,
                class,
                place,
            }) => (true, [offset, class as u64, place as u64]),
            Deferred::Other {
                position,
                offset,
                state,
            } => (false, [position, offset, state.0]),
        }
    }

    #[test]
    fn what_was_pushed_last_comes_first() {
        let mut frees = Frees::default();
        let make = |number: u64| match number % 3 {
            0 => other(number),
            _ => own(number),
        };
        let numbers = [3, 1, 2, 4, 6, 9, 5, OFFSET >> 4];
        for number in numbers {
            frees.push(make(number));
        }
        let expected: std::vec::Vec<_> = numbers.iter().rev().map(|&n| parts(make(n))).collect();
        assert_eq!(
            frees.iter().map(parts).collect::<std::vec::Vec<_>>(),
            expected
        );
        for expected in expected {
            assert_eq!(frees.pop().map(parts), Some(expected));
        }
        assert!(frees.pop().is_none());
        assert!(frees.iter().next().is_none());
    }

    /// What a section drops.
    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Dropped {
        /// One block of the thread's own.
        Own,
        /// One of another's slab.
        Other,
        /// So much that it is taken apart after the commit.
        Doomed,
    }

    type Lists = Mutex<Vec<Vec<Vec<u64>>>>;

    fn push(lists: &Lists, dropped: Dropped) {
        let push = || {
            let mut lists = lists.lock().unwrap();
            lists.push(Vec::new()).unwrap();
            let list = lists.last_mut().unwrap();
            list.push(Vec::new()).unwrap();
            if let Dropped::Doomed = dropped {
                for number in 0..1000 {
                    list.push(Vec::new()).unwrap();
                    list[number].push(7).unwrap();
                }
            }
        };
        match dropped {
            Dropped::Other => std::thread::scope(|scope| scope.spawn(push).join().unwrap()),
            _ => push(),
        }
    }

    /// What the open section frees after commit, from the last to the first.
    fn left(arena: &Arena) -> std::vec::Vec<Dropped> {
        let ctx = crate::section::attach(arena.mapping()).unwrap();
        // SAFETY: C1; the reference ends with this function.
        let frees = unsafe { ctx.as_ref() }.frees();
        let kind = |free| match free {
            Deferred::Own(_) => Dropped::Own,
            Deferred::Other { state: DOOMED, .. } => Dropped::Doomed,
            Deferred::Other { .. } => Dropped::Other,
        };
        frees.map(kind).collect()
    }

    /// Ends the section in which the last `count` lists go.
    type End = fn(&Arena, &crate::Root<Lists>, usize);

    const ENDS: [End; 4] = [
        |_, lists, count| {
            let mut guard = lists.lock().unwrap();
            let left = guard.len() - count;
            (0..count).for_each(|_| drop(guard.pop()));
            assert_eq!(guard.len(), left);
        },
        |_, lists, count| {
            let mut guard = lists.lock().unwrap();
            (0..count).for_each(|_| drop(guard.pop()));
            guard.commit().unwrap();
            guard.push(Vec::new()).unwrap();
            guard.pop();
        },
        |arena, lists, count| {
            let done = arena.section(|| {
                let mut guard = lists.lock()?;
                (0..count).for_each(|_| drop(guard.pop()));
                Ok(())
            });
            done.unwrap();
        },
        |arena, lists, count| {
            let done = arena.transaction(|tx| {
                let mut guard = tx.lock(lists)?;
                (0..count).for_each(|_| drop(guard.pop()));
                Err::<(), _>(Error::other("taken back"))
            });
            assert!(done.is_err());
            let mut guard = lists.lock().unwrap();
            (0..count).for_each(|_| drop(guard.pop()));
        },
    ];

    #[test]
    fn each_is_done_once_in_whatever_order_and_way_a_section_ends() {
        use Dropped::*;
        for kinds in [
            &[Own][..],
            &[Other],
            &[Own, Own],
            &[Own, Other],
            &[Other, Own],
            &[Doomed, Own],
            &[Own, Doomed],
            &[Own, Own, Other, Doomed, Own],
        ] {
            for (way, end) in ENDS.iter().enumerate() {
                let arena = Arena::in_memory().unwrap();
                let lists = arena.root::<Lists>("lists").unwrap();
                push(&lists, Own);
                kinds.iter().for_each(|&kind| push(&lists, kind));
                let looked = arena.transaction(|tx| {
                    let mut guard = tx.lock(&lists)?;
                    kinds.iter().for_each(|_| drop(guard.pop()));
                    assert_eq!(left(&arena), kinds);
                    Err::<(), _>(Error::other("only looked"))
                });
                assert!(looked.is_err());
                end(&arena, &lists, kinds.len());
                // What follows frees nothing of it again.
                push(&lists, Own);
                lists.lock().unwrap()[0].push(Vec::new()).unwrap();
                let report = arena.check();
                assert!(report.is_clean(), "{kinds:?}, way {way}: {report}");
                assert_eq!(lists.lock().unwrap().len(), 2, "{kinds:?}, way {way}");
            }
        }
    }
}
