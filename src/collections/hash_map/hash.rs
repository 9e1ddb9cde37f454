//! Hashing that gives the same in every process, build and machine that can map an arena.
//!
//! The seed is the arena's. Numbers are taken by value, `usize` and lengths as 64 bits: nothing of
//! the process comes in. Small parts are gathered in 128 bits, which one multiplication folds to
//! 64, and a second one mixes the result; bytes go through `rapidhash` v3, whose output is promised
//! to stay.
//!
//! All keys come through `std`'s `Hash` protocol, also strings and plain numbers: so what a
//! `Borrow` promises (equal hashes) holds here. It is not a cryptographic hash: who can choose keys
//! *and* learn the seed can make them collide.

use rapidhash::v3::{DEFAULT_RAPID_SECRETS, RapidSecrets, rapidhash_v3_inline};
use std::hash::{Hash, Hasher};

/// Digits of pi, as good as any.
const MULTIPLIER: u64 = 0x243f_6a88_85a3_08d3;
/// Digits of the golden ratio, likewise.
const FINAL_MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a key in an arena with that seed.
#[inline(always)]
pub(super) fn hash_of<Q: ?Sized + Hash>(key: &Q, seed: u64) -> u64 {
    let mut hasher = ArenaHasher::new(seed);
    key.hash(&mut hasher);
    hasher.finish()
}

/// The parts of a key are gathered in `pending`, and folded into `folded` when they are 128 bits.
/// Everything but the parts themselves is known at compile time.
struct ArenaHasher {
    folded: u64,
    multiplier: u64,
    pending: u128,
    /// How much of `pending` is used.
    bits: u32,
}

impl ArenaHasher {
    #[inline(always)]
    fn new(seed: u64) -> Self {
        ArenaHasher {
            folded: seed,
            multiplier: seed.rotate_left(32) ^ MULTIPLIER | 1,
            pending: 0,
            bits: 0,
        }
    }

    #[inline(always)]
    fn gather(&mut self, part: impl Into<u128>, bits: u32) {
        if self.bits + bits > 128 {
            self.fold();
        }
        self.pending |= part.into() << self.bits;
        self.bits += bits;
    }

    #[inline(always)]
    fn fold(&mut self) {
        self.folded = self.folded_now();
        self.pending = 0;
        self.bits = 0;
    }

    #[inline(always)]
    fn folded_now(&self) -> u64 {
        let low = self.pending as u64 ^ self.folded;
        let high = (self.pending >> 64) as u64 ^ self.multiplier;
        folded_product(low, high)
    }
}

/// `rapidhash` with secrets of an arena: with known ones, collisions could be made that hold for every
/// seed.
#[inline(always)]
fn hash_bytes(folded: u64, multiplier: u64, bytes: &[u8]) -> u64 {
    let secrets = RapidSecrets {
        seed: folded,
        secrets: DEFAULT_RAPID_SECRETS
            .secrets
            .map(|secret| secret ^ multiplier),
    };
    // Without the final mixing: `finish` does that.
    rapidhash_v3_inline::<false, false, false>(bytes, &secrets)
}

/// Takes no hasher: one whose address was given away would have to lie in memory, of short keys, too.
#[inline(never)]
fn hash_long(folded: u64, multiplier: u64, bytes: &[u8]) -> u64 {
    hash_bytes(folded, multiplier, bytes)
}

/// The two halves of a product of 128 bits, one over the other.
#[inline(always)]
fn folded_product(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Hasher for ArenaHasher {
    /// One product alone spreads regular keys badly with one seed in ten.
    #[inline(always)]
    fn finish(&self) -> u64 {
        folded_product(self.folded_now(), FINAL_MULTIPLIER)
    }

    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        if self.bits != 0 {
            self.fold();
        }
        self.folded = if bytes.len() <= 16 {
            hash_bytes(self.folded, self.multiplier, bytes)
        } else {
            hash_long(self.folded, self.multiplier, bytes)
        };
    }

    #[inline(always)]
    fn write_u8(&mut self, part: u8) {
        self.gather(part, 8);
    }

    #[inline(always)]
    fn write_u16(&mut self, part: u16) {
        self.gather(part, 16);
    }

    #[inline(always)]
    fn write_u32(&mut self, part: u32) {
        self.gather(part, 32);
    }

    #[inline(always)]
    fn write_u64(&mut self, part: u64) {
        self.gather(part, 64);
    }

    #[inline(always)]
    fn write_u128(&mut self, part: u128) {
        self.gather(part, 128);
    }

    #[inline(always)]
    fn write_usize(&mut self, part: usize) {
        self.gather(part as u64, 64);
    }

    // The signed ones come as unsigned ones by themselves.
}

#[cfg(test)]
mod tests {
    use super::{ArenaHasher, hash_of};
    use crate::collections::hash_map::control::tag_of;
    use std::hash::{Hash, Hasher};

