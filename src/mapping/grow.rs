//! Growth: pages first, then one store of the committed size.
//!
//! 1. Pages for the new slabs' states and bitmaps are allocated, then those of the slabs.
//! 2. The committed size is raised (never lowered, so several growers do not disturb each other).
//!
//! A kill before 2 leaves pages allocated that nobody uses yet; the next grower finds them.

use super::{Backing, Mapping};
use crate::{
    error::{Error, Result},
    layout::Geometry,
    os,
};
use std::sync::atomic::Ordering::*;

const SMALLEST_STEP: u64 = 256 << 10;
const LARGEST_STEP: u64 = 64 << 20;

impl Mapping {
    /// Sees to it that the first `slabs` slabs have memory behind them.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] beyond the overflow, [`Error::NoSpace`] if the file cannot grow.
    pub(crate) fn commit(&self, slabs: usize) -> Result {
        let now = self.committed();
        if slabs <= now {
            return Ok(());
        }
        if slabs > self.geometry.all_slabs() {
            return Err(self.full((slabs - now) << self.geometry.slab_shift));
        }
        // The overflow grows by no more than is needed.
        let most = self.geometry.slabs.max(slabs);
        let generous = self.generous(now).clamp(slabs, most);
        if self.allocate(now, generous).is_ok() {
            return self.committed_now(generous);
        }
        match self.allocate(now, slabs) {
            Ok(()) => self.committed_now(slabs),
            Err(source) => Err(Error::NoSpace {
                requested: ((slabs - now) as u64) << self.geometry.slab_shift,
                source,
            }),
        }
    }

    pub(crate) fn full(&self, requested: usize) -> Error {
        Error::Full {
            requested,
            maximum: self.geometry.maximum,
        }
    }

    /// Grows by an eighth, so that growth costs little and wastes little.
    fn generous(&self, now: usize) -> usize {
        let shift = self.geometry.slab_shift;
        let step = (((now as u64) << shift) / 8).clamp(SMALLEST_STEP, LARGEST_STEP);
        let step = step
            .min(self.geometry.maximum / 16)
            .max(self.geometry.page as u64);
        now + (step >> shift).max(1) as usize
    }

    fn committed_now(&self, slabs: usize) -> Result {
        let before = self.header().committed.fetch_max(slabs as u64, AcqRel);
        if self.huge.load(Relaxed) {
            self.collapse(before as usize, slabs);
        }
        Ok(())
    }

    /// Asks for huge pages, now and when the arena grows. A wish: whatever the kernel answers, the pages
    /// are there.
    pub(crate) fn wish_huge_pages(&self) {
        if os::memory::huge_pages(self.base(), self.len()).is_ok() {
            self.huge.store(true, Relaxed);
            self.collapse(0, self.committed());
        }
    }

    /// Makes huge pages of slabs `from..to`, and of what belongs to the huge page that `from` lies in.
    #[cold]
    fn collapse(&self, from: usize, to: usize) {
        let huge = os::memory::huge_page_size();
        let ends = |slab| self.geometry.end_of(slab) as usize / huge * huge;
        for at in (ends(from)..ends(to)).step_by(huge) {
            // One by one: a range with a hole in it is refused, and the others are not.
            let _ = os::memory::collapse(self.base().wrapping_add(at), huge);
        }
    }

    /// Allocates the pages of slabs `from..to`, and of what describes them.
    fn allocate(&self, from: usize, to: usize) -> std::io::Result<()> {
        let g = &self.geometry;
        let stride = Geometry::stride(g.slab_shift);
        let parts = [
            (g.states_at, from * 8, to * 8),
            (g.bits_at, from * stride, to * stride),
            (g.data_at, from << g.slab_shift, to << g.slab_shift),
        ];
        for (at, from, to) in parts {
            self.allocate_pages(at + from as u64, at + to as u64)?;
        }
        Ok(())
    }

    /// Allocates the pages that hold the bytes `from..to` of the file.
    pub(crate) fn allocate_pages(&self, from: u64, to: u64) -> std::io::Result<()> {
        let page = self.geometry.page as u64;
        let from = from & !(page - 1);
        let to = to.next_multiple_of(page);
        match &self.backing {
            Backing::File { file, .. } => os::file::allocate(file, from, to - from),
            Backing::Memory => Ok(()),
        }
    }

    /// Gives the pages back to the system that hold the bytes `from..to`, a range of whole pages.
    /// They read as zeroes then, until something is written to them; on a full file system that is
    /// SIGBUS, so [`allocate_pages`](Mapping::allocate_pages) comes before any use.
    pub(crate) fn punch_pages(&self, from: u64, to: u64) -> std::io::Result<()> {
        match &self.backing {
            Backing::File { file, .. } => os::file::punch(file, from, to - from),
            Backing::Memory => {
                let start = self.base().wrapping_add(from as usize);
                // SAFETY: the caller has claimed the slabs that lie there, so nobody uses them.
                unsafe { os::memory::discard(start, (to - from) as usize) }
            }
        }
    }
}
