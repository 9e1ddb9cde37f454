//! The `repr` attributes of a type, and which of them fix its layout.

use proc_macro2::Span;
use syn::{Attribute, DeriveInput, Error, LitInt, Result, meta::ParseNestedMeta, parenthesized};

/// The largest alignment: a page.
const MAX_ALIGN: u64 = 4096;

/// The integers that may be the tag of an enum, and what they are called in a schema.
const TAGS: [(&str, &str); 10] = [
    ("u8", "U8"),
    ("u16", "U16"),
    ("u32", "U32"),
    ("u64", "U64"),
    ("usize", "Usize"),
    ("i8", "I8"),
    ("i16", "I16"),
    ("i32", "I32"),
    ("i64", "I64"),
    ("isize", "Isize"),
];

/// What the `repr` attributes say.
#[derive(Default)]
pub(crate) struct Repr {
    /// `C` is there.
    pub(crate) c: bool,
    transparent: bool,
    /// The integer that is there, and what it is called in a schema.
    tag: Option<(&'static str, &'static str)>,
}

impl Repr {
    /// Reads them, and refuses what no `Share` type may say.
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Repr> {
        let mut repr = Repr::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("repr")) {
            attribute.parse_nested_meta(|meta| repr.read_word(&meta))?;
        }
        Ok(repr)
    }

    fn read_word(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("C") {
            self.c = true;
        } else if meta.path.is_ident("transparent") {
            self.transparent = true;
        } else if meta.path.is_ident("packed") {
            return Err(meta.error(
                "a `Share` type cannot be packed: its fields are used by reference, so they must \
                 be aligned",
            ));
        } else if meta.path.is_ident("align") {
            let content;
            parenthesized!(content in meta.input);
            check_align(&content.parse()?)?;
        } else {
            let tag = TAGS.iter().find(|tag| meta.path.is_ident(tag.0));
            self.tag = Some(*tag.ok_or_else(|| {
                meta.error(
                    "a `Share` type cannot have this representation: its layout is not fixed",
                )
            })?);
        }
        Ok(())
    }

    /// Refuses a struct whose layout is the compiler's choice.
    pub(crate) fn check_struct(&self, input: &DeriveInput) -> Result<()> {
        if self.c || self.transparent {
            return Ok(());
        }
        Err(Error::new(
            input.ident.span(),
            format!(
                "`{}` has no fixed layout, so another program could lay it out differently: add \
                 `#[repr(C)]` (or `#[repr(transparent)]`)",
                input.ident
            ),
        ))
    }

    /// The tag of an enum, as in Rust and as in a schema; refuses enums without one.
    pub(crate) fn enum_tag(&self, input: &DeriveInput) -> Result<(&'static str, &'static str)> {
        self.tag.ok_or_else(|| {
            let why = match self.c {
                true => "`repr(C)` leaves the size of its tag to the platform's C compiler",
                false => "it has no fixed layout, so another program could lay it out differently",
            };
            let add = match self.c {
                true => "`#[repr(C, u8)]` or `#[repr(u8)]`",
                false => "`#[repr(u8)]` (or another integer)",
            };
            Error::new(
                input.ident.span(),
                format!(
                    "the enum `{}` cannot be `Share`: {why}: use {add}",
                    input.ident
                ),
            )
        })
    }
}

fn check_align(align: &LitInt) -> Result<()> {
    let span: Span = align.span();
    match align.base10_parse::<u64>()? <= MAX_ALIGN {
        true => Ok(()),
        false => Err(Error::new(
            span,
            format!("a `Share` type may be aligned to {MAX_ALIGN} bytes (a page) at most"),
        )),
    }
}
