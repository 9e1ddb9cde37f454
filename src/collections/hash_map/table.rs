//! Probing: from a hash to a bucket, by control bytes alone.
//!
//! A search looks at whole groups, the first one chosen by the hash, the next ones at growing
//! distances, which reaches each group once. It ends at a group with an empty bucket: a key is never
//! put beyond one, and a bucket becomes empty again only if its group has another empty one.

use super::control::{Buckets, EMPTY, Freed, GROUP, Group, is_full, tag_of};

/// The smallest table.
pub(crate) const FEWEST_BUCKETS: usize = 4;

/// The control bytes of a table, for one operation.
#[derive(Clone, Copy)]
pub(super) struct Table {
    control: *mut u8,
    /// Buckets - 1.
    mask: usize,
}

/// Where a search ended.
#[derive(Clone, Copy)]
pub(super) enum Found {
    /// At the key's bucket.
    Full(usize),
    /// It is not there; this is where it belongs.
    Free(usize),
}

/// Keys that a table of that many buckets holds at most: seven eighths, so that there is always an
/// empty bucket.
pub(crate) const fn capacity_of(buckets: usize) -> usize {
    if buckets < 8 {
        buckets - 1
    } else {
        buckets / 8 * 7
    }
}

/// Buckets of a table for that many keys; `None` beyond what any memory holds.
pub(super) fn buckets_for(capacity: usize) -> Option<usize> {
    if capacity < FEWEST_BUCKETS {
        return Some(FEWEST_BUCKETS);
    }
    if capacity < 8 {
        return Some(8);
    }
    (capacity.checked_mul(8)? / 7).checked_next_power_of_two()
}

/// Control bytes of that many buckets: at least one group of them.
pub(crate) const fn control_len(buckets: usize) -> usize {
    if buckets < GROUP { GROUP } else { buckets }
}

impl Table {
    /// # Safety
    ///
    /// At `control` lie the control bytes of `mask + 1` buckets, a power of two, of which one is
    /// empty; as long as the result is used.
    #[inline(always)]
    pub(super) unsafe fn new(control: *mut u8, mask: usize) -> Self {
        Table { control, mask }
    }

    /// Makes the control bytes at `control` those of an empty table.
    ///
    /// # Safety
    ///
    /// They may be written, and nobody else uses them.
    pub(super) unsafe fn clear(control: *mut u8, mask: usize) -> Self {
        // SAFETY: by contract.
        unsafe {
            control.write_bytes(EMPTY, control_len(mask + 1));
            Table::new(control, mask)
        }
    }

    /// Makes every bucket empty.
    ///
    /// # Safety
    ///
    /// As [`Table::clear`].
    pub(super) unsafe fn clear_again(self) {
        // SAFETY: by contract.
        unsafe { Table::clear(self.control, self.mask) };
    }

    #[inline(always)]
    pub(super) fn buckets(self) -> usize {
        self.mask + 1
    }

    /// The sixteen buckets from `at` on, where a group begins.
    #[inline(always)]
    pub(super) fn group(self, at: usize) -> Group {
        debug_assert!(at <= self.mask && at.is_multiple_of(GROUP));
        // SAFETY: a group begins there, by the contract of `new`.
        unsafe { Group::load(self.control.add(at)) }
    }

    /// How many buckets are full.
    pub(super) fn count_full(self) -> usize {
        let groups = (0..self.buckets()).step_by(GROUP);
        groups.map(|at| self.group(at).full().count()).sum()
    }

    #[inline(always)]
    pub(super) fn control(self, bucket: usize) -> u8 {
        // SAFETY: one of the control bytes.
        unsafe { self.control_at(bucket).read() }
    }

    /// Where a bucket's control byte lies.
    #[inline(always)]
    pub(super) fn control_at(self, bucket: usize) -> *mut u8 {
        debug_assert!(bucket <= self.mask);
        self.control.wrapping_add(bucket)
    }

    #[inline(always)]
    pub(super) fn is_full(self, bucket: usize) -> bool {
        is_full(self.control(bucket))
    }

    /// The bucket whose key `is_it` recognises.
    #[inline(always)]
    pub(super) fn find(self, hash: u64, mut is_it: impl FnMut(usize) -> bool) -> Option<Hit> {
        let mut probe = Probe::new(hash, self.mask);
        loop {
            let group = self.group(probe.at);
            let matching = group.matching(tag_of(hash));
            if let Some(bucket) = matching.find(|bucket| is_it(probe.at + bucket)) {
                return Some(Hit {
                    bucket: probe.at + bucket,
                    group,
                });
            }
            if group.empty().any() {
                return None;
            }
            probe.go_on(self.mask);
        }
    }

