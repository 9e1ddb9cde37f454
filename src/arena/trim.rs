//! Giving unused memory back to the system.

use super::Arena;
use crate::{
    error::{Error, Result},
    section::{self, Ctx},
};

pub(super) fn trim(arena: &Arena) -> Result<u64> {
    let mut ctx = section::attach(arena.mapping())?;
    // SAFETY: C1; the reference ends with this statement.
    if unsafe { ctx.as_ref() }.in_section() {
        return Err(Error::InSection);
    }
    arena.reap()?;
    // SAFETY: C1; no code of the user's runs from here on.
    let own = unsafe { ctx.as_mut() };
    own.enter()?;
    let given_back = punch(own);
    own.leave();
    given_back
}

fn punch(ctx: &mut Ctx) -> Result<u64> {
    ctx.release_unused();
    ctx.mapping().free_abandoned(ctx.index());
    ctx.mapping().punch_free(ctx.index())
}
