//! Bulk data that is not undone.

use super::{Builtin, Kind, Share, TypeInfo, node};
use std::{
    any::TypeId,
    cell::RefCell,
    collections::HashMap,
    ops::{Deref, DerefMut, Range},
    rc::Rc,
};

/// Data that is left as it is when a death undoes the section that was writing it.
///
/// Before a `&mut` is handed out, sharena copies the bytes that it covers, so that a death can put
/// them back. For a picture of a million pixels, or a block of samples, of which half a new one is
/// as good as half an old one, that is a waste: an `Unlogged` is not copied. After a death, or when
/// a [transaction](crate::Arena::transaction) is undone, it holds what was written so far; what lies
/// beside it in the same value is as it was before.
///
/// Only what is written through a `&mut` is spared. Where a container moves its elements
/// ([`Vec::remove`](crate::collections::Vec::remove), a map that grows), their order is restored as
/// always.
///
/// `T` is a number, an array of such, or (with the features `zerocopy` and `bytemuck`) a plain type
/// of which any bytes are a value: whatever a death leaves is one. It cannot lie in an enum, where
/// the tag would be put back and the fields would not.
///
/// # Examples
///
/// ```
/// use sharena::{Arena, Share, share::Unlogged, sync::Mutex};
///
/// #[derive(Share, Default)]
/// #[repr(C)]
/// struct Frame {
///     number: u64,
///     pixels: Unlogged<[[u8; 16]; 9]>,
/// }
///
/// let arena = Arena::in_memory()?;
/// let frame = arena.root::<Mutex<Frame>>("frame")?;
/// let mut frame = frame.lock()?; // `number` is logged, `pixels` are not
/// frame.pixels[3][4] = 255;
/// frame.number += 1;
/// # Ok::<(), sharena::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Unlogged<T>(pub T);

/// Types of which any bytes are a value, and that own nothing.
///
/// # Safety
///
/// That is so; and no value has a meaning that depends on others' being in step with it.
pub unsafe trait AnyBytes: Share + Copy {}

macro_rules! any_bytes {
    ($($number:ty)*) => { $(
        // SAFETY: every pattern of bits is a number.
        unsafe impl AnyBytes for $number {}
    )* };
}

any_bytes! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

// SAFETY: as their elements.
unsafe impl<T: AnyBytes, const N: usize> AnyBytes for [T; N] {}

// SAFETY: `repr(transparent)` around a `Share` value.
unsafe impl<T: AnyBytes> Share for Unlogged<T> {
    const TYPE: TypeInfo = TypeInfo::inline::<Self>(Builtin::Unlogged, &[node::<T>], 0);
    const UNLOGGED: bool = true;
}

impl<T> Deref for Unlogged<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Unlogged<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Unlogged<T> {
    fn from(value: T) -> Self {
        Unlogged(value)
    }
}

/// The parts of a value that a death puts back, in order.
pub(crate) type Logged = Rc<[Range<usize>]>;

thread_local! {
    /// The types asked for so far.
    static KNOWN: RefCell<HashMap<TypeId, Logged>> = RefCell::default();
}

/// The parts of a `T` that a death puts back: all but what is [`Unlogged`].
#[cold]
pub(crate) fn logged<T: Share>() -> Logged {
    let known = KNOWN.try_with(|known| {
        let mut known = known.borrow_mut();
        known
            .entry(TypeId::of::<T>())
            .or_insert_with(find::<T>)
            .clone()
    });
    // Without thread-locals, at the end of a thread, they are found anew.
    known.unwrap_or_else(|_| find::<T>())
}

fn find<T: Share>() -> Logged {
    let mut unlogged = Vec::new();
    collect(&T::TYPE, 0, &mut unlogged);
    unlogged.sort_by_key(|part: &Range<usize>| part.start);
    let mut logged: Vec<Range<usize>> = Vec::new();
    let mut end = 0;
    for part in unlogged {
        logged.push(end..part.start);
        end = part.end;
    }
    logged.push(end..size_of::<T>());
    logged.retain(|part| !part.is_empty());
    logged.into()
}

/// The unlogged parts of a value at `at`, but for those that lie in what can be looked at only
/// while it runs (enums, which cannot hold any, and locks, which are logged whole).
fn collect(info: &TypeInfo, at: usize, parts: &mut Vec<Range<usize>>) {
    match info.kind {
        Kind::Builtin {
            which: Builtin::Unlogged,
            ..
        } => parts.push(at..at + info.size),
        Kind::Struct { fields, .. } => {
            for field in fields {
                collect((field.of)().info, at + field.offset, parts);
            }
        }
        Kind::Array { elem, len } => {
            let elem = elem().info;
            let mut of_one = Vec::new();
            collect(elem, 0, &mut of_one);
            match of_one.as_slice() {
                [] => {}
                [whole] if *whole == (0..elem.size) => parts.push(at..at + len * elem.size),
                some => parts.extend((0..len).flat_map(|index| {
                    let begin = at + index * elem.size;
                    some.iter()
                        .map(move |part| begin + part.start..begin + part.end)
                })),
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::Schema;

    #[test]
    fn what_is_logged_is_the_rest() {
        assert_eq!(*logged::<u64>(), [0..8]);
        assert!(logged::<Unlogged<[u64; 9]>>().is_empty());
        assert!(logged::<[Unlogged<u32>; 1 << 20]>().is_empty());
        assert_eq!(*logged::<std::num::Wrapping<Unlogged<u8>>>(), []);
    }

    #[test]
    fn the_schema_says_so() {
        assert_eq!(
            Schema::of::<Unlogged<[u8; 3]>>().to_string(),
            "Unlogged<[u8; 3]>"
        );
    }
}
