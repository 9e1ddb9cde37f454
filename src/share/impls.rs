//! The types of `core` that are `Share`: numbers, arrays, atomics and what is laid out like them.

use std::{
    marker::PhantomData,
    mem::offset_of,
    num::{NonZero, Wrapping},
    sync::atomic::{
        AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
        AtomicU32, AtomicU64, AtomicUsize,
    },
};

use super::{Field, Kind, Primitive, Share, TypeInfo, node};

macro_rules! primitive {
    ($($type:ty = $primitive:ident,)*) => { $(
        // SAFETY: one fixed layout, no parts, and no meaning that depends on the process.
        unsafe impl Share for $type {
            const TYPE: TypeInfo = TypeInfo::new::<$type>(Kind::Primitive(Primitive::$primitive));
        }
    )* };
}

primitive! {
    u8 = U8, u16 = U16, u32 = U32, u64 = U64, u128 = U128, usize = Usize,
    i8 = I8, i16 = I16, i32 = I32, i64 = I64, i128 = I128, isize = Isize,
    f32 = F32, f64 = F64, bool = Bool, char = Char, () = Unit,
}

macro_rules! non_zero {
    ($($type:ty = $primitive:ident,)*) => { $(
        // SAFETY: `NonZero` is laid out as its integer.
        unsafe impl Share for NonZero<$type> {
            const TYPE: TypeInfo = TypeInfo::new::<Self>(Kind::NonZero(Primitive::$primitive));
        }

        // SAFETY: `Option<NonZero>` is documented to be laid out as the integer, with `None` as 0.
        unsafe impl Share for Option<NonZero<$type>> {
            const TYPE: TypeInfo = TypeInfo::new::<Self>(Kind::OptionNonZero(Primitive::$primitive));
        }
    )* };
}

non_zero! {
    u8 = U8, u16 = U16, u32 = U32, u64 = U64, u128 = U128, usize = Usize,
    i8 = I8, i16 = I16, i32 = I32, i64 = I64, i128 = I128, isize = Isize,
}

macro_rules! atomic {
    ($($type:ty = $primitive:ident,)*) => { $(
        // SAFETY: laid out as its number with alignment equal to its size; it changes behind a
        // shared reference by atomic instructions only, which work between processes.
        unsafe impl Share for $type {
            const TYPE: TypeInfo = TypeInfo::new::<$type>(Kind::Atomic(Primitive::$primitive));
        }
    )* };
}

atomic! {
    AtomicU8 = U8, AtomicU16 = U16, AtomicU32 = U32, AtomicU64 = U64, AtomicUsize = Usize,
    AtomicI8 = I8, AtomicI16 = I16, AtomicI32 = I32, AtomicI64 = I64, AtomicIsize = Isize,
    AtomicBool = Bool,
}

// SAFETY: the elements lie one after the other.
unsafe impl<T: Share, const N: usize> Share for [T; N] {
    const TYPE: TypeInfo = TypeInfo::new::<Self>(Kind::Array {
        elem: node::<T>,
        len: N,
    });
    const UNLOGGED: bool = T::UNLOGGED;
}

// SAFETY: `repr(transparent)` around its only field.
unsafe impl<T: Share> Share for Wrapping<T> {
    const TYPE: TypeInfo = TypeInfo::new::<Self>(Kind::Struct {
        name: "Wrapping",
        args: &[node::<T>],
        fields: &[Field {
            name: "0",
            offset: offset_of!(Self, 0),
            of: node::<T>,
        }],
    });
    const UNLOGGED: bool = T::UNLOGGED;
}

// SAFETY: no bytes, no alignment, no value of `T`.
unsafe impl<T: 'static> Share for PhantomData<T> {
    const TYPE: TypeInfo = TypeInfo::new::<Self>(Kind::Struct {
        name: "PhantomData",
        args: &[],
        fields: &[],
    });
}
