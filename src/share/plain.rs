//! Plain types of other crates, by the word of `zerocopy` or `bytemuck`.
//!
//! Two wrappers, because features add up: were both to serve one type, a program with both
//! features could not tell which of them vouches for it.

use std::ops::{Deref, DerefMut};

use super::{Kind, Share, TypeInfo};

macro_rules! wrapper {
    ($(#[$meta:meta])* $name:ident: $($bound:path),+) => {
        $(#[$meta])*
        ///
        /// Those traits say that a value has no padding and that all bytes are valid, not that they
        /// mean something elsewhere: an address or a file descriptor kept as an integer gets
        /// through, and is nonsense in another process.
        ///
        /// The schema knows such a type by its name, size and alignment only.
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(transparent)]
        pub struct $name<T>(pub T);

        // SAFETY: laid out as a `T`, any bytes of which are a value, without pointers that could be
        // followed in safe code, without cells (both traits exclude them) and, as it is `Copy`,
        // without `Drop`. `TypeInfo::new` checks the alignment.
        unsafe impl<T: $($bound +)+ Copy + 'static> Share for $name<T> {
            const TYPE: TypeInfo = TypeInfo::new::<Self>(Kind::Opaque {
                name: std::any::type_name::<T>,
            });
        }

        // SAFETY: any bytes are a value, by the word of the same traits, which exclude ownership.
        unsafe impl<T: $($bound +)+ Copy + 'static> super::AnyBytes for $name<T> {}

        impl<T> Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }

        impl<T> DerefMut for $name<T> {
            fn deref_mut(&mut self) -> &mut T {
                &mut self.0
            }
        }

        impl<T> From<T> for $name<T> {
            fn from(value: T) -> Self {
                $name(value)
            }
        }
    };
}

#[cfg(feature = "zerocopy")]
wrapper! {
    /// A type that [`zerocopy`] knows to be plain bytes, as a [`Share`] type.
    Plain: zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout
}

#[cfg(feature = "bytemuck")]
wrapper! {
    /// A type that [`bytemuck`] knows to be plain bytes, as a [`Share`] type.
    Pod: bytemuck::AnyBitPattern, bytemuck::NoUninit
}

#[cfg(test)]
mod tests {
    use crate::share::Schema;

    #[cfg(feature = "zerocopy")]
    #[test]
    fn plain_is_known_by_its_name() {
        use super::Plain;
        assert_eq!(Schema::of::<Plain<[u16; 3]>>().to_string(), "[u16; 3]");
        assert_eq!(
            Schema::of::<Plain<zerocopy::byteorder::little_endian::U32>>().to_string(),
            "U32<LittleEndian>"
        );
    }

    #[cfg(feature = "bytemuck")]
    #[test]
    fn pod_is_known_by_its_name() {
        use super::Pod;
        assert_eq!(
            Schema::of::<Pod<std::num::Wrapping<u8>>>().to_string(),
            "Wrapping<u8>"
        );
    }
}
