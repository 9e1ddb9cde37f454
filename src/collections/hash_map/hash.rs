//! Hashing that gives the same in every process, build and machine that can map an arena.
//!
//! The seed is the arena's: an odd number, whose bits are as good as random (`layout::mixed_seed`).
//! Numbers are taken by value, `usize` and lengths as 64 bits: nothing of
//! the process comes in. Small parts are gathered in 128 bits, which one multiplication folds to
//! 64, and a second one mixes the result; bytes go through `rapidhash` v3, whose output is promised
//! to stay.
//!
//! All keys come through `std`'s `Hash` protocol, also strings and plain numbers: so what a
//! `Borrow` promises (equal hashes) holds here. It is not a cryptographic hash: who can choose keys
//! *and* learn the seed can make them collide.

use rapidhash::v3::{DEFAULT_RAPID_SECRETS, RapidSecrets, rapidhash_v3_inline};
use std::hash::{Hash, Hasher};

/// Digits of the golden ratio, as good as any.
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
            // Unlike the multiplier: otherwise two words could change places.
            folded: seed.rotate_left(32),
            multiplier: seed,
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
    use crate::{collections::hash_map::control::tag_of, layout::mixed_seed};
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
        let one = mixed_seed(1);
        let hashes = [
            hash_of(&7u64, one),
            hash_of(&7u64, mixed_seed(2)),
            hash_of(&7usize, one),
            hash_of(&7u8, one),
            hash_of(&-7i32, one),
            hash_of("", one),
            hash_of("key", one),
            hash_of("a key that is longer than sixteen bytes", one),
            hash_of(&[1u8, 2, 3], one),
            hash_of(&(1u64, 2u64, 3u64), one),
            hash_of(
                &Compound {
                    id: 1,
                    kind: 2,
                    name: "three",
                },
                one,
            ),
        ];
        let always = [
            0x89bf_fdcf_043c_fdc1,
            0xa8b1_9eec_de79_8393,
            0x89bf_fdcf_043c_fdc1,
            0x89bf_fdcf_043c_fdc1,
            0xa63d_880d_8383_7fcb,
            0x5043_cc12_4b75_e200,
            0x3000_c761_c85c_9671,
            0x6dbd_e1c9_4b1f_b64f,
            0x2fbe_827c_28ae_2ad0,
            0xa111_51ec_a67d_0b19,
            0x9b84_1e2e_b4f6_f0e5,
        ];
        assert_eq!(hashes, always);
    }

    /// The two words of a product may not change places.
    #[test]
    fn what_comes_first_counts() {
        let seed = mixed_seed(1);
        assert_ne!(hash_of(&(1u64, 2u64), seed), hash_of(&(2u64, 1u64), seed));
        assert_ne!(hash_of(&(0u64, 1u64), seed), hash_of(&(1u64, 0u64), seed));
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
            let seed = mixed_seed(seed);
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
        let seed = mixed_seed(5);
        let tags = (0..1 << 15).map(|n| hash_of(format!("{n}").as_str(), seed) as usize >> 4);
        let groups = spread(1 << 12, tags.map(|hash| hash % (1 << 12)));
        assert!(groups < 1.2, "groups {groups}");
    }
}
