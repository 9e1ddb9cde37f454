//! The arena's file as anybody sees who maps it: what the format says, without the library.

use crate::format::field;
use memmap2::{MmapOptions, MmapRaw};
use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
};

pub(crate) const LIFE_FROM_PAGE_END: u64 = 8;
/// Bits of a life word: the thread died, the number of the thread.
const DIED: u32 = 1 << 30;
const THREAD: u32 = DIED - 1;

/// Words of a slot.
#[derive(Clone, Copy)]
pub(crate) enum Word {
    Claim,
    Lease,
    Generation,
    Log,
}

/// Their names, in that order.
const WORDS: [&str; 4] = ["Slot.claim", "Slot.lease", "Slot.generation", "Slot.log"];

/// A mapping of an arena's file, made by hand.
pub(crate) struct Front {
    map: MmapRaw,
    pub(crate) maximum: u64,
    pub(crate) page: u64,
    pub(crate) slab_shift: u64,
    pub(crate) slots: u64,
    pub(crate) slots_at: u64,
    pub(crate) states_at: u64,
    pub(crate) bits_at: u64,
    pub(crate) processes_at: u64,
    pub(crate) doubts_at: u64,
    pub(crate) readers_at: u64,
    /// Where the words are in a slot.
    words: [u64; 4],
    slots_high: u64,
    committed: u64,
    watermark: u64,
}

impl Front {
    pub(crate) fn map(path: &Path) -> io::Result<Front> {
        let file = File::options().read(true).write(true).open(path)?;
        let header = MmapOptions::new().len(4096).map_raw(&file)?;
        // SAFETY: the header is there before the file has a name, and these words never change.
        let half = |at: u64| unsafe { header.as_ptr().add(at as usize).cast::<u32>().read() };
        let word = |name| u64::from(half(field(name).start));
        let maximum = field("Header.maximum").start;
        let maximum = u64::from(half(maximum)) | u64::from(half(maximum + 4)) << 32;
        let (page, shift) = (word("Header.page_size"), word("Header.slab_shift"));
        let slots = word("Header.slots");
        let up = |at: u64| at.next_multiple_of(page);
        let doubts_at = page;
        let readers_at = doubts_at + slots * field("Doubt").end;
        let processes_at = readers_at + slots * field("Readers").end;
        let slots_at = up(processes_at + slots * field("ProcessEntry").end);
        let states_at = slots_at + slots * page;
        let slabs = maximum >> shift;
        let overflow = slabs.div_ceil(4) + slabs + slots * slabs.div_ceil(1 << 12);
        let bits_at = up(states_at + (slabs + overflow) * 8);
        Ok(Front {
            map: MmapOptions::new()
                .len(maximum as usize)
                .no_reserve_swap()
                .map_raw(&file)?,
            maximum,
            page,
            slab_shift: shift,
            slots,
            slots_at,
            states_at,
            bits_at,
            processes_at,
            doubts_at,
            readers_at,
            words: WORDS.map(|name| field(name).start),
            slots_high: field("Header.slots_high").start,
            committed: field("Header.committed").start,
            watermark: field("Header.watermark").start,
        })
    }

    /// Any word of the part of the file that has memory behind it.
    pub(crate) fn word(&self, at: u64) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < self.map.len() as u64);
        // SAFETY: inside the map and aligned; that there is memory is the caller's business, and
        // what else would be a signal, not a wrong value.
        unsafe { &*self.map.as_ptr().add(at as usize).cast::<AtomicU64>() }
    }

    pub(crate) fn slot_at(&self, slot: u64) -> u64 {
        self.slots_at + slot * self.page
    }

    pub(crate) fn slot(&self, slot: u64, word: Word) -> u64 {
        let at = self.slot_at(slot) + self.words[word as usize];
        self.word(at).load(SeqCst)
    }

    /// One more than the highest slot that was ever claimed.
    pub(crate) fn slots_high(&self) -> u64 {
        (self.word(self.slots_high).load(SeqCst) & 0xffff_ffff).clamp(1, self.slots)
    }

    /// Slabs that have memory behind them.
    pub(crate) fn committed(&self) -> u64 {
        self.word(self.committed).load(SeqCst)
    }

    pub(crate) fn watermark(&self) -> u64 {
        self.word(self.watermark).load(SeqCst)
    }

    /// Bytes from what is kept of one slab to what is kept of the next.
    pub(crate) fn stride(&self) -> u64 {
        64 + 2 * ((1 << self.slab_shift) / 16 / 8)
    }

    /// The life word is the last but one of its page.
    fn life(&self, slot: u64) -> u32 {
        let at = self.slot_at(slot + 1) - LIFE_FROM_PAGE_END;
        // SAFETY: the slots have memory from the start.
        let life = unsafe { &*self.map.as_ptr().add(at as usize).cast::<AtomicU32>() };
        life.load(SeqCst)
    }

    /// The thread that lives in a slot.
    pub(crate) fn thread_in(&self, slot: u64) -> Option<u32> {
        let life = self.life(slot);
        (life != 0 && life & DIED == 0).then_some(life & THREAD)
    }

    pub(crate) fn slot_of_thread(&self, thread: u32) -> Option<u64> {
        (0..self.slots_high()).find(|&slot| self.thread_in(slot) == Some(thread))
    }

    /// What the slots say that somebody has, for people to read.
    pub(crate) fn taken_slots(&self) -> String {
        let mut text = String::new();
        for slot in 0..self.slots_high() {
            let [claim, lease, log] =
                [Word::Claim, Word::Lease, Word::Log].map(|word| self.slot(slot, word));
            let life = self.life(slot);
            if claim != 0 || life != 0 {
                text += &format!(
                    "\nslot {slot}: claim {claim:#x}, life {life:#x}, lease {lease:#x}, log {log:#x}"
                );
            }
        }
        text
    }

    /// A slot that is being recovered, and the slot that does it.
    pub(crate) fn recovery(&self) -> Option<(u64, u64)> {
        (0..self.slots_high()).find_map(|dead| {
            let by = recoverer(self.slot(dead, Word::Lease))?;
            (by < self.slots).then_some((dead, by))
        })
    }

    /// Whether the recoverer of a slot died over it.
    pub(crate) fn was_cut(&self, dead: u64, by: u64) -> bool {
        recoverer(self.slot(dead, Word::Lease)) == Some(by) && self.life(by) & DIED != 0
    }
}

/// The slot that a lease names.
fn recoverer(lease: u64) -> Option<u64> {
    (lease >> 1 & 0x7fff).checked_sub(1)
}
