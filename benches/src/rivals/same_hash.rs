//! Sharena's hash function for `hashbrown`: what is compared are the tables.

#[path = "../../../src/collections/hash_map/hash.rs"]
mod hash;

use std::hash::{BuildHasher, DefaultHasher, Hash};

/// Hashes as an arena with this seed does.
#[derive(Clone)]
pub(crate) struct SameHash {
    seed: u64,
}

impl SameHash {
    /// With a seed that the compiler does not know, as it does not know an arena's: odd, as those are.
    pub(crate) fn new() -> SameHash {
        SameHash {
            seed: std::hint::black_box(0x1c69_b3f7_4ac4_ab21),
        }
    }
}

impl BuildHasher for SameHash {
    type Hasher = DefaultHasher;

    /// Not what `hashbrown` uses: it asks for hashes of whole keys.
    fn build_hasher(&self) -> DefaultHasher {
        unreachable!("hashes are made by hash_one")
    }

    #[inline(always)]
    fn hash_one<T: Hash>(&self, key: T) -> u64 {
        hash::hash_of(&key, self.seed)
    }
}
