//! Crash states that differ only in what counts up, made equal. For tests that explore states.

use crate::layout::{
    Geometry, Header, INLINE_LOG, LogPosition, SEGMENTS, Segment, SlabState, Slot, Tag,
};
use std::mem::offset_of;

/// Overwrites counters of `image` by what of them matters. `first` is an earlier state.
pub(super) fn normalize(geometry: &Geometry, first: &[u8], image: &mut [u8]) {
    let moved_on: Vec<bool> = (0..geometry.slots)
        .map(|slot| {
            let at = slot_at(geometry, slot) + offset_of!(Slot, generation);
            get(first, at) != get(image, at)
        })
        .collect();
    directory_word(geometry, image);
    for hint in [offset_of!(Header, freed), offset_of!(Header, abandoned)] {
        set(image, hint, 0);
    }
    for (slot, moved_on) in moved_on.into_iter().enumerate() {
        let at = slot_at(geometry, slot);
        set(
            image,
            at + offset_of!(Slot, generation),
            u64::from(moved_on),
        );
        set(image, at + offset_of!(Slot, serial), 0);
        for word in [offset_of!(Slot, claim), offset_of!(Slot, lease)] {
            let taken = get(image, at + word) != 0;
            set(image, at + word, u64::from(taken));
        }
        forget_leftovers(image, at);
        let life = at + geometry.page - 8;
        let word = get(image, life) as u32;
        let dead = word & crate::os::life::OWNER_DIED != 0;
        set(image, life, u64::from(dead) << 1 | u64::from(word != 0));
    }
    for slab in 0..geometry.all_slabs() {
        let at = geometry.states_at as usize + slab * 8;
        let state = SlabState(get(image, at));
        set(image, at, state.0 & 0xffff_ffff);
    }
}

/// Where what [`normalize`] looks at ends.
pub(super) fn front_len(geometry: &Geometry) -> usize {
    geometry.bits_at as usize
}

/// What a slot's journals hold beyond what they say is valid: nobody reads it. Except `done`, which must not
/// be there still when the next section commits (J9): so whether it is there makes a difference, and
/// what it says does not.
fn forget_leftovers(image: &mut [u8], at: usize) {
    let position = LogPosition(get(image, at + offset_of!(Slot, log)));
    let segments = at + offset_of!(Slot, segments);
    let used = match position.segment() {
        0 => position.used(),
        _ => get(image, segments + offset_of!(Segment, before)) as usize,
    };
    let inline = at + offset_of!(Slot, inline);
    image[inline + used.min(INLINE_LOG)..inline + INLINE_LOG].fill(0);
    let valid = position.segment().min(SEGMENTS) * size_of::<Segment>();
    image[segments + valid..segments + SEGMENTS * size_of::<Segment>()].fill(0);
    if !position.committed() {
        let done = at + offset_of!(Slot, done);
        set(image, done, u64::from(get(image, done) != 0));
    }
    let immediate = at + offset_of!(Slot, immediate);
    if get(image, immediate) == 0 {
        image[immediate..immediate + 64].fill(0);
    }
}

/// Of the directory's lock, only who has it matters, and whether still.
fn directory_word(geometry: &Geometry, image: &mut [u8]) {
    let at = offset_of!(Header, directory);
    if let Some(holder) = Tag::of_word(get(image, at)) {
        let slot = holder.slot();
        let current = slot < geometry.slots
            && get(
                image,
                slot_at(geometry, slot) + offset_of!(Slot, generation),
            ) == holder.generation();
        let who = if current { slot as u64 + 1 } else { 0 };
        set(image, at, who);
    }
}

fn slot_at(geometry: &Geometry, slot: usize) -> usize {
    geometry.slots_at as usize + slot * geometry.page
}

fn get(image: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(image[at..at + 8].try_into().expect("eight bytes"))
}

fn set(image: &mut [u8], at: usize, value: u64) {
    image[at..at + 8].copy_from_slice(&value.to_le_bytes());
}
