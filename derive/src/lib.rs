//! `#[derive(Share)]` for [`sharena`](https://docs.rs/sharena): use it from there.
//!
//! - `repr.rs` reads the `repr` attributes and refuses layouts that are not fixed;
//! - `refuse.rs` looks at the types of the fields for what can be told from its name to belong to
//!   one process, and says why at the field;
//! - `expand.rs` writes the implementation.
//!
//! What names do not tell, the compiler does: each field's type is required to be `Share` itself,
//! and the error is at the field too.

mod expand;
mod refuse;
mod repr;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `sharena::Share` for a struct or enum.
///
/// - structs need `#[repr(C)]` or `#[repr(transparent)]`;
/// - enums need `#[repr(u8)]` or another integer of at most 64 bits; `#[repr(C, u8)]` will do;
/// - `align(N)` of up to 4096 is fine, `packed` is not;
/// - all fields must be `Share`, and so must the type parameters;
/// - lifetimes and a `Drop` of its own are refused.
///
/// Deriving also says what no macro can check: any value that another program's build of this type
/// could make, and any earlier value of it, is acceptable here.
#[proc_macro_derive(Share)]
pub fn derive_share(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
