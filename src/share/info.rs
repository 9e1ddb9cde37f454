//! How a type describes itself at compile time: what the derive writes, and containers by hand.
//!
//! A [`TypeInfo`] is a constant. It names other types by function pointer ([`TypeRef`]), not by
//! value, so that a type may contain itself through a container (`struct Node { children:
//! Vec<Node> }`) without its constant depending on itself. [`Schema`](super::Schema) follows these
//! pointers at run time and knows types it has seen by their [`TypeId`].
//!
//! A container or lock of sharena is described as a [`Builtin`] with the types it is made of:
//!
//! ```ignore
//! // SAFETY: `Vec` is `repr(C)` and made of offsets, and its elements are `Share`.
//! unsafe impl<T: Share> Share for Vec<T> {
//!     const TYPE: TypeInfo = TypeInfo::builtin::<Self>(Builtin::Vec, &[node::<T>]);
//! }
//! ```

use std::any::TypeId;

use super::Share;

/// The largest alignment of a `Share` type: a page.
pub const MAX_ALIGN: usize = 4096;

/// What a type consists of.
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    /// Bytes of a value.
    pub size: usize,
    /// Alignment of a value.
    pub align: usize,
    /// What it is made of.
    pub kind: Kind,
}

/// Names a type without evaluating its description.
pub type TypeRef = fn() -> Node;

/// A type of this process: its identity here, and its description.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub(super) id: TypeId,
    pub(super) info: &'static TypeInfo,
}

/// The [`TypeRef`] of `T`.
pub fn node<T: Share>() -> Node {
    Node {
        id: TypeId::of::<T>(),
        info: const { &T::TYPE },
    }
}

/// The kinds of types.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A number, `bool`, `char` or `()`.
    Primitive(Primitive),
    /// `NonZero` of an integer.
    NonZero(Primitive),
    /// `Option` of a `NonZero`: zero is `None`.
    OptionNonZero(Primitive),
    /// An atomic of `std`.
    Atomic(Primitive),
    /// Elements one after the other.
    Array {
        /// The type of the elements.
        elem: TypeRef,
        /// How many there are.
        len: usize,
    },
    /// Fields at fixed offsets.
    Struct {
        /// The name without path and arguments.
        name: &'static str,
        /// The type arguments.
        args: &'static [TypeRef],
        /// The fields in order of declaration.
        fields: &'static [Field],
    },
    /// A tag at offset 0, and the fields of the variant it names.
    Enum {
        /// The name without path and arguments.
        name: &'static str,
        /// The type arguments.
        args: &'static [TypeRef],
        /// The integer that tells the variants apart.
        tag: Primitive,
        /// The variants in order of declaration.
        variants: &'static [Variant],
    },
    /// A container, lock or pointer of sharena.
    Builtin {
        /// Which one.
        which: Builtin,
        /// The types it contains, owns or points to.
        args: &'static [TypeRef],
        /// Where the value lies in it, if it holds one by value.
        value: Option<usize>,
    },
    /// Bytes of which any pattern is valid.
    Opaque {
        /// Gives the name of the type; paths are taken off.
        name: fn() -> &'static str,
    },
}

/// A field of a struct or of a variant.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name, or the index of a tuple field.
    pub name: &'static str,
    /// Offset from the start of the struct or enum.
    pub offset: usize,
    /// The type of the field.
    pub of: TypeRef,
}

/// A variant of an enum.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The name.
    pub name: &'static str,
    /// The tag that stands for it.
    pub discriminant: i128,
    /// Its fields.
    pub fields: &'static [Field],
}

impl TypeInfo {
    /// Describes `T` as being of this kind.
    ///
    /// # Panics
    ///
    /// When the alignment is above a page: at compile time, as this is evaluated for a constant.
    pub const fn new<T: Share>(kind: Kind) -> TypeInfo {
        assert!(
            align_of::<T>() <= MAX_ALIGN,
            "a `Share` type may be aligned to 4096 bytes (a page) at most"
        );
        TypeInfo {
            size: size_of::<T>(),
            align: align_of::<T>(),
            kind,
        }
    }

    /// Describes a builtin that owns or points to values of the types `args`, or has none.
    pub const fn builtin<T: Share>(which: Builtin, args: &'static [TypeRef]) -> TypeInfo {
        assert!(args.len() == which.arity());
        assert!(!matches!(which.role(), Role::Inline));
        TypeInfo::new::<T>(Kind::Builtin {
            which,
            args,
            value: None,
        })
    }

