//! Control bytes: one for each bucket, looked at sixteen at a time.
//!
//! | byte | the bucket |
//! |---|---|
//! | `0xxx_xxxx` | is full; the bits are the top seven of its key's hash |
//! | `1111_1111` | is [`EMPTY`]: no search goes on beyond its group |
//! | `1000_0000` | is [`DELETED`]: free too, but searches go on |
//!
//! A *group* is sixteen control bytes, and begins at a multiple of sixteen: so each bucket has one
//! byte, which is recorded and written alone. (Tables that load groups at any position keep a copy
//! of the first group behind the last.)

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
#[cfg(target_arch = "x86_64")]
mod sse2;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use portable::Group;
#[cfg(target_arch = "x86_64")]
pub(super) use sse2::Group;

/// A bucket that was free ever since the table was made, or is as if it had been.
pub(crate) const EMPTY: u8 = 0xff;
/// A bucket that is free, in a group that was full once.
pub(crate) const DELETED: u8 = 0x80;
/// Control bytes in a group.
pub(super) const GROUP: usize = 16;

/// What the control byte of a full bucket says: bits of the hash that do not choose the group.
#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash >> 57) as u8
}

/// Whether the control byte is that of a full bucket.
#[inline(always)]
pub(super) fn is_full(control: u8) -> bool {
    control & 0x80 == 0
}

/// Some of the sixteen buckets of a group: iterates from the lowest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buckets(pub(super) u16);

impl Buckets {
    /// The lowest one.
    #[inline(always)]
    pub(super) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }

    #[inline(always)]
    pub(super) fn any(self) -> bool {
        self.0 != 0
    }
}

impl Iterator for Buckets {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let first = self.first()?;
        self.0 &= self.0 - 1;
        Some(first)
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::{DELETED, EMPTY, GROUP, is_full, portable, sse2};
    use proptest::prelude::*;

    fn control_byte() -> impl Strategy<Value = u8> {
        prop_oneof![Just(EMPTY), Just(DELETED), 0u8..128, Just(0), Just(1)]
    }

    proptest! {
        #[test]
        fn both_groups_see_the_same(
            bytes in prop::array::uniform16(control_byte()),
            tag in 0u8..128,
        ) {
            // SAFETY: sixteen bytes each.
            let (a, b) = unsafe {
                (sse2::Group::load(bytes.as_ptr()), portable::Group::load(bytes.as_ptr()))
            };
            prop_assert_eq!(a.matching(tag), b.matching(tag));
            prop_assert_eq!(a.empty(), b.empty());
            prop_assert_eq!(a.free(), b.free());
            prop_assert_eq!(a.full(), b.full());
            #[allow(clippy::needless_range_loop)]
            for bucket in 0..GROUP {
                let is = |mask: super::Buckets| mask.0 >> bucket & 1 == 1;
                prop_assert_eq!(is(b.matching(tag)), bytes[bucket] == tag);
                prop_assert_eq!(is(b.empty()), bytes[bucket] == EMPTY);
                prop_assert_eq!(is(b.full()), is_full(bytes[bucket]));
                prop_assert_eq!(is(b.free()), !is_full(bytes[bucket]));
            }
        }
    }
}
