//! Keeping every root, whatever its type, for who goes through all of them.

use super::{all_entries, handle, lock};
use crate::{
    arena::{Arena, Root},
    error::{Error, Result},
    section,
    share::Schema,
};
use std::{collections::HashSet, ops::Range};

/// A root that stays as long as this does, of whatever type.
pub(in crate::arena) struct Kept {
    /// Where its entry lies.
    pub(in crate::arena) entry: Range<u64>,
    pub(in crate::arena) value: u64,
    pub(in crate::arena) schema: Schema,
    _root: Root<()>,
}

/// Keeps each root that is not among `kept` yet, also removed ones. If there was none, `f` is called while
/// nobody can make or remove one, and its result given. For a thread that waits for no user's lock then.
pub(in crate::arena) fn with_all<R>(
    arena: &Arena,
    kept: &mut Vec<Kept>,
    f: impl FnOnce(&[Kept]) -> Result<R>,
) -> Result<Option<R>> {
    let ctx = section::attach(arena.mapping())?;
    // SAFETY: C1.
    let ctx = unsafe { ctx.as_ref() };
    let _lock = lock(ctx)?;
    let known: HashSet<u64> = kept.iter().map(|root| root.entry.start).collect();
    let is_new = |entry: &super::Entry<'_>| !known.contains(&entry.offset);
    for entry in all_entries(ctx.mapping()).filter(is_new) {
        kept.push(Kept {
            entry: entry.offset..entry.offset + entry.size(),
            value: entry.value(),
            schema: entry.schema().map_err(Error::damaged)?,
            _root: handle(arena, ctx, &entry)?,
        });
    }
    match kept.len() == known.len() {
        true => f(kept).map(Some),
        false => Ok(None),
    }
}