    /// Describes a builtin that holds a value of the type `args[0]` at the offset `value`.
    pub const fn inline<T: Share>(
        which: Builtin,
        args: &'static [TypeRef],
        value: usize,
    ) -> TypeInfo {
        assert!(args.len() == which.arity());
        assert!(matches!(which.role(), Role::Inline));
        TypeInfo::new::<T>(Kind::Builtin {
            which,
            args,
            value: Some(value),
        })
    }
}

/// An enum whose variants have a fixed code, for storing, and a name, for printing.
macro_rules! coded {
    ($(#[$meta:meta])* $enum:ident { $($variant:ident = $code:literal $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum $enum {
            $(#[doc = concat!("`", $name, "`")] $variant = $code,)*
        }

        impl $enum {
            /// Every variant.
            pub const ALL: &[$enum] = &[$($enum::$variant,)*];

            /// The number that stands for it in a schema.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// What the number stands for.
            pub const fn from_code(code: u8) -> Option<$enum> {
                match code {
                    $($code => Some($enum::$variant),)*
                    _ => None,
                }
            }

            /// The name as in Rust source.
            pub const fn name(self) -> &'static str {
                match self {
                    $($enum::$variant => $name,)*
                }
            }
        }
    };
}

coded! {
    /// The types that have no parts. Codes are stored: never reuse one.
    Primitive {
        U8 = 0 "u8",
        U16 = 1 "u16",
        U32 = 2 "u32",
        U64 = 3 "u64",
        U128 = 4 "u128",
        Usize = 5 "usize",
        I8 = 6 "i8",
        I16 = 7 "i16",
        I32 = 8 "i32",
        I64 = 9 "i64",
        I128 = 10 "i128",
        Isize = 11 "isize",
        F32 = 12 "f32",
        F64 = 13 "f64",
        Bool = 14 "bool",
        Char = 15 "char",
        Unit = 16 "()",
    }
}

impl Primitive {
    /// Bytes of a value in this program.
    pub const fn size(self) -> usize {
        match self {
            Primitive::Unit => 0,
            Primitive::U8 | Primitive::I8 | Primitive::Bool => 1,
            Primitive::U16 | Primitive::I16 => 2,
            Primitive::U32 | Primitive::I32 | Primitive::F32 | Primitive::Char => 4,
            Primitive::U64 | Primitive::I64 | Primitive::F64 => 8,
            Primitive::U128 | Primitive::I128 => 16,
            Primitive::Usize | Primitive::Isize => size_of::<usize>(),
        }
    }

    /// Whether it is an integer with a sign.
    pub const fn is_signed(self) -> bool {
        use Primitive::{I8, I16, I32, I64, I128, Isize};
        matches!(self, I8 | I16 | I32 | I64 | I128 | Isize)
    }

    /// Whether it is an integer.
    pub const fn is_integer(self) -> bool {
        use Primitive::{U8, U16, U32, U64, U128, Usize};
        self.is_signed() || matches!(self, U8 | U16 | U32 | U64 | U128 | Usize)
    }
}

coded! {
    /// The containers, locks and pointers of sharena. Codes are stored: never reuse one.
    Builtin {
        Vec = 0 "Vec",
        VecDeque = 1 "VecDeque",
        String = 2 "String",
        Box = 3 "Box",
        HashMap = 4 "HashMap",
        HashSet = 5 "HashSet",
        BTreeMap = 6 "BTreeMap",
        BTreeSet = 7 "BTreeSet",
        Arc = 8 "Arc",
        Weak = 9 "Weak",
        Queue = 10 "Queue",
        ConcurrentHashMap = 11 "concurrent::HashMap",
        RelPtr = 32 "RelPtr",
        OptionRelPtr = 33 "Option<RelPtr>",
        AtomicRelPtr = 34 "AtomicRelPtr",
        Unlogged = 64 "Unlogged",
        Mutex = 65 "Mutex",
        RwLock = 66 "RwLock",
        Condvar = 96 "Condvar",
        Semaphore = 97 "Semaphore",
        Barrier = 98 "Barrier",
        Once = 99 "Once",
        Event = 100 "Event",
        RawLock = 101 "RawLock",
    }
}

