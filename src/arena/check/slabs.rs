//! The states of slabs: each makes sense, and so do its neighbours'.

use super::{Check, Kind};
use crate::{
    heap::classes::size_of_class,
    layout::{SlabKind, SlabState},
    mapping::Backing,
};
use std::{os::unix::fs::FileExt, sync::atomic::Ordering::*};

impl Check<'_> {
    pub(super) fn slabs(&mut self) {
        for slab in 0..self.mapping.committed() {
            let state = self.mapping.state(slab);
            let Some(kind) = state.kind() else {
                self.slab_wrong(slab, format_args!("expected a state, found {state:?}"));
                continue;
            };
            let unused = matches!(kind, SlabKind::Free | SlabKind::Hole | SlabKind::Punching);
            if slab >= self.mapping.watermark() && !unused {
                let watermark = self.mapping.watermark();
                self.slab_wrong(
                    slab,
                    format_args!(
                        "expected the slabs from {watermark} on to be free, found {state:?}"
                    ),
                );
            }
            let holds_blocks = matches!(
                kind,
                SlabKind::Owned | SlabKind::Abandoned | SlabKind::Span | SlabKind::Tail
            );
            let slabs = self.mapping.geometry().slabs;
            if slab >= slabs && holds_blocks {
                self.slab_wrong(
                    slab,
                    format_args!("expected none but logs from slab {slabs} on, found {state:?}"),
                );
            }
            self.slab(slab, kind, state);
        }
        self.states_to_come();
    }

    /// The states of slabs that are not committed yet are those of free slabs which never were
    /// anything else. They are read as a file is: there may be no memory behind them.
    fn states_to_come(&mut self) {
        let geometry = *self.mapping.geometry();
        let mut slab = self.mapping.committed();
        let mut bytes = vec![0; 1 << 16];
        while slab < geometry.all_slabs() {
            let len = bytes.len().min((geometry.all_slabs() - slab) * 8);
            let chunk = &mut bytes[..len];
            if !self.read_uncommitted(geometry.states_at + slab as u64 * 8, chunk) {
                return;
            }
            if let Some(found) = chunk.iter().position(|&byte| byte != 0) {
                self.slab_wrong(
                    slab + found / 8,
                    format_args!("expected no state of a slab that is not committed, found one"),
                );
                return;
            }
            slab += len / 8;
        }
    }

    /// Reads what may lie behind the file's end, or in a hole of it: zeroes, then.
    fn read_uncommitted(&self, at: u64, into: &mut [u8]) -> bool {
        match &self.mapping.backing {
            Backing::File { file, .. } => {
                into.fill(0);
                file.read_at(into, at).is_ok()
            }
            Backing::Memory => {
                // SAFETY: ordinary memory is there for the whole of the mapping, and the states lie
                // in it; nobody claims slabs beyond the committed ones.
                unsafe {
                    let from = self.mapping.base().wrapping_add(at as usize);
                    from.copy_to_nonoverlapping(into.as_mut_ptr(), into.len());
                }
                true
            }
        }
    }

    fn slab_wrong(&mut self, slab: usize, what: std::fmt::Arguments<'_>) {
        let at = self.mapping.geometry().states_at + slab as u64 * 8;
        self.wrong(Kind::Slab, at, format_args!("slab {slab}: {what}"));
    }

    fn slab(&mut self, slab: usize, kind: SlabKind, state: SlabState) {
        match kind {
            SlabKind::Free | SlabKind::Hole => {}
            SlabKind::Owned => {
                self.owner(slab, state);
                self.bitmaps(slab, state);
            }
            SlabKind::Abandoned => self.bitmaps(slab, state),
            SlabKind::Reserved | SlabKind::Freeing | SlabKind::Filling | SlabKind::Punching => {
                self.owner(slab, state);
            }
            SlabKind::Span => self.span(slab),
            SlabKind::Tail => self.tail(slab, state),
        }
    }

    /// The slot that is at work on the slab is taken.
    fn owner(&mut self, slab: usize, state: SlabState) {
        let (slot, slots) = (state.slot(), self.mapping.geometry().slots);
        if slot >= slots {
            self.slab_wrong(
                slab,
                format_args!("expected one of {slots} slots as its owner, found {slot}"),
            );
        } else if self.mapping.slot(slot).claim.load(Acquire) == 0 {
            self.slab_wrong(
                slab,
                format_args!("expected an owner that is there, found the free slot {slot}"),
            );
        }
    }

    /// The class is one that the arena uses, and no bit stands for no block.
    fn bitmaps(&mut self, slab: usize, state: SlabState) {
        let mapping = self.mapping;
        let class = (state.0 >> 8 & 0xff) as usize;
        if class != state.class() || size_of_class(class) > mapping.largest_small() {
            self.slab_wrong(
                slab,
                format_args!(
                    "expected blocks of at most {} bytes, found the class {class}",
                    mapping.largest_small()
                ),
            );
            return;
        }
        let blocks = mapping.blocks_of(class);
        let bitmaps = mapping.bitmaps(slab);
        let beyond = |word: usize| match blocks.saturating_sub(word * 64) {
            valid @ 0..64 => !0 << valid,
            _ => 0,
        };
        for (name, words) in [("given out", bitmaps.published), ("freed", bitmaps.remote)] {
            for (word, bits) in words.iter().enumerate() {
                let bits = bits.load(Acquire) & beyond(word);
                if bits != 0 {
                    let block = word * 64 + bits.trailing_zeros() as usize;
                    self.slab_wrong(
                        slab,
                        format_args!("expected {blocks} blocks, found block {block} {name}"),
                    );
                    break;
                }
            }
        }
    }

    /// The slabs behind the head of a span are its tails.
    fn span(&mut self, head: usize) {
        let mapping = self.mapping;
        let count = mapping.bitmaps(head).bits.span_slabs.load(Acquire);
        let room = (mapping.watermark().saturating_sub(head)) as u64;
        if count == 0 || count > room {
            let at = mapping.slab_at(head);
            self.wrong(
                Kind::Span,
                at,
                format_args!("expected a span of 1 to {room} slabs, found {count}"),
            );
            return;
        }
        for distance in 1..count as usize {
            let state = mapping.state(head + distance);
            if !state.is(SlabKind::Tail) || state.distance() != distance {
                let at = mapping.slab_at(head);
                self.wrong(
                    Kind::Span,
                    at,
                    format_args!(
                        "expected slab {} to be the {distance}th of this span of {count}, found \
                         {state:?}",
                        head + distance
                    ),
                );
                return;
            }
        }
    }

    /// A tail belongs to a span that reaches so far; or to one that some slot is at work on.
    fn tail(&mut self, slab: usize, state: SlabState) {
        let mapping = self.mapping;
        let distance = state.distance();
        let head = slab.checked_sub(distance).filter(|_| distance > 0);
        let fits = head.is_some_and(|head| match mapping.state(head).kind() {
            Some(SlabKind::Span) => {
                mapping.bitmaps(head).bits.span_slabs.load(Acquire) > distance as u64
            }
            Some(SlabKind::Reserved | SlabKind::Freeing) => true,
            _ => false,
        });
        // A dead thread may have been about to make its span longer.
        if !fits && !self.is_growing(head) {
            self.slab_wrong(
                slab,
                format_args!("expected a span that begins {distance} slabs before, found none"),
            );
        }
    }

    /// Whether some journal that is not resolved may be making the span longer.
    fn is_growing(&self, head: Option<usize>) -> bool {
        head.is_some_and(|head| self.growing.contains(&self.mapping.slab_at(head)))
    }
}
