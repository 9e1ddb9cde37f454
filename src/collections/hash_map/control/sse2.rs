//! A group in one register of x86-64, where SSE2 is always there.

use super::Buckets;
use std::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
    _mm_slli_epi16,
};

/// Sixteen control bytes.
#[derive(Clone, Copy)]
pub(in super::super) struct Group(__m128i);

impl Group {
    /// # Safety
    ///
    /// Sixteen control bytes lie at `control`.
    #[inline(always)]
    pub(in super::super) unsafe fn load(control: *const u8) -> Self {
        // SAFETY: by contract; the load need not be aligned.
        Group(unsafe { _mm_loadu_si128(control.cast()) })
    }

    /// The buckets whose control byte is `byte`.
    #[inline(always)]
    pub(in super::super) fn matching(self, byte: u8) -> Buckets {
        // SAFETY: SSE2 is part of x86-64.
        unsafe {
            let equal = _mm_cmpeq_epi8(self.0, _mm_set1_epi8(byte as i8));
            Buckets(_mm_movemask_epi8(equal) as u16)
        }
    }

    /// The empty ones.
    #[inline(always)]
    pub(in super::super) fn empty(self) -> Buckets {
        // SAFETY: SSE2 is part of x86-64.
        unsafe {
            // Bit 6 of each byte comes to stand at its bit 7; what crosses to the next byte does
            // not matter.
            let both = _mm_and_si128(self.0, _mm_slli_epi16::<1>(self.0));
            Buckets(_mm_movemask_epi8(both) as u16)
        }
    }

    /// The empty and the deleted ones.
    #[inline(always)]
    pub(in super::super) fn free(self) -> Buckets {
        // SAFETY: SSE2 is part of x86-64.
        Buckets(unsafe { _mm_movemask_epi8(self.0) } as u16)
    }

    /// The full ones.
    #[inline(always)]
    pub(in super::super) fn full(self) -> Buckets {
        Buckets(!self.free().0)
    }
}
