//! Where everything lies, computed from four numbers of the header.
//!
//! ```text
//! | header | doubts, readers, processes | slots | slab states | slab bitmaps | slabs ... | for logs ... |
//! 0        page                                                              data_at     maximum
//! ```
//!
//! The parts before the slabs are sized for all that there may ever be. Only the first few pages of the
//! states and bitmaps have memory behind them: pages are allocated together with the slabs they
//! describe.
//!
//! # The overflow
//!
//! The slabs beyond the maximum are for the logs of sections that are at work in a full
//! arena (J13), first some that any log may use, then as many as can be needed for what is dropped, which
//! cannot be refused. A block that is dropped takes a word of a log; blocks have 16 bytes or more, and
//! belong to one section at a time; and a log takes at most twice what it needs. So there is room for all
//! that can be dropped, if there are as many of these slabs as hold blocks, and a first segment for each slot.
//! (Sections that have committed and still free hold theirs a little longer than the blocks are theirs.)

use super::{Doubt, Header, OVERFLOW_SEGMENTS, ProcessEntry, Readers, SlabBits};

/// Slabs of the smallest arenas: 4 KiB.
pub(crate) const SMALLEST_SLAB_SHIFT: u32 = 12;
/// Slabs of ordinary arenas: 64 KiB.
pub(crate) const LARGEST_SLAB_SHIFT: u32 = 16;
/// The fewest slots that make sense: one to work with, one reserved for recovery.
pub(crate) const MIN_SLOTS: u32 = 2;
pub(crate) const MAX_SLOTS: u32 = 16_000;
/// Offsets fit into 48 bits, also those beyond the maximum.
const MAX_SIZE: u64 = 1 << 45;

/// The places of an arena's parts, all offsets from its base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    /// Bytes of addresses in all, without the overflow.
    pub(crate) maximum: u64,
    pub(crate) page: usize,
    pub(crate) slab_shift: u32,
    pub(crate) slots: usize,
    pub(crate) doubts_at: u64,
    pub(crate) readers_at: u64,
    pub(crate) processes_at: u64,
    pub(crate) slots_at: u64,
    pub(crate) states_at: u64,
    pub(crate) bits_at: u64,
    pub(crate) data_at: u64,
    /// How many slabs there can be at most, without the overflow.
    pub(crate) slabs: usize,
    /// How many there are behind them that any log may use.
    pub(crate) for_logs: usize,
    /// How many there are behind those, for what is dropped.
    pub(crate) for_drops: usize,
}

impl Geometry {
    /// Lays out an arena of at most `maximum` bytes; says what is wrong with the numbers otherwise.
    pub(crate) fn new(
        maximum: u64,
        page: usize,
        slab_shift: u32,
        slots: u32,
    ) -> Result<Self, String> {
        if !page.is_power_of_two() || !(4096..=65536).contains(&page) {
            return Err(format!("pages of {page} bytes, which are not supported"));
        }
        if !(SMALLEST_SLAB_SHIFT..=LARGEST_SLAB_SHIFT).contains(&slab_shift) {
            return Err(format!(
                "slabs of 2^{slab_shift} bytes, which are not supported"
            ));
        }
        if !(MIN_SLOTS..=MAX_SLOTS).contains(&slots) {
            return Err(format!(
                "{slots} slots: expected {MIN_SLOTS} to {MAX_SLOTS}"
            ));
        }
        if maximum > MAX_SIZE {
            return Err(format!("{maximum} bytes: expected at most {MAX_SIZE}"));
        }
        let up = |at: u64, to: u64| at.next_multiple_of(to);
        let page64 = page as u64;
        let slots64 = u64::from(slots);
        let doubts_at = up(size_of::<Header>() as u64, page64);
        let readers_at = doubts_at + slots64 * size_of::<Doubt>() as u64;
        let processes_at = readers_at + slots64 * size_of::<Readers>() as u64;
        let slots_at = up(
            processes_at + slots64 * size_of::<ProcessEntry>() as u64,
            page64,
        );
        let states_at = slots_at + slots64 * page64;
        let slab = 1u64 << slab_shift;
        let most = (maximum >> slab_shift) as usize;
        let (for_logs, for_drops) = overflow(most, slots as usize);
        let most = (most + for_logs + for_drops) as u64;
        let bits_at = up(states_at + most * 8, page64);
        let data_at = up(
            bits_at + most * Self::stride(slab_shift) as u64,
            slab.max(page64),
        );
        let slabs = (maximum.saturating_sub(data_at) >> slab_shift) as usize;
        if slabs < 2 {
            return Err(format!(
                "{maximum} bytes leave no room for data: its own structures take {data_at}"
            ));
        }
        let (for_logs, for_drops) = overflow(slabs, slots as usize);
        Ok(Geometry {
            maximum,
            page,
            slab_shift,
            slots: slots as usize,
            doubts_at,
            readers_at,
            processes_at,
            slots_at,
            states_at,
            bits_at,
            data_at,
            slabs,
            for_logs,
            for_drops,
        })
    }

