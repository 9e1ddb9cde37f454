//! The stored forms of the containers, read without trusting them.

use super::{Edge, Plan, Visitor, Walk, bytes, word};
use crate::{
    arena::check::Kind,
    layout::{BufferHeader, LockWord, MapHeader, Stamp, Tag, VecHeader},
    share::TypeIndex,
};
use std::{mem::offset_of, sync::atomic::Ordering::*};

/// A table has at least so many control bytes, one for each bucket beyond.
const FEWEST_CONTROL: u64 = 16;

/// The buffer of a map, whose pairs are visited from `next` on.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    at: u64,
    control: u64,
    buckets: u64,
    next: u64,
    stride: u64,
    key: TypeIndex,
    value: Option<(TypeIndex, u64)>,
}

/// Sizes of a map's pairs: `repr(C)` of key and value.
struct PairLayout {
    value_at: u64,
    stride: u64,
}

impl PairLayout {
    /// `None` if a pair would be larger than any memory.
    fn new(plan: &Plan, key: TypeIndex, value: Option<TypeIndex>) -> Option<Self> {
        let (size, align) = match value {
            Some(value) => (plan.size(value), plan.align(value)),
            None => (0, 1),
        };
        let value_at = plan.size(key).checked_next_multiple_of(align)?;
        let end = value_at.checked_add(size)?;
        Some(PairLayout {
            value_at,
            stride: end.checked_next_multiple_of(align.max(plan.align(key)))?,
        })
    }
}

