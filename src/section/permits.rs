//! Which cells of a thread's slot hold permits: found without looking at all of them.

use super::Ctx;
use crate::layout::PERMITS;
use std::sync::atomic::Ordering::*;

/// A bit for each cell that names a semaphore. Only changed while the context is marked busy, so that
/// no signal handler comes between it and the cells.
#[derive(Clone, Copy, Default)]
pub(super) struct PermitCells(u32);

static_assertions::const_assert!(PERMITS <= u32::BITS as usize);

impl PermitCells {
    fn first_free(self) -> Option<usize> {
        let first = self.0.trailing_ones() as usize;
        (first < PERMITS).then_some(first)
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let first = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            (first < PERMITS).then_some(first)
        })
    }
}

impl Ctx {
    /// The thread's cell for the semaphore at an offset, or a free one.
    pub(crate) fn permit_cell(&self, semaphore: u64) -> Option<usize> {
        let cells = &self.slot().permits;
        let names = |cell: &usize| cells[*cell].semaphore.load(Relaxed) == semaphore;
        let mut used = self.permits.iter();
        used.find(names).or_else(|| self.permits.first_free())
    }

    /// The cell names a semaphore.
    pub(crate) fn permit_cell_used(&mut self, cell: usize) {
        self.permits.0 |= 1 << cell;
    }

    /// Frees a cell that holds no permits any more: last of all, since a semaphore that a cell names is
    /// not freed (D5).
    pub(crate) fn free_permit_cell(&mut self, cell: usize) {
        let place = &self.slot().permits[cell];
        if place.count.load(Relaxed) == 0 {
            place.semaphore.store(0, Release);
            self.permits.0 &= !(1 << cell);
        }
    }

    /// Whether the thread holds permits of some semaphore.
    pub(crate) fn holds_permits(&self) -> bool {
        self.permits.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::PermitCells;
    use crate::layout::PERMITS;

    #[test]
    fn cells_are_bits() {
        assert_eq!(PermitCells(0).first_free(), Some(0));
        assert_eq!(PermitCells(0b1011).first_free(), Some(2));
        let all = PermitCells(u32::MAX >> (u32::BITS as usize - PERMITS));
        assert_eq!(all.first_free(), None);
        assert!(all.iter().eq(0..PERMITS));
        assert!(PermitCells(0b1010).iter().eq([1, 3]));
    }
}
