//! Which types may lie in an arena, and how they are described there.
//!
//! - [`Share`] marks the types that every process can use where they lie. It is derived; the
//!   primitives, arrays and atomics of `std` have it here, the containers and locks where they are
//!   defined.
//! - [`Schema`] describes a type so that another program, built from other sources by another
//!   compiler, can tell whether it means the same, and print values of types it does not know.
//! - [`Store`], [`Key`] and [`Lookup`] say what can be put into a place of some type, and what finds it again.
//! - [`Unlogged`] is for bulk data that need not be undone.
//! - `Plain` and `Pod` (features `zerocopy` and `bytemuck`) let in the plain types of other
//!   crates.
//!
//! Nothing here touches an arena: this room knows types, not memory.

mod impls;
mod info;
#[cfg(any(feature = "zerocopy", feature = "bytemuck"))]
mod plain;
mod schema;
mod search;
mod store;
mod unlogged;

#[doc(hidden)]
pub use info::{
    Builtin, Field, Kind, MAX_ALIGN, MustNotImplDrop, Node, Part, Primitive, Role, TypeInfo,
    TypeRef, Variant, check, enum_info, enum_start, node, variant_offsets,
};
#[cfg(feature = "zerocopy")]
pub use plain::Plain;
#[cfg(feature = "bytemuck")]
pub use plain::Pod;
pub use schema::{
    FieldShape, MAX_DEPTH, Schema, Shape, Type, TypeIndex, VariantShape, decode, encode,
};
pub use store::{Key, Lookup, Store};
pub use unlogged::{AnyBytes, Unlogged};

pub(crate) use search::contains;
pub(crate) use unlogged::logged;

/// A type whose values may lie in an arena, where every process that maps it can use them.
///
/// Derive it: `#[derive(Share)]` with `#[repr(C)]` or `#[repr(transparent)]` for structs, with
/// `#[repr(u8)]` or another integer for enums. The derive checks everything below except the last
/// point, which is yours to decide: deriving says that it holds.
///
/// # Safety
///
/// A type that is `Share` promises that
///
/// 1. its layout is fixed: the same in all programs that agree on the definition, whichever
///    compiler built them (`repr(C)`, `repr(transparent)`, `repr(u8)` and so on; not the layout
///    Rust chooses, so neither tuples nor most `Option`s);
/// 2. it holds nothing that has a meaning in one process only: no references, no raw or function
///    pointers, no file descriptors, thread ids or other handles, no memory of this process's heap;
/// 3. it does not change behind a shared reference, except through atomics and the locks of
///    [`sync`](crate::sync): no `Cell`, `RefCell` or `UnsafeCell`;
/// 4. it has no `Drop` of its own, as a program that does not know the type must be able to take
///    its values apart; its fields may own arena memory, which is freed field by field;
/// 5. its alignment is a page (4096 bytes) at most;
/// 6. `TYPE` describes it truly: size, alignment, and kind and offset of each part;
/// 7. any value that another program's build of this type could make, and any earlier value of it
///    (after a death, the memory is as it was before), is acceptable. So a field must not be
///    trusted to keep a promise that `unsafe` code elsewhere relies on, unless every program that
///    can open the arena keeps it too.
///
/// # Examples
///
/// ```
/// use sharena::Share;
///
/// #[derive(Share, Clone, Copy)]
/// #[repr(C)]
/// struct Fill {
///     price: f64,
///     quantity: u64,
/// }
///
/// #[derive(Share, Clone, Copy)]
/// #[repr(u8)]
/// enum Event {
///     Opened,
///     Filled(Fill),
///     Closed { at: u64 },
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot lie in an arena: it is not `Share`",
    label = "other processes could not use this where it lies",
    note = "types of your own: `#[derive(Share)]`, with `#[repr(C)]` for structs and `#[repr(u8)]` for enums",
    note = "`Vec`, `String`, `HashMap`, `Box`: use those of `sharena::collections`; `Mutex`: that of `sharena::sync`",
    note = "`Option<T>` has a fixed layout only for `RelPtr<T>` and `NonZero<T>`; else use an enum of your own with `#[repr(u8)]`",
    note = "references, pointers, `Cell`s, tuples and handles of a process are never `Share`"
)]
pub unsafe trait Share: Sized + 'static {
    /// What the type consists of.
    #[doc(hidden)]
    const TYPE: TypeInfo;

    /// Whether an [`Unlogged`] lies in its values.
    #[doc(hidden)]
    const UNLOGGED: bool = false;
}