    /// The bucket whose key `is_it` recognises, or the one that it is to be put into.
    #[inline(always)]
    pub(super) fn find_or_free(self, hash: u64, mut is_it: impl FnMut(usize) -> bool) -> Found {
        let mut probe = Probe::new(hash, self.mask);
        let mut free = None;
        loop {
            let group = self.group(probe.at);
            let matching = group.matching(tag_of(hash));
            if let Some(bucket) = matching.find(|bucket| is_it(probe.at + bucket)) {
                return Found::Full(probe.at + bucket);
            }
            let free_here = group.free();
            if group.empty().any() {
                // What is empty is free.
                let here = probe.at + free_here.0.trailing_zeros() as usize;
                return Found::Free(free.unwrap_or(here));
            }
            free = free.or(free_here.first().map(|bucket| probe.at + bucket));
            probe.go_on(self.mask);
        }
    }

    /// The bucket for a key that is not there.
    #[inline(always)]
    pub(super) fn find_free(self, hash: u64) -> usize {
        let mut probe = Probe::new(hash, self.mask);
        loop {
            if let Some(bucket) = self.group(probe.at).free().first() {
                return probe.at + bucket;
            }
            probe.go_on(self.mask);
        }
    }

    /// A free bucket in the group of this one, which is free, that another section freed; or none.
    ///
    /// Of a group's free buckets either all are empty or none is: so the two are alike.
    #[inline(always)]
    pub(super) fn another_free(self, bucket: usize) -> Option<usize> {
        let at = bucket & !(GROUP - 1);
        let group = self.group(at);
        let others = Buckets(group.free().0 & !group.matching(self.control(bucket)).0);
        let other = others.first().map(|bucket| at + bucket);
        // A small table's group has control bytes that stand for no bucket.
        other.filter(|&bucket| bucket <= self.mask)
    }

    /// Marks a bucket as full.
    ///
    /// # Safety
    ///
    /// Its control byte may be written, and its pair is complete.
    #[inline(always)]
    pub(super) unsafe fn fill(self, bucket: usize, hash: u64) {
        debug_assert!(!self.is_full(bucket));
        // SAFETY: by contract; one of the control bytes.
        unsafe { self.control_at(bucket).write(tag_of(hash)) };
    }

    /// The group of a bucket.
    #[inline(always)]
    pub(super) fn group_of(self, bucket: usize) -> Group {
        self.group(bucket / GROUP * GROUP)
    }

    /// Marks a full bucket as free; as *empty* if others of its group are. `freed` tells of the open
    /// section.
    ///
    /// A search that came through a group while it had an empty bucket ended there: so it does no harm if
    /// one more becomes empty. Erasing leaves it as it is whether a group has one.
    ///
    /// # Safety
    ///
    /// Its control byte may be written.
    #[inline(always)]
    pub(super) unsafe fn erase(self, bucket: usize, empty: bool, freed: Freed) {
        debug_assert!(self.is_full(bucket));
        debug_assert_eq!(self.group_of(bucket).empty().any(), empty);
        // SAFETY: by contract; one of the control bytes.
        unsafe { self.control_at(bucket).write(freed.control(empty)) };
    }
}

/// A bucket that was found, and its group as it was then.
#[derive(Clone, Copy)]
pub(super) struct Hit {
    pub(super) bucket: usize,
    pub(super) group: Group,
}

/// The groups that a hash may be in, in order.
struct Probe {
    at: usize,
    distance: usize,
}

impl Probe {
    #[inline(always)]
    fn new(hash: u64, mask: usize) -> Self {
        Probe {
            at: hash as usize & mask & !(GROUP - 1),
            distance: 0,
        }
    }

    #[inline(always)]
    fn go_on(&mut self, mask: usize) {
        debug_assert!(self.distance <= mask, "a table without an empty bucket");
        self.distance += GROUP;
        self.at = (self.at + self.distance) & mask & !(GROUP - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::{buckets_for, capacity_of};

    #[test]
    fn tables_are_just_large_enough() {
        for capacity in 0..5000 {
            let buckets = buckets_for(capacity).unwrap();
            assert!(capacity_of(buckets) >= capacity, "{capacity}");
            assert!(capacity_of(buckets) < buckets, "{capacity}");
            assert!(
                buckets == 4 || capacity_of(buckets / 2) < capacity,
                "{capacity}"
            );
        }
        assert_eq!(buckets_for(usize::MAX), None);
    }
}
