//! Dooming a container: leaving it to be taken apart after the commit ([`crate::journal::bury`]).
//!
//! One entry in the log then stands for all blocks that the container owns: what a section drops
//! needs no room in the log that grows with it, so that also a full arena can be emptied.

use super::{
    Ctx, Writer,
    frees::{DOOMED, Deferred},
};
use crate::{
    journal,
    layout::{Doom, EntryKind, HEADER_WORDS, MAX_RECORD, SlabKind},
    share::Schema,
};
use std::{any::TypeId, collections::HashMap, mem::offset_of, rc::Rc, sync::atomic::Ordering::*};

/// The types of which a thread doomed containers.
#[derive(Default)]
pub(super) struct Dooms {
    types: HashMap<TypeId, Type>,
    /// Whether some of them lie in the log.
    any_placed: bool,
}

#[derive(Clone)]
struct Type {
    schema: Rc<Schema>,
    bytes: Rc<[u8]>,
    /// Where the bytes lie in the open section's log; 0 if they do not yet.
    place: u64,
}

impl Dooms {
    /// The log is empty again.
    #[inline(always)]
    pub(super) fn forget_places(&mut self) {
        if self.any_placed {
            self.types.values_mut().for_each(|of| of.place = 0);
            self.any_placed = false;
        }
    }
}

impl Writer {
    /// Leaves a container of the type `of` to be taken apart after the commit, with all that it
    /// owns; whoever drops it has nothing more to do. `false` if that cannot be noted: its type is
    /// not known here, may have locks in it, or the log is full.
    #[cold]
    pub(crate) fn doom(&self, header: &[u64; HEADER_WORDS], of: TypeId, count: usize) -> bool {
        let Some(of) = self.ctx_mut().doomed_type(of) else {
            return false;
        };
        let with_schema = of.place == 0;
        let schema_words = if with_schema {
            of.bytes.len().div_ceil(8)
        } else {
            0
        };
        let len = size_of::<Doom>() + schema_words * 8;
        if len > MAX_RECORD || !self.reserve_to_doom(len + 8, count) {
            return false;
        }
        let payload = self.ctx_mut().cursor_offset();
        let behind = payload + size_of::<Doom>() as u64;
        let schema = if with_schema { behind } else { of.place };
        let mut words = Vec::with_capacity(len / 8);
        words.extend([schema, of.bytes.len() as u64]);
        words.extend(header);
        if with_schema {
            words.extend(of.bytes.chunks(8).map(word));
        }
        self.append_words(EntryKind::Doom, 0, &words);
        self.ctx_mut().note_doomed(payload, &of, schema);
        true
    }
}

impl Writer {
    /// Makes sure that the log has room to doom a container with `count` places. Where every word is
    /// counted only if that takes no more than an entry for each would: there is enough for those.
    fn reserve_to_doom(&self, bytes: usize, count: usize) -> bool {
        if self.reserve_bytes(bytes).is_ok() {
            return true;
        }
        if bytes <= count * 8 {
            return self.reserve_for_drop(bytes);
        }
        !self.is_for_drops() && self.ctx_mut().take_held_back(bytes)
    }
}

/// Up to eight bytes as a word.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

impl Ctx {
    fn doomed_type(&mut self, id: TypeId) -> Option<Type> {
        if let Some(known) = self.body().dooms.types.get(&id) {
            return Some(known.clone());
        }
        let schema = self.schema_within(id)?;
        if schema.contains_atomics_or_locks() {
            // Locks that the section holds must be let go of (J4), which dropping does.
            return None;
        }
        let known = Type {
            bytes: schema.to_bytes().into(),
            schema: schema.into(),
            place: 0,
        };
        self.body_mut().dooms.types.insert(id, known.clone());
        Some(known)
    }

    /// Where the log's next payload will lie.
    fn cursor_offset(&self) -> u64 {
        (self.next.addr() - self.base().addr()) as u64
    }

