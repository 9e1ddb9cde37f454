//! Whether the values of a type may have locks of their own in them.
//!
//! Such a lock can be moved or overwritten by plain code that has a `&mut` to what it lies in,
//! also while the section retains it (J4). Few types do, and only sections with several locks ask.

use crate::share::{Builtin, Schema, Shape, Share, contains, node};
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
    let answer = contains(node::<T>(), Builtin::is_written_when_shared)
        .unwrap_or_else(|| has_locks(&Schema::of::<T>()));
    let place = NEXT.get();
    NEXT.set((place + 1) % REMEMBERED);
    KNOWN.with(|known| known[place].set(Some((id, answer))));
    answer
}

/// The same of a type that is made of very many.
fn has_locks(schema: &Schema) -> bool {
    schema.types().iter().any(
        |of| matches!(of.shape, Shape::Builtin { which, .. } if which.is_written_when_shared()),
    )
}

#[cfg(test)]
mod tests {
    use super::{has_locks, holds_locks};
    use crate::{
        Share,
        collections::{HashMap, Vec},
        share::{Builtin, Schema, contains, node},
        sync::{Mutex, Semaphore},
    };

    /// Types in one another.
    type Nested<T> = Vec<Vec<Vec<Vec<Vec<Vec<Vec<Vec<T>>>>>>>>;

    #[derive(Share)]
    #[repr(u8)]
    #[allow(dead_code)]
    enum Either<T: Share> {
        Nothing,
        One { value: T },
        Many(Vec<T>),
    }

    fn alike<T: Share>() {
        let found = contains(node::<T>(), Builtin::is_written_when_shared);
        let known = has_locks(&Schema::of::<T>());
        assert_eq!(found, Some(known), "{}", std::any::type_name::<T>());
    }

    #[test]
    fn a_search_sees_what_the_schema_says() {
        alike::<u64>();
        alike::<Either<u32>>();
        alike::<Either<Mutex<u32>>>();
        alike::<[Vec<Either<Semaphore>>; 2]>();
        alike::<HashMap<u64, crate::collections::String>>();
        alike::<Nested<u64>>();
        alike::<Nested<Mutex<u64>>>();
        // More types than it looks through.
        type Many = Nested<Nested<Nested<Nested<Nested<Nested<Nested<Nested<Mutex<u64>>>>>>>>>;
        assert_eq!(
            contains(node::<Many>(), Builtin::is_written_when_shared),
            None
        );
        assert!(holds_locks::<Many>());
    }

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