    /// How many slabs there can be at most, the overflow included.
    pub(crate) const fn all_slabs(&self) -> usize {
        self.slabs + self.for_logs + self.for_drops
    }

    /// The slabs of a log's first segment for what is dropped: so many that a log of
    /// [`OVERFLOW_SEGMENTS`], each twice as long as the one before, could hold a word for each block of 16
    /// bytes.
    pub(crate) const fn first_for_drops(&self) -> usize {
        first_for_drops(self.slabs)
    }

    /// Bytes of addresses in all, with it.
    pub(crate) const fn addresses(&self) -> u64 {
        self.end_of(self.all_slabs())
    }

    /// The slab size that suits an arena of at most `maximum` bytes.
    pub(crate) fn slab_shift_for(maximum: u64) -> u32 {
        match maximum {
            0..=0x10_0000 => 12,
            0x10_0001..=0x40_0000 => 13,
            0x40_0001..=0x100_0000 => 14,
            0x100_0001..=0x400_0000 => 15,
            _ => 16,
        }
    }

    /// Bytes from the bitmaps of one slab to those of the next. Not a power of two, so that they do
    /// not all fall into the same sets of the cache.
    pub(crate) const fn stride(slab_shift: u32) -> usize {
        size_of::<SlabBits>() + 2 * Self::bitmap_bytes(slab_shift)
    }

    /// Bytes of one of a slab's two bitmaps.
    pub(crate) const fn bitmap_bytes(slab_shift: u32) -> usize {
        (1 << slab_shift) / 16 / 8
    }

    /// Bytes of one slab.
    pub(crate) const fn slab(&self) -> usize {
        1 << self.slab_shift
    }

    /// The parts that have memory behind them while `committed` slabs do: offsets and lengths.
    pub(crate) fn parts(&self, committed: usize) -> [(u64, u64); 4] {
        let stride = Self::stride(self.slab_shift);
        [
            (0, self.states_at),
            (self.states_at, (committed * 8) as u64),
            (self.bits_at, (committed * stride) as u64),
            (self.data_at, (committed as u64) << self.slab_shift),
        ]
    }

    /// The end of the `count` first slabs.
    pub(crate) const fn end_of(&self, count: usize) -> u64 {
        self.data_at + ((count as u64) << self.slab_shift)
    }
}

/// The slabs of the overflow beside so many others: for logs, and for what is dropped.
const fn overflow(slabs: usize, slots: usize) -> (usize, usize) {
    (slabs.div_ceil(4), slabs + slots * first_for_drops(slabs))
}

const fn first_for_drops(slabs: usize) -> usize {
    slabs.div_ceil(1 << OVERFLOW_SEGMENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap() {
        for maximum in [
            1u64 << 17,
            1 << 18,
            1 << 20,
            12_345_678,
            1 << 30,
            1 << 36,
            1 << 40,
            MAX_SIZE,
        ] {
            for page in [4096, 16384, 65536] {
                let shift = Geometry::slab_shift_for(maximum);
                let slots = if maximum < 1 << 30 { 8 } else { MAX_SLOTS };
                let Ok(g) = Geometry::new(maximum, page, shift, slots) else {
                    assert!(maximum <= 1 << 20 || slots > 8 && maximum <= 1 << 30);
                    continue;
                };
                assert!(g.addresses() < 1 << 48);
                let starts = [
                    0,
                    g.doubts_at,
                    g.readers_at,
                    g.processes_at,
                    g.slots_at,
                    g.states_at,
                    g.bits_at,
                    g.data_at,
                ];
                assert!(starts.is_sorted());
                assert!(g.end_of(g.slabs) <= maximum);
                let largest_log = g.first_for_drops() * ((1 << OVERFLOW_SEGMENTS) - 1);
                assert!(largest_log * g.slab() >= g.slabs * g.slab() / 16 * 8);
                let all = g.all_slabs();
                assert!(g.states_at + (all * 8) as u64 <= g.bits_at);
                assert!(g.bits_at + (all * Geometry::stride(shift)) as u64 <= g.data_at);
            }
        }
    }

    #[test]
    fn refuses_nonsense() {
        assert!(Geometry::new(1 << 30, 1000, 16, 8).is_err());
        assert!(Geometry::new(1 << 30, 4096, 11, 8).is_err());
        assert!(Geometry::new(1 << 30, 4096, 16, 1).is_err());
        assert!(Geometry::new(1 << 60, 4096, 16, 8).is_err());
        assert!(Geometry::new(8192, 4096, 12, 8).is_err());
    }
}
