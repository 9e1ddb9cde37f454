//! Control bytes: one for each bucket, looked at sixteen at a time.
//!
//! | byte | the bucket |
//! |---|---|
//! | `0xxx_xxxx` | is full; the bits are the top seven of its key's hash |
//! | `11ss_ssss` | is *empty*: no search goes on beyond its group |
//! | `10ss_ssss` | is *deleted*: free too, but searches go on |
//!
//! The bits `s` of a free bucket tell which section freed it, as far as six bits can: the open one
//! did for certain *not* if they are not those of its stamp ([`Freed`]). A bucket that was never
//! full is [`EMPTY`], with bits that no section has.
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

/// A bucket that was free ever since the table was made.
pub(crate) const EMPTY: u8 = 0xff;
/// The least control byte of an empty bucket, and a bit that those of other free ones do not have.
const EMPTIES: u8 = 0xc0;
const EMPTY_BIT: u32 = 6;
/// The least control byte of a free bucket.
const FREE: u8 = 0x80;
/// Control bytes in a group.
pub(super) const GROUP: usize = 16;

/// What the control byte of a full bucket says: bits of the hash that do not choose the group.
#[inline(always)]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash >> 57) as u8
}

/// Whether the control byte is that of a full bucket.
#[inline(always)]
pub(crate) fn is_full(control: u8) -> bool {
    control & 0x80 == 0
}

/// Whether the control byte is that of an empty bucket.
#[inline(always)]
pub(crate) fn is_empty(control: u8) -> bool {
    control >= EMPTIES
}

/// What the control bytes of buckets that a section frees say of it.
#[derive(Clone, Copy)]
pub(super) struct Freed(u8);

impl Freed {
    const BITS: u8 = 0x3f;

    /// Of the section with that stamp.
    #[inline(always)]
    pub(super) fn by(stamp: u64) -> Self {
        // All ones are for buckets that nobody freed: 0 to 63 become 0 to 62.
        let bits = stamp as u8 & Self::BITS;
        Freed(bits - (bits >> 5))
    }

    /// The control byte of a bucket that is freed now.
    #[inline(always)]
    pub(super) fn control(self, empty: bool) -> u8 {
        FREE | self.0 | u8::from(empty) << EMPTY_BIT
    }

    /// Whether the section may have freed the bucket. Not if it was free when the section began,
    /// in most cases.
    #[inline(always)]
    pub(super) fn may_have(self, control: u8) -> bool {
        !is_full(control) && control & Self::BITS == self.0
    }
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

    /// The lowest one that `is_it` recognises, mostly the first: what comes next is found out only if
    /// it is not.
    #[inline(always)]
    pub(super) fn find(mut self, mut is_it: impl FnMut(usize) -> bool) -> Option<usize> {
        while let Some(first) = self.first() {
            if is_it(first) {
                return Some(first);
            }
            self.0 &= self.0 - 1;
        }
        None
    }

    #[inline(always)]
    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    #[inline(always)]
    pub(super) fn count(self) -> usize {
        self.0.count_ones() as usize
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
    use super::{EMPTY, Freed, GROUP, is_empty, is_full, portable, sse2};
    use proptest::prelude::*;

    fn control_byte() -> impl Strategy<Value = u8> {
        prop_oneof![Just(EMPTY), 0x80u8.., 0u8..128, Just(0), Just(1)]
    }

    #[test]
    fn free_buckets_tell_who_freed_them() {
        for stamp in 0..200 {
            let (this, next) = (Freed::by(stamp), Freed::by(stamp + 2));
            for empty in [false, true] {
                let control = this.control(empty);
                assert!(!is_full(control));
                assert_eq!(is_empty(control), empty);
                assert!(this.may_have(control));
                assert!(!next.may_have(control));
            }
            assert!(!this.may_have(EMPTY));
            assert!((0..128).all(|control| !this.may_have(control)));
        }
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
                prop_assert_eq!(is(b.empty()), is_empty(bytes[bucket]));
                prop_assert_eq!(is(b.full()), is_full(bytes[bucket]));
                prop_assert_eq!(is(b.free()), !is_full(bytes[bucket]));
            }
        }
    }
}
