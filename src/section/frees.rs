//! What a section frees once it is committed: a stack of words, since most of it is one block of the
//! thread's own, and two words say all of that.

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

/// Frees that wait for commit. The last word of each tells how many there are of it: the offset, and
/// for a block of the thread's own also its class and [`OWN`].
#[derive(Default)]
pub(super) struct Frees {
    words: Vec<u64>,
}

const OWN: u64 = 1 << 63;
const CLASS: u32 = 48;
const OFFSET: u64 = (1 << CLASS) - 1;

impl Frees {
    #[inline(always)]
    pub(super) fn push(&mut self, free: Deferred) {
        match free {
            Deferred::Own(SmallBlock {
                offset,
                class,
                place,
            }) => {
                let last = OWN | (class as u64) << CLASS | offset;
                self.words.extend([place as u64, last]);
            }
            Deferred::Other {
                position,
                offset,
                state,
            } => self.words.extend([position, state.0, offset]),
        }
    }

    /// Takes what there is, if that is one block of the thread's own.
    #[inline(always)]
    pub(super) fn take_only_own(&mut self) -> Option<SmallBlock> {
        let words: &[u64; 2] = self.words.as_slice().try_into().ok()?;
        let block = own(words)?;
        self.words.clear();
        Some(block)
    }

    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Deferred> {
        let (free, words) = last_of(&self.words)?;
        self.words.truncate(self.words.len() - words);
        Some(free)
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
    }

    /// All of them, from the last to the first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Deferred> {
        let mut left = &self.words[..];
        std::iter::from_fn(move || {
            let (free, words) = last_of(left)?;
            left = &left[..left.len() - words];
            Some(free)
        })
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
        let expected: Vec<_> = numbers.iter().rev().map(|&n| parts(make(n))).collect();
        assert_eq!(frees.iter().map(parts).collect::<Vec<_>>(), expected);
        for expected in expected {
            assert_eq!(frees.pop().map(parts), Some(expected));
        }
        assert!(frees.pop().is_none());
        assert!(frees.iter().next().is_none());
    }

    #[test]
    fn one_own_block_is_taken_if_it_is_all() {
        let mut frees = Frees::default();
        assert!(frees.take_only_own().is_none());
        frees.push(own(5));
        let taken = frees
            .take_only_own()
            .map(|block| parts(Deferred::Own(block)));
        assert_eq!(taken, Some(parts(own(5))));
        assert!(frees.pop().is_none());
        for several in [[own(5), own(6)], [own(5), other(6)], [other(5), own(6)]] {
            several.into_iter().for_each(|free| frees.push(free));
            assert!(frees.take_only_own().is_none());
            assert_eq!(frees.iter().count(), 2);
            frees.clear();
        }
        frees.push(other(1));
        assert!(frees.take_only_own().is_none());
    }
}
