//! A lock without a section, behind the traits of `lock_api`.

use super::wait::{Patience, Taker, release};
use crate::{
    error::Error,
    journal,
    layout::{LockWord, Tag},
    mapping,
    section::{Ctx, attached},
    share::{Builtin, Share, TypeInfo},
};
use parking_lot::lock_api::{self, GuardNoSend};
use std::{
    fmt,
    sync::atomic::Ordering::*,
    time::{Duration, Instant},
};

/// A raw lock that processes share, without a critical section: nothing is undone when its holder
/// dies, it only becomes free.
///
/// For structures of your own, built with [`RelPtr`](crate::RelPtr). It implements the traits of
/// [`parking_lot::lock_api`]; but `lock_api::Mutex<RawMutex, T>` is not [`Share`], since a holder
/// that dies leaves `T` as it was at that instruction: to say that this is fine takes an `unsafe
/// impl`.
///
/// # Panics
///
/// Taking the lock panics where it cannot be taken: outside an arena, in a read-only arena, when
/// the thread holds it already, when the arena has no slot left.
#[repr(transparent)]
pub struct RawMutex {
    word: LockWord,
}

// SAFETY: one atomic word.
unsafe impl Share for RawMutex {
    const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::RawLock, &[]);
}

impl RawMutex {
    /// A free lock.
    pub const fn new() -> Self {
        RawMutex {
            word: LockWord::new(),
        }
    }

    fn take(&self, patience: Patience) -> Result<(), Error> {
        let mut ctx = attached(self)?;
        // SAFETY: C1.
        let ctx = unsafe { ctx.as_mut() };
        let tag = ctx.tag();
        let word = &self.word;
        if word.0.compare_exchange(0, tag.0, Acquire, Relaxed).is_ok() {
            ctx.raw_lock_taken();
            return Ok(());
        }
        if Tag::of_word(word.0.load(Relaxed)) == Some(tag) {
            return Err(match patience {
                Patience::None => Error::WouldBlock,
                _ => Error::WouldDeadlock,
            });
        }
        let taker = Taker {
            mapping: ctx.mapping(),
            tag,
            recoverer: tag,
            wait: None,
            mutex: None,
        };
        taker.take_slow(word, patience)?;
        ctx.raw_lock_taken();
        Ok(())
    }

    fn taken_within(&self, patience: Patience) -> bool {
        match self.take(patience) {
            Ok(()) => true,
            Err(Error::WouldBlock | Error::TimedOut) => false,
            Err(error) => panic!("could not take a raw lock: {error}"),
        }
    }
}

impl Default for RawMutex {
    fn default() -> Self {
        RawMutex::new()
    }
}

impl fmt::Debug for RawMutex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMutex").finish_non_exhaustive()
    }
}

// SAFETY: the word is taken by one exact compare-and-swap, and only its holder's death (which ends
// every use of the lock by it) or `unlock` frees it.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(clippy::declare_interior_mutable_const)]
    const INIT: Self = RawMutex::new();
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        self.taken_within(Patience::Endless);
    }

    fn try_lock(&self) -> bool {
        self.taken_within(Patience::None)
    }

    /// In a child of the process that took it, it stays with that.
    unsafe fn unlock(&self) {
        let Some(mut ctx) = Ctx::find(self) else {
            return;
        };
        // SAFETY: C1.
        let ctx = unsafe { ctx.as_mut() };
        if Tag::of_word(self.word.0.load(Relaxed)) == Some(ctx.tag()) {
            release(&self.word);
            ctx.raw_lock_released();
        }
    }

    /// Whether somebody has it who lives.
    fn is_locked(&self) -> bool {
        let holder = Tag::of_word(self.word.0.load(Acquire));
        let mapping = mapping::locate(self).and_then(|here| mapping::find_base(here.base));
        holder.is_some_and(|holder| {
            mapping.is_some_and(|mapping| !journal::is_gone(&mapping, holder))
        })
    }
}

// SAFETY: as above.
unsafe impl lock_api::RawMutexTimed for RawMutex {
    type Duration = Duration;
    type Instant = Instant;

    fn try_lock_for(&self, time: Duration) -> bool {
        let patience = Patience::within(time);
        self.taken_within(patience)
    }

    fn try_lock_until(&self, deadline: Instant) -> bool {
        self.taken_within(Patience::Until(deadline))
    }
}
