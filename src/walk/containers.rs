//! The stored forms of containers and locks, read without trusting them; maps are in `maps`.

use super::{Edge, Kind, Plan, Visitor, Walk, word};
use crate::{
    layout::{BufferHeader, LockWord, SHORT_TEXT, Stamp, Tag, TextHeader, VecHeader},
    mapping::Mapping,
    share::TypeIndex,
};
use std::{mem::offset_of, sync::atomic::Ordering::*};

/// Whether a slot can hold, or have held, a lock as `tag` says.
pub(crate) fn check_holder(mapping: &Mapping, tag: Tag) -> Result<(), String> {
    let slots = mapping.geometry().slots;
    if tag.slot() >= slots {
        return Err(format!("the word {:#x}: there are {slots} slots", tag.0));
    }
    let (slot, generation) = (mapping.slot(tag.slot()), tag.generation());
    let present = slot.generation.load(Acquire);
    let is_left_over = generation < present;
    if generation > present || (!is_left_over && slot.claim.load(Acquire) == 0) {
        return Err(format!(
            "one held by slot {} in generation {generation}, which is in its {present}th{}",
            tag.slot(),
            if generation == present {
                ", and free"
            } else {
                ""
            },
        ));
    }
    Ok(())
}

impl<V: Visitor> Walk<'_, V> {
    /// The words at `at`; tells the visitor if they cannot be read.
    pub(super) fn words<const N: usize>(&mut self, at: u64) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (index, place) in words.iter_mut().enumerate() {
            let Some(found) = word(self.mapping, at + index as u64 * 8) else {
                self.wrong(
                    Kind::Value,
                    at,
                    format_args!("expected a value here, found the end of the arena"),
                );
                return None;
            };
            *place = found;
        }
        Some(words)
    }

    /// Reads the header that all containers begin with, and checks what is the same for all. Gives
    /// the offset of the buffer, 0 if there is none; `None` if it is not to be followed.
    pub(super) fn buffer(&mut self, at: u64, align: u64) -> Option<u64> {
        let [offset, stamp, arena_and_marks] = self.words(at)?;
        debug_assert_eq!(offset_of!(BufferHeader, arena), 16);
        let arena = arena_and_marks as u32;
        if arena == self.mapping.arena() {
            self.check_stamp(at, stamp);
        } else if offset != 0 {
            self.wrong(
                Kind::ForeignArena,
                at,
                format_args!(
                    "expected a container of the arena {:#x}, found one of {arena:#x}",
                    self.mapping.arena()
                ),
            );
            return None;
        }
        if offset % align != 0 {
            self.wrong(
                Kind::Alignment,
                at,
                format_args!("expected a buffer aligned to {align}, found one at {offset:#x}"),
            );
            return None;
        }
        Some(offset)
    }

    /// A stamp names a section that was.
    pub(super) fn check_stamp(&mut self, at: u64, stamp: u64) {
        let slot = (stamp >> Stamp::SERIAL_BITS) as usize;
        let serial = stamp & ((1 << Stamp::SERIAL_BITS) - 1);
        let known = slot < self.mapping.geometry().slots
            && serial <= self.mapping.slot(slot).serial.load(Acquire);
        if stamp != 0 && !known {
            self.wrong(
                Kind::Stamp,
                at,
                format_args!(
                    "expected the stamp of a section that was, found number {serial} of slot {slot}"
                ),
            );
        }
    }

    /// A lock's word is 0, or names a slot in a generation that it had; in its present one only if
    /// some thread has the slot.
    pub(super) fn check_tag(&mut self, at: u64, word: u64) {
        debug_assert_eq!(size_of::<LockWord>(), 8);
        if let Some(tag) = Tag::of_word(word)
            && let Err(why) = check_holder(self.mapping, tag)
        {
            self.wrong(
                Kind::Lock,
                at,
                format_args!("expected a lock that is free or held by a thread, found {why}"),
            );
        }
    }

    /// Reads the header of a `Vec` or `String`: offset, length and capacity, which make sense.
    fn vec_header(&mut self, at: u64, size: u64, align: u64) -> Option<(u64, u64, u64)> {
        debug_assert_eq!(offset_of!(VecHeader, len), 24);
        let offset = self.buffer(at, align)?;
        let [len, capacity] = self.words(at + 24)?;
        let capacity = if size == 0 { u64::MAX } else { capacity };
        let room = if offset == 0 && size > 0 { 0 } else { capacity };
        if len > room {
            self.wrong(
                Kind::Length,
                at,
                format_args!("expected at most {room} elements, found a length of {len}"),
            );
            return None;
        }
        if offset == 0 && capacity > 0 && size > 0 {
            self.wrong(
                Kind::Length,
                at,
                format_args!("expected no capacity without a buffer, found {capacity}"),
            );
            return None;
        }
        Some((offset, len, capacity))
    }

    /// Goes to an owned block: tells the visitor of it, unless it cannot be gone into.
    pub(super) fn follow(&mut self, edge: Edge, needed: Option<u64>) -> Option<()> {
        self.reach(edge.header, edge.block, needed)?;
        self.visitor.owned(edge);
        Some(())
    }

    pub(super) fn look_at_vec(&mut self, plan: &Plan, at: u64, item: TypeIndex) {
        let size = plan.size(item);
        let Some((block, len, capacity)) = self.vec_header(at, size, plan.align(item)) else {
            return;
        };
        if block == 0 {
            return;
        }
        let edge = Edge {
            header: at,
            header_size: size_of::<VecHeader>() as u64,
            block,
        };
        let needed = match size {
            0 => Some(0),
            size => capacity.checked_mul(size),
        };
        if self.follow(edge, needed).is_some() {
            self.push_values(plan, item, block, len);
        }
    }

    pub(super) fn look_at_string(&mut self, at: u64) {
        let Some([offset]) = self.words(at) else {
            return;
        };
        if offset <= SHORT_TEXT as u64 {
            return self.look_at_short(at, offset);
        }
        let Some((block, len, capacity)) = self.vec_header(at, 1, 1) else {
            return;
        };
        if block <= SHORT_TEXT as u64 {
            // Somebody has changed it meanwhile.
            return;
        }
        let edge = Edge {
            header: at,
            header_size: size_of::<VecHeader>() as u64,
            block,
        };
        if self.follow(edge, Some(capacity)).is_some() && self.strict {
            self.check_utf8(at, block, len);
        }
    }

    /// A text in its header, of that length.
    fn look_at_short(&mut self, at: u64, len: u64) {
        let Some([_, stamp, arena_and_marks]) = self.words(at) else {
            return;
        };
        if arena_and_marks as u32 == self.mapping.arena() {
            self.check_stamp(at, stamp);
        }
        if self.strict {
            self.check_utf8(at, at + offset_of!(TextHeader, text) as u64, len);
        }
    }

    fn check_utf8(&mut self, at: u64, block: u64, len: u64) {
        let Some(place) = self.mapping.address(block, len as usize) else {
            return;
        };
        // SAFETY: checked to lie in committed memory (M2). That nobody changes it meanwhile is what
        // the caller of a check promises; otherwise the answer may be wrong, and nothing else.
        let text = unsafe { std::slice::from_raw_parts(place.as_ptr(), len as usize) };
        if let Err(error) = std::str::from_utf8(text) {
            self.wrong(
                Kind::Value,
                at,
                format_args!("expected UTF-8 in a `String`, found none: {error}"),
            );
        }
    }

    pub(super) fn look_at_box(&mut self, plan: &Plan, at: u64, item: TypeIndex) {
        let Some(block) = self.buffer(at, plan.align(item)) else {
            return;
        };
        if block == 0 {
            return;
        }
        let edge = Edge {
            header: at,
            header_size: size_of::<BufferHeader>() as u64,
            block,
        };
        if self.follow(edge, Some(plan.size(item))).is_some() {
            self.push_values(plan, item, block, 1);
        }
    }
}