impl<V: Visitor> Walk<'_, V> {
    /// The words at `at`; tells the visitor if they cannot be read.
    pub(super) fn words<const N: usize>(&mut self, at: u64) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (index, place) in words.iter_mut().enumerate() {
            let Some(found) = word(self.mapping, at + index as u64 * 8) else {
                self.wrong(
                    Kind::Value,
                    at,
                    format_args!("expected a value here, found the end of the arena"),
                );
                return None;
            };
            *place = found;
        }
        Some(words)
    }

    /// Reads the header that all containers begin with, and checks what is the same for all. Gives
    /// the offset of the buffer, 0 if there is none; `None` if it is not to be followed.
    fn buffer(&mut self, at: u64, align: u64) -> Option<u64> {
        let [offset, stamp, arena_and_marks] = self.words(at)?;
        debug_assert_eq!(offset_of!(BufferHeader, arena), 16);
        let arena = arena_and_marks as u32;
        if arena == self.mapping.arena() {
            self.check_stamp(at, stamp);
        } else if offset != 0 {
            self.wrong(
                Kind::ForeignArena,
                at,
                format_args!(
                    "expected a container of the arena {:#x}, found one of {arena:#x}",
                    self.mapping.arena()
                ),
            );
            return None;
        }
        if offset % align != 0 {
            self.wrong(
                Kind::Alignment,
                at,
                format_args!("expected a buffer aligned to {align}, found one at {offset:#x}"),
            );
            return None;
        }
        Some(offset)
    }

    /// A stamp names a section that was.
    pub(super) fn check_stamp(&mut self, at: u64, stamp: u64) {
        let slot = (stamp >> Stamp::SERIAL_BITS) as usize;
        let serial = stamp & ((1 << Stamp::SERIAL_BITS) - 1);
        let known = slot < self.mapping.geometry().slots
            && serial <= self.mapping.slot(slot).serial.load(Acquire);
        if stamp != 0 && !known {
            self.wrong(
                Kind::Stamp,
                at,
                format_args!(
                    "expected the stamp of a section that was, found number {serial} of slot {slot}"
                ),
            );
        }
    }

    /// A lock's word names a slot in a generation that it had.
    pub(super) fn check_tag(&mut self, at: u64, word: u64) {
        debug_assert_eq!(size_of::<LockWord>(), 8);
        let Some(tag) = Tag::of_word(word) else {
            return;
        };
        let known = tag.slot() < self.mapping.geometry().slots
            && tag.generation() <= self.mapping.slot(tag.slot()).generation.load(Acquire);
        if !known {
            self.wrong(
                Kind::Lock,
                at,
                format_args!(
                    "expected a lock that is free or held by a slot, found one held by slot {} in \
                     its generation {}",
                    tag.slot() as i16,
                    tag.generation()
                ),
            );
        }
    }

    /// Reads the header of a `Vec` or `String`: offset, length and capacity, which make sense.
    fn vec_header(&mut self, at: u64, size: u64, align: u64) -> Option<(u64, u64, u64)> {
        debug_assert_eq!(offset_of!(VecHeader, len), 24);
        let offset = self.buffer(at, align)?;
        let [len, capacity] = self.words(at + 24)?;
        let capacity = if size == 0 { u64::MAX } else { capacity };
        let room = if offset == 0 && size > 0 { 0 } else { capacity };
        if len > room {
            self.wrong(
                Kind::Length,
                at,
                format_args!("expected at most {room} elements, found a length of {len}"),
            );
            return None;
        }
        if offset == 0 && capacity > 0 && size > 0 {
            self.wrong(
                Kind::Length,
                at,
                format_args!("expected no capacity without a buffer, found {capacity}"),
            );
            return None;
        }
        Some((offset, len, capacity))
    }

    /// Goes to an owned block: tells the visitor of it, unless it cannot be gone into.
    fn follow(&mut self, edge: Edge, needed: Option<u64>) -> Option<()> {
        self.reach(edge.header, edge.block, needed)?;
        self.visitor.owned(edge);
        Some(())
    }

    pub(super) fn look_at_vec(&mut self, plan: &Plan, at: u64, item: TypeIndex) {
        let size = plan.size(item);
        let Some((block, len, capacity)) = self.vec_header(at, size, plan.align(item)) else {
            return;
        };
        if block == 0 {
            return;
        }
        let edge = Edge {
            header: at,
            header_size: size_of::<VecHeader>() as u64,
            block,
        };
        let needed = match size {
            0 => Some(0),
            size => capacity.checked_mul(size),
        };
        if self.follow(edge, needed).is_some() {
            self.push_values(plan, item, block, len);
        }
    }

    pub(super) fn look_at_string(&mut self, at: u64) {
        let Some((block, len, capacity)) = self.vec_header(at, 1, 1) else {
            return;
        };
        if block == 0 {
            return;
        }
        let edge = Edge {
            header: at,
            header_size: size_of::<VecHeader>() as u64,
            block,
        };
        if self.follow(edge, Some(capacity)).is_some() && self.strict {
            self.check_utf8(at, block, len);
        }
    }

    fn check_utf8(&mut self, at: u64, block: u64, len: u64) {
        let Some(place) = self.mapping.address(block, len as usize) else {
            return;
        };
        // SAFETY: checked to lie in committed memory (M2). That nobody changes it meanwhile is what
        // the caller of a check promises; otherwise the answer may be wrong, and nothing else.
        let text = unsafe { std::slice::from_raw_parts(place.as_ptr(), len as usize) };
        if let Err(error) = std::str::from_utf8(text) {
            self.wrong(
                Kind::Value,
                at,
                format_args!("expected UTF-8 in a `String`, found none: {error}"),
            );
        }
    }

    pub(super) fn look_at_box(&mut self, plan: &Plan, at: u64, item: TypeIndex) {
        let Some(block) = self.buffer(at, plan.align(item)) else {
            return;
        };
        if block == 0 {
            return;
        }
        let edge = Edge {
            header: at,
            header_size: size_of::<BufferHeader>() as u64,
            block,
        };
        if self.follow(edge, Some(plan.size(item))).is_some() {
            self.push_values(plan, item, block, 1);
        }
    }

    pub(super) fn look_at_map(
        &mut self,
        plan: &Plan,
        at: u64,
        key: TypeIndex,
        value: Option<TypeIndex>,
    ) {
        debug_assert_eq!(offset_of!(MapHeader, len), 24);
        let align = plan.align(key).max(value.map_or(1, |of| plan.align(of)));
        let Some(block) = self.buffer(at, align) else {
            return;
        };
        let Some([len, mask, _]) = self.words(at + 24) else {
            return;
        };
        if block == 0 {
            if len != 0 || mask != 0 {
                self.wrong(
                    Kind::Length,
                    at,
                    format_args!(
                        "expected a map without a buffer to be empty, found a length of {len} and \
                         a mask of {mask:#x}"
                    ),
                );
            }
            return;
        }
        let layout = PairLayout::new(plan, key, value);
        let buckets = mask.checked_add(1).filter(|n| n.is_power_of_two());
        let (Some(layout), Some(buckets)) = (layout, buckets) else {
            self.wrong(
                Kind::Length,
                at,
                format_args!("expected a mask of one less than a power of two, found {mask:#x}"),
            );
            return;
        };
        let edge = Edge {
            header: at,
            header_size: size_of::<MapHeader>() as u64,
            block,
        };
        let pairs_size = buckets.checked_mul(layout.stride);
        let needed = pairs_size.and_then(|size| size.checked_add(buckets.max(FEWEST_CONTROL)));
        if self.follow(edge, needed).is_none() {
            return;
        }
        let pairs = Pairs {
            at: block,
            // Both did not overflow, or there was no such block.
            control: block + pairs_size.unwrap_or(0),
            buckets,
            next: 0,
            stride: layout.stride,
            key,
            value: value.map(|of| (of, layout.value_at)),
        };
        self.check_count(at, len, &pairs);
        let skipped = |of: TypeIndex| plan.is_skipped(of);
        if !skipped(key) || !value.is_none_or(skipped) {
            self.push_pairs(pairs);
        }
    }

    /// A map holds as many pairs as it says.
    fn check_count(&mut self, at: u64, len: u64, pairs: &Pairs) {
        if !self.strict {
            return;
        }
        let full = (0..pairs.buckets).filter(|&bucket| self.is_full(pairs, bucket));
        let found = full.count() as u64;
        if found != len {
            self.wrong(
                Kind::Length,
                at,
                format_args!("expected {len} pairs in a map, found {found} full buckets"),
            );
        }
    }

    fn is_full(&self, pairs: &Pairs, bucket: u64) -> bool {
        matches!(bytes(self.mapping, pairs.control + bucket), Some([..0x80]))
    }

    /// Visits the next pair of a map, and leaves the others.
    pub(super) fn next_pair(&mut self, plan: &Plan, mut pairs: Pairs) {
        while pairs.next < pairs.buckets && !self.is_full(&pairs, pairs.next) {
            pairs.next += 1;
        }
        if pairs.next == pairs.buckets {
            return;
        }
        let at = pairs.at + pairs.next * pairs.stride;
        pairs.next += 1;
        self.push_pairs(pairs);
        self.push_values(plan, pairs.key, at, 1);
        if let Some((value, value_at)) = pairs.value {
            self.push_values(plan, value, at + value_at, 1);
        }
    }
}