    fn note_doomed(&mut self, payload: u64, of: &Type, place: u64) {
        let position = self.position().0;
        let body = self.body_mut();
        body.dooms.any_placed = true;
        for known in body.dooms.types.values_mut() {
            if Rc::ptr_eq(&known.schema, &of.schema) {
                known.place = place;
            }
        }
        body.doomed.push(of.schema.clone());
        self.leave_free(Deferred::Other {
            position,
            offset: payload + offset_of!(Doom, header) as u64,
            state: DOOMED,
        });
    }

    /// Takes apart a container that the committed section doomed.
    #[cold]
    pub(super) fn bury(&mut self, header: u64, position: u64) {
        let Some(schema) = self.body_mut().doomed.pop() else {
            return;
        };
        let mapping = self.mapping_kept();
        let slot = self.index();
        journal::bury(&mapping, slot, header, &schema, |block| {
            self.free_buried(block)
        });
        mapping.slot(slot).done.store(position, Release);
    }

    /// Frees a block that a doubt word names.
    fn free_buried(&mut self, offset: u64) {
        let (body, magazines, mapping) = self.parts();
        let Some((block, state)) = mapping.block_around(offset) else {
            let head = mapping.slab_of(offset);
            mapping.free_span(head, mapping.state(head), body.index);
            return;
        };
        if !state.is_by(SlabKind::Owned, body.index) {
            mapping.free_remotely(block);
        } else if mapping.unpublish(block) {
            body.cache.put(mapping, magazines, offset, block.class);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Arena, Error, Root,
        collections::{HashMap, String, Vec},
        journal::{LogReader, reserved_slots},
        layout::EntryKind,
        sync::Mutex,
    };

    type World = Mutex<HashMap<u64, Vec<String>>>;

    /// Entries of the log, and how many of them doom something.
    fn entries(arena: &Arena) -> (usize, usize) {
        let mapping = arena.mapping();
        let kinds: std::vec::Vec<_> = (reserved_slots(mapping)..mapping.slots_high())
            .flat_map(|slot| LogReader::new(mapping, slot))
            .map(|found| found.entry.kind)
            .collect();
        let doomed = kinds.iter().filter(|&&kind| kind == EntryKind::Doom);
        (kinds.len(), doomed.count())
    }

    fn world() -> (Arena, Root<World>) {
        let arena = Arena::options().max_size(16 << 20).in_memory().unwrap();
        let world = arena.root::<World>("world").unwrap();
        for key in 0..1000 {
            let mut world = world.lock().unwrap();
            world
                .entry(key)
                .or_default()
                .unwrap()
                .push_from("a word in its own block")
                .unwrap();
        }
        (arena, world)
    }

    #[test]
    fn what_is_large_takes_one_entry() {
        let (arena, world) = world();
        let mut guard = world.lock().unwrap();
        guard.clear();
        let (all, doomed) = entries(&arena);
        assert!(doomed == 1 && all < 10, "{doomed} of {all}");
        drop(guard);
        assert_eq!(entries(&arena), (0, 0));
        assert!(arena.check().is_clean(), "{}", arena.check());
    }

    #[test]
    fn in_a_unit_of_several_locks_too() {
        let (arena, world) = world();
        let undone = arena.transaction(|tx| {
            tx.lock(&world)?.clear();
            let (all, doomed) = entries(&arena);
            assert!(doomed == 1 && all < 10, "{doomed} of {all}");
            Err::<(), _>(Error::other("taken back"))
        });
        assert!(matches!(undone, Err(Error::Other(_))));
        assert_eq!(world.lock().unwrap().len(), 1000);
        assert!(arena.check().is_clean(), "{}", arena.check());
    }

    #[test]
    fn what_is_small_is_not_doomed() {
        let (arena, world) = world();
        let mut guard = world.lock().unwrap();
        drop(guard.remove(&1));
        assert_eq!(entries(&arena).1, 0);
    }
}
