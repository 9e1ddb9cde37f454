//! A group in two ordinary words, for every machine.

use super::Buckets;

const HIGH: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Sixteen control bytes, the first in the lowest bits.
#[derive(Clone, Copy)]
pub(in super::super) struct Group([u64; 2]);

impl Group {
    /// # Safety
    ///
    /// Sixteen control bytes lie at `control`.
    #[inline(always)]
    pub(in super::super) unsafe fn load(control: *const u8) -> Self {
        // SAFETY: by contract; the load need not be aligned.
        let words: [u64; 2] = unsafe { control.cast::<[u64; 2]>().read_unaligned() };
        Group(words.map(u64::from_le))
    }

    /// The buckets whose control byte is `byte`.
    #[inline(always)]
    pub(in super::super) fn matching(self, byte: u8) -> Buckets {
        self.gather(|word| {
            let different = word ^ (ONES * u64::from(byte));
            // The top bit of each byte that is zero, exactly: no carry leaves a byte.
            !(((different & !HIGH) + !HIGH) | different) & HIGH
        })
    }

    /// The empty ones.
    #[inline(always)]
    pub(in super::super) fn empty(self) -> Buckets {
        self.gather(|word| word & word << 1 & HIGH)
    }

    /// The empty and the deleted ones.
    #[inline(always)]
    pub(in super::super) fn free(self) -> Buckets {
        self.gather(|word| word & HIGH)
    }

    /// The full ones.
    #[inline(always)]
    pub(in super::super) fn full(self) -> Buckets {
        self.gather(|word| !word & HIGH)
    }

    /// One bit for each byte whose top bit `of` gives.
    #[inline(always)]
    fn gather(self, of: impl Fn(u64) -> u64) -> Buckets {
        let [low, high] = self.0.map(|word| pack(of(word)));
        Buckets(u16::from(low) | u16::from(high) << 8)
    }
}

/// The top bits of eight bytes, side by side: the product has bit 7 of byte `n` at bit `56 + n`, and
/// no two of its terms meet in one bit.
#[inline(always)]
fn pack(high: u64) -> u8 {
    ((high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}
