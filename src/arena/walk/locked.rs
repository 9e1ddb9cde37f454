//! Whether somebody holds a lock in a value that has no handles any more.

use super::{Plan, Purpose, Visitor, Walk};
use crate::{
    layout::Tag,
    mapping::Mapping,
    share::{Builtin, Schema, Shape},
};
use std::sync::atomic::Ordering::*;

/// Whether a mutex in a value, or in a block that it owns, is held: then its guard was leaked, and
/// the open section of the holder may be undone, which writes to the value.
pub(in crate::arena) fn is_locked(mapping: &Mapping, schema: &Schema, value: u64) -> bool {
    let is_mutex = |shape: &Shape| {
        matches!(
            shape,
            Shape::Builtin {
                which: Builtin::Mutex,
                ..
            }
        )
    };
    if !schema.types().iter().any(|of| is_mutex(&of.shape)) {
        return false;
    }
    let visitor = Locked {
        mapping,
        any: false,
    };
    let mut walk = Walk::new(mapping, visitor);
    walk.value(&Plan::new(schema, Purpose::Everything), 0, value);
    walk.visitor.any
}

struct Locked<'m> {
    mapping: &'m Mapping,
    any: bool,
}

impl Visitor for Locked<'_> {
    fn mutex(&mut self, _at: u64, word: u64) -> bool {
        self.any |= Tag::of_word(word).is_some_and(|holder| {
            let slot = holder.slot();
            slot < self.mapping.geometry().slots
                && self.mapping.slot(slot).generation.load(Acquire) == holder.generation()
        });
        !self.any
    }
}