/// What a builtin has to do with the values of its type arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// They lie in blocks that it owns.
    Owner,
    /// The value of its only argument lies in it.
    Inline,
    /// It points to one that it does not own.
    Pointer,
    /// It has none.
    Bare,
}

impl Builtin {
    /// What it has to do with the values of its type arguments.
    pub const fn role(self) -> Role {
        use Builtin::*;
        match self {
            Vec | VecDeque | String | Box | HashMap | HashSet | BTreeMap | BTreeSet | Arc
            | Weak | Queue | ConcurrentHashMap => Role::Owner,
            RelPtr | OptionRelPtr | AtomicRelPtr => Role::Pointer,
            Unlogged | Mutex | RwLock => Role::Inline,
            Condvar | Semaphore | Barrier | Once | Event | RawLock => Role::Bare,
        }
    }

    /// How many type arguments it has.
    pub const fn arity(self) -> usize {
        match self {
            Builtin::String => 0,
            Builtin::HashMap | Builtin::BTreeMap | Builtin::ConcurrentHashMap => 2,
            _ => match self.role() {
                Role::Bare => 0,
                Role::Owner | Role::Inline | Role::Pointer => 1,
            },
        }
    }

    /// Whether safe code may write to it through a shared reference.
    pub const fn is_written_when_shared(self) -> bool {
        use Builtin::*;
        match self {
            Arc | Weak | Queue | ConcurrentHashMap | AtomicRelPtr | Mutex | RwLock | Condvar
            | Semaphore | Barrier | Once | Event | RawLock => true,
            Vec | VecDeque | String | Box | HashMap | HashSet | BTreeMap | BTreeSet | RelPtr
            | OptionRelPtr | Unlogged => false,
        }
    }
}

/// Implemented by the derive for its type, which conflicts with this if the type has a `Drop` of
/// its own.
pub trait MustNotImplDrop {}

#[allow(drop_bounds)]
impl<T: Drop> MustNotImplDrop for T {}

/// Evaluates the description of `T`, and so the assertions in it.
pub const fn check<T: Share>() {
    let _ = T::TYPE;
    let _ = T::UNLOGGED;
}

/// Size and alignment of a field, for computing the layout of an enum.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    size: usize,
    align: usize,
}

impl Part {
    /// Those of `T`.
    pub const fn of<T>() -> Part {
        Part {
            size: size_of::<T>(),
            align: align_of::<T>(),
        }
    }
}

/// Where the fields of the variants begin in an enum that is `repr(C)` too: behind the tag, aligned
/// for the strictest field of any variant (RFC 2195).
pub const fn enum_start(tag: Part, variants: &[&[Part]]) -> usize {
    let mut align = 1;
    let mut v = 0;
    while v < variants.len() {
        let mut f = 0;
        while f < variants[v].len() {
            if variants[v][f].align > align {
                align = variants[v][f].align;
            }
            f += 1;
        }
        v += 1;
    }
    tag.size.next_multiple_of(align)
}

/// The offsets of a variant's fields, of which the first may begin at `start`: those of a
/// `repr(C)` struct (RFC 2195).
pub const fn variant_offsets<const N: usize>(start: usize, fields: [Part; N]) -> [usize; N] {
    let mut offsets = [0; N];
    let mut end = start;
    let mut i = 0;
    while i < N {
        offsets[i] = end.next_multiple_of(fields[i].align);
        end = offsets[i] + fields[i].size;
        i += 1;
    }
    offsets
}

/// Describes an enum, after checking its size against what its variants need.
///
/// # Panics
///
/// When the sizes differ, which would mean that offsets were computed wrongly.
pub const fn enum_info<E: Share>(start: usize, variants: &[&[Part]], kind: Kind) -> TypeInfo {
    let mut size = 0;
    let mut v = 0;
    while v < variants.len() {
        let mut end = start;
        let mut f = 0;
        while f < variants[v].len() {
            let field = variants[v][f];
            end = end.next_multiple_of(field.align) + field.size;
            f += 1;
        }
        if end > size {
            size = end;
        }
        v += 1;
    }
    assert!(
        size.next_multiple_of(align_of::<E>()) == size_of::<E>(),
        "the layout of this enum is not that of RFC 2195"
    );
    TypeInfo::new::<E>(kind)
}