    #[derive(Hash)]
    struct Compound {
        id: u32,
        kind: u8,
        name: &'static str,
    }

    /// What is stored in arenas depends on these values, and so on `std` hashing as it always did:
    /// where one changes, arenas of older builds are not understood any more.
    #[test]
    fn hashes_are_what_they_always_were() {
        let hashes = [
            hash_of(&7u64, 1),
            hash_of(&7u64, 2),
            hash_of(&7usize, 1),
            hash_of(&7u8, 1),
            hash_of(&-7i32, 1),
            hash_of("", 1),
            hash_of("key", 1),
            hash_of("a key that is longer than sixteen bytes", 1),
            hash_of(&[1u8, 2, 3], 1),
            hash_of(&(1u64, 2u64, 3u64), 1),
            hash_of(
                &Compound {
                    id: 1,
                    kind: 2,
                    name: "three",
                },
                1,
            ),
        ];
        let always = [
            0x4d64_3854_f4b4_737a,
            0xa057_bd70_d60d_aaf1,
            0x4d64_3854_f4b4_737a,
            0x4d64_3854_f4b4_737a,
            0x1235_0e99_2a42_ad85,
            0x4d5c_2abb_9835_86d9,
            0xffb6_4e13_87cf_abc9,
            0xb2f1_50a5_2c9b_7028,
            0xb27f_521b_783b_fcb3,
            0x26b2_1c2a_7a5a_39bd,
            0x9651_09d7_b772_2652,
        ];
        assert_eq!(hashes, always);
    }

    #[test]
    fn usize_hashes_as_u64() {
        assert_eq!(hash_of(&7usize, 9), hash_of(&7u64, 9));
        assert_eq!(hash_of(&-7isize, 9), hash_of(&-7i64, 9));
    }

    #[test]
    fn parts_beyond_128_bits_are_folded() {
        let mut a = ArenaHasher::new(3);
        (1u128, 2u8).hash(&mut a);
        let mut b = ArenaHasher::new(3);
        (1u128, 3u8).hash(&mut b);
        assert_ne!(a.finish(), b.finish());
    }

    /// Chi-square per cell.
    fn spread(cells: usize, hits: impl Iterator<Item = usize>) -> f64 {
        let mut counts = vec![0u32; cells];
        let mut total = 0f64;
        for cell in hits {
            counts[cell] += 1;
            total += 1.0;
        }
        let mean = total / cells as f64;
        let sum: f64 = counts.iter().map(|&n| (f64::from(n) - mean).powi(2)).sum();
        sum / mean / cells as f64
    }

    fn check(name: &str, keys: impl Fn() -> Box<dyn Iterator<Item = u64>>) {
        for seed in [0, 1, 0x1234_5678_9abc_def0, 0xdead_beef_0000_0001, u64::MAX] {
            // Groups of a table of 1 << 16 buckets that is filled with 1 << 15 keys, and tags.
            let groups = keys().map(|key| (hash_of(&key, seed) >> 4) as usize % (1 << 12));
            let groups = spread(1 << 12, groups);
            let tags = spread(128, keys().map(|key| tag_of(hash_of(&key, seed)) as usize));
            let joint = keys().map(|key| {
                let hash = hash_of(&key, seed);
                ((hash >> 4) as usize % 64) * 128 + tag_of(hash) as usize
            });
            let joint = spread(64 * 128, joint);
            // At random all are near 1, with deviations of 0.02, 0.13 and 0.02.
            assert!(groups < 1.2, "{name}, seed {seed:x}: groups {groups}");
            assert!(tags < 1.8, "{name}, seed {seed:x}: tags {tags}");
            assert!(joint < 1.2, "{name}, seed {seed:x}: joint {joint}");
        }
    }

    #[test]
    fn regular_keys_are_spread_evenly() {
        const COUNT: u64 = 1 << 15;
        check("sequence", || Box::new(0..COUNT));
        for shift in [1, 3, 4, 8, 12, 16, 20, 32, 40, 48] {
            check("stride", move || {
                Box::new((0..COUNT).map(move |n| n << shift))
            });
        }
        for step in [3, 10, 24, 1000, 4095, 1_000_003] {
            check("multiples", move || {
                Box::new((0..COUNT).map(move |n| n * step))
            });
        }
        check("floats", || {
            Box::new((0..COUNT).map(|n| (n as f64 / 8.0).to_bits()))
        });
        check("reversed", || Box::new((0..COUNT).map(u64::reverse_bits)));
    }

    #[test]
    fn short_strings_are_spread_evenly() {
        let tags = (0..1 << 15).map(|n| hash_of(format!("{n}").as_str(), 5) as usize >> 4);
        let groups = spread(1 << 12, tags.map(|hash| hash % (1 << 12)));
        assert!(groups < 1.2, "groups {groups}");
    }
}
