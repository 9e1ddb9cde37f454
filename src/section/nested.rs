//! Whether the values of a type may have locks of their own in them.
//!
//! Such a lock can be moved or overwritten by plain code that has a `&mut` to what it lies in,
//! also while the section retains it (J4). Few types do, and only sections with several locks ask.

use crate::share::{Schema, Shape, Share};
use std::{any::TypeId, cell::Cell};

/// Types that a thread remembers.
const REMEMBERED: usize = 8;

thread_local! {
    /// The types asked for last. Without a destructor, so that it can be used to the thread's end.
    static KNOWN: [Cell<Option<(TypeId, bool)>>; REMEMBERED] =
        const { [const { Cell::new(None) }; REMEMBERED] };
    static NEXT: Cell<usize> = const { Cell::new(0) };
}

/// Whether a `T`, or what it owns or points to, may contain locks or semaphores.
pub(crate) fn holds_locks<T: Share>() -> bool {
    let id = TypeId::of::<T>();
    let known = KNOWN.with(|known| {
        let known = known.iter().filter_map(Cell::get);
        known.into_iter().find(|(other, _)| *other == id)
    });
    match known {
        Some((_, answer)) => answer,
        None => find_out::<T>(id),
    }
}

#[cold]
#[inline(never)]
fn find_out<T: Share>(id: TypeId) -> bool {
    let schema = Schema::of::<T>();
    let answer = schema.types().iter().any(
        |of| matches!(of.shape, Shape::Builtin { which, .. } if which.is_written_when_shared()),
    );
    let place = NEXT.get();
    NEXT.set((place + 1) % REMEMBERED);
    KNOWN.with(|known| known[place].set(Some((id, answer))));
    answer
}

#[cfg(test)]
mod tests {
    use super::holds_locks;
    use crate::{
        collections::{HashMap, Vec},
        sync::{Mutex, Semaphore},
    };

    #[test]
    fn locks_are_found_wherever_they_lie() {
        for _ in 0..2 {
            assert!(!holds_locks::<u64>());
            assert!(!holds_locks::<HashMap<u64, Vec<u64>>>());
            assert!(!holds_locks::<std::sync::atomic::AtomicU64>());
            assert!(holds_locks::<[Mutex<u64>; 3]>());
            assert!(holds_locks::<Vec<Vec<Semaphore>>>());
        }
    }
}
