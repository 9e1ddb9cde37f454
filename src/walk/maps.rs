//! The stored form of maps and sets, read without trusting it.
//!
//! A block holds the pairs of `mask + 1` buckets, then a control byte for each bucket, at least one
//! group of them. Searches rely on what is checked here: that control bytes which stand for no
//! bucket are *empty*, and that some bucket is.

use super::{Edge, Kind, Plan, Visitor, Walk, bytes};
use crate::{
    collections::hash_map::stored::{
        EMPTY, FEWEST_BUCKETS, capacity_of, control_len, is_empty, is_full,
    },
    layout::MapHeader,
    share::TypeIndex,
};
use std::{fmt, mem::offset_of};

/// The block of a map, whose pairs are visited from `next` on.
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

/// How many buckets of a table are in which state.
#[derive(Default)]
struct Counts {
    full: u64,
    deleted: u64,
    /// Bytes that no table has.
    strange: u64,
}

impl Pairs {
    /// The pairs of a map at `block`, and the bytes that such a block has; `None` if they do not
    /// make sense.
    fn new(
        plan: &Plan,
        block: u64,
        mask: u64,
        key: TypeIndex,
        value: Option<TypeIndex>,
    ) -> Option<(Self, u64)> {
        let buckets = mask.checked_add(1).filter(|n| n.is_power_of_two())?;
        if buckets < FEWEST_BUCKETS as u64 {
            return None;
        }
        let (size, align) = value.map_or((0, 1), |of| (plan.size(of), plan.align(of)));
        let value_at = plan.size(key).checked_next_multiple_of(align)?;
        let stride = value_at
            .checked_add(size)?
            .checked_next_multiple_of(align.max(plan.align(key)))?;
        let pairs = buckets.checked_mul(stride)?;
        let pairs_and_control = pairs.checked_add(control_len(buckets as usize) as u64)?;
        let found = Pairs {
            at: block,
            control: block.checked_add(pairs)?,
            buckets,
            next: 0,
            stride,
            key,
            value: value.map(|of| (of, value_at)),
        };
        Some((found, pairs_and_control))
    }
}

impl<V: Visitor> Walk<'_, V> {
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
        let Some([len, mask, growth_left]) = self.words(at + 24) else {
            return;
        };
        if block == 0 {
            self.check_empty_map(at, [len, mask, growth_left]);
            return;
        }
        let Some((pairs, needed)) = Pairs::new(plan, block, mask, key, value) else {
            self.wrong_map(at, format_args!("expected a table's mask, found {mask:#x}"));
            return;
        };
        let edge = Edge {
            header: at,
            header_size: size_of::<MapHeader>() as u64,
            block,
        };
        if self.follow(edge, Some(needed)).is_none() {
            return;
        }
        if self.strict {
            self.check_table(at, len, growth_left, &pairs);
        }
        let skipped = |of: TypeIndex| plan.is_skipped(of);
        if !skipped(key) || !value.is_none_or(skipped) {
            self.push_pairs(pairs);
        }
    }

    fn wrong_map(&mut self, at: u64, what: fmt::Arguments<'_>) {
        self.wrong(Kind::Length, at, what);
    }

    fn check_empty_map(&mut self, at: u64, [len, mask, growth_left]: [u64; 3]) {
        if len != 0 || mask != 0 || growth_left != 0 {
            self.wrong_map(
                at,
                format_args!(
                    "expected a map without a table to be empty, found {len} keys, a mask of \
                     {mask:#x} and room for {growth_left}"
                ),
            );
        }
    }

    /// A map holds as many keys as it says, and leaves some bucket empty also when it is full.
    fn check_table(&mut self, at: u64, len: u64, growth_left: u64, pairs: &Pairs) {
        let counts = self.count(pairs);
        if counts.full != len {
            self.wrong_map(
                at,
                format_args!("expected {len} keys in a map, found {}", counts.full),
            );
        }
        let capacity = capacity_of(pairs.buckets as usize) as u64;
        let used = counts.full + counts.deleted;
        if growth_left > capacity.saturating_sub(used) || used > capacity {
            self.wrong_map(
                at,
                format_args!(
                    "expected a table for {capacity} keys, found {used} used buckets and room for \
                     {growth_left} more"
                ),
            );
        }
        if counts.strange > 0 {
            self.wrong_map(
                at,
                format_args!(
                    "expected control bytes, found {} that no table has",
                    counts.strange
                ),
            );
        }
    }

    fn count(&self, pairs: &Pairs) -> Counts {
        let mut counts = Counts::default();
        for bucket in 0..control_len(pairs.buckets as usize) as u64 {
            let control = self.control(pairs, bucket);
            match bucket < pairs.buckets {
                true if is_full(control) => counts.full += 1,
                true if is_empty(control) => {}
                true => counts.deleted += 1,
                false if control == EMPTY => {}
                false => counts.strange += 1,
            }
        }
        counts
    }

    fn control(&self, pairs: &Pairs, bucket: u64) -> u8 {
        bytes(self.mapping, pairs.control + bucket).map_or(EMPTY, u8::from_ne_bytes)
    }

    /// Visits the next pair of a map, and leaves the others.
    pub(super) fn next_pair(&mut self, plan: &Plan, mut pairs: Pairs) {
        while pairs.next < pairs.buckets && !is_full(self.control(&pairs, pairs.next)) {
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
