//! Whether a value can be handed out where the memory is mapped for reading only.

use super::{Kind, Plan, Purpose, Visitor, Walk};
use crate::{
    layout::FROZEN_TAG,
    mapping::Mapping,
    share::{Builtin, Schema, Shape},
};
use std::fmt;

/// Whether nothing of a value, by value or in the blocks that it owns, can be written through a
/// shared reference any more.
///
/// Mutexes and `RwLock`s are looked at one by one: a frozen one stays so, and so does what is in it. Whatever else
/// changes behind a shared reference is refused wherever the type has it. What raw pointers lead to
/// is left to who follows them.
pub(crate) fn is_frozen(mapping: &Mapping, schema: &Schema, value: u64) -> bool {
    let (mut has_mutex, mut has_other) = (false, false);
    visit_types(schema, |of| match &of.shape {
        Shape::Builtin {
            which: Builtin::Mutex | Builtin::RwLock,
            ..
        } => has_mutex = true,
        _ => has_other |= of.is_written_when_shared(),
    });
    if has_other || !has_mutex {
        return !has_other;
    }
    let plan = Plan::new(schema, Purpose::Everything);
    let mut walk = Walk::new(mapping, Frozen { all: true });
    walk.value(&plan, 0, value);
    walk.visitor.all
}

/// Calls `f` for every type that lies in a value or in a block that it owns.
fn visit_types(schema: &Schema, mut f: impl FnMut(&crate::share::Type)) {
    let mut seen = vec![false; schema.types().len()];
    let mut next = vec![0];
    while let Some(index) = next.pop() {
        if std::mem::replace(&mut seen[index as usize], true) {
            continue;
        }
        let of = schema.get(index);
        f(of);
        next.extend(of.parts().into_iter().map(|(_, part)| part));
        next.extend_from_slice(of.owned());
    }
}

/// Whether every mutex so far is frozen, and nothing was wrong.
struct Frozen {
    all: bool,
}

impl Visitor for Frozen {
    /// An open mutex is not gone into: others may be changing what is inside.
    fn mutex(&mut self, _at: u64, word: u64) -> bool {
        self.all &= word == FROZEN_TAG;
        self.all
    }

    fn wrong(&mut self, _kind: Kind, _at: u64, _what: fmt::Arguments<'_>) {
        self.all = false;
    }
}
