//! Crash states: how they are told apart, and kept.

use crate::{
    start::small,
    stepper::{Change, Recording},
};
use sharena::Arena;
use std::{collections::HashSet, rc::Rc};

/// An image as the words in which it differs from another.
pub(crate) type Sparse = Vec<(u32, u64)>;

fn word(image: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(image[at..at + 8].try_into().expect("eight bytes"))
}

fn differences(from: &[u8], image: &[u8]) -> Sparse {
    (0..image.len() / 8)
        .filter(|&index| word(from, index * 8) != word(image, index * 8))
        .map(|index| (index as u32, word(image, index * 8)))
        .collect()
}

/// A number that stands for a word at its place. Those of an image are added up.
fn mix(index: usize, value: u64) -> u64 {
    // Most words are 0: these count for nothing.
    if value == 0 {
        return 0;
    }
    let mixed = u128::from(value ^ 0x9e37_79b9_7f4a_7c15)
        * u128::from((index as u64 ^ 0xd1b5_4a32_d192_ed03) | 1);
    let mixed = mixed as u64 ^ (mixed >> 64) as u64;
    rapidhash::v3::rapidhash_v3(&mixed.to_ne_bytes())
}

/// The distinct crash states of one operation.
pub(crate) struct Images {
    /// The state that all are told apart from.
    first: Rc<[u8]>,
    /// Knows the layout.
    twin: Arena,
    /// Where the part begins in which every word matters.
    data: usize,
    seen: HashSet<u64>,
}

impl Images {
    pub(crate) fn new(first: &[u8]) -> Self {
        let twin = small().in_memory().expect("a second arena");
        Images {
            first: first.into(),
            data: twin.normal_len(),
            twin,
            seen: HashSet::new(),
        }
    }

    /// The image that differs from the first as told.
    pub(crate) fn apply(&self, differences: &Sparse) -> Vec<u8> {
        let mut image = self.first.to_vec();
        for &(index, value) in differences {
            let at = index as usize * 8;
            image[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        image
    }

    /// Calls `f` with each crash state of a recording that is new; the first one is that before the
    /// first instruction.
    pub(crate) fn for_each_new(&mut self, recording: &Recording, mut f: impl FnMut(Sparse)) {
        let mut image = recording.first().to_vec();
        let mut sum = self.sum_of_data(&image);
        self.visit(&image, sum, &mut f);
        for changes in recording.instructions() {
            for change in changes {
                sum = sum.wrapping_add(self.step(&image, change));
                change.apply(&mut image);
            }
            self.visit(&image, sum, &mut f);
        }
    }

    fn sum_of_data(&self, image: &[u8]) -> u64 {
        (self.data / 8..image.len() / 8).fold(0, |sum: u64, index| {
            sum.wrapping_add(mix(index, word(image, index * 8)))
        })
    }

    /// By how much a change changes the sum of the data.
    fn step(&self, image: &[u8], change: &Change) -> u64 {
        let index = change.word as usize;
        if index * 8 < self.data {
            return 0;
        }
        mix(index, change.value).wrapping_sub(mix(index, word(image, index * 8)))
    }

    fn visit(&mut self, image: &[u8], sum: u64, f: &mut impl FnMut(Sparse)) {
        let mut front = image[..self.data].to_vec();
        self.twin.normalize(&self.first, &mut front);
        let name = rapidhash::v3::rapidhash_v3(&front) ^ sum;
        if self.seen.insert(name) {
            f(differences(&self.first, image));
        }
    }

    /// The names of all, which two ways of stepping can be compared by.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn names(self) -> HashSet<u64> {
        self.seen
    }
}
