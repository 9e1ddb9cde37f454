//! A schema as Rust source.
//!
//! ```text
//! Mutex<HashMap<u64, Order>>
//!
//! struct Order { // 40 bytes, aligned to 8
//!     id: u64, // at 0
//!     symbol: String, // at 8
//! }
//! ```
//!
//! A hostile schema may nest arguments in circles, or so that writing them out would take for ever
//! (`HashMap<A, A>` with `A = HashMap<B, B>` and so on), so a name is cut off with `…` when it gets
//! too deep or too long.

use std::fmt::{self, Display, Formatter};

use super::{FieldShape, Schema, Shape, Type, TypeIndex, VariantShape};
use crate::share::Builtin;

/// How deep arguments are written out in arguments.
const MAX_NESTING: u32 = 16;

/// How many types one name is written out with.
const MAX_NAMES: u32 = 100;

impl Display for Schema {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Name(self, 0))?;
        if f.alternate() {
            for of in &self.types {
                self.fmt_definition(of, f)?;
            }
        }
        Ok(())
    }
}

impl Schema {
    /// The type with this index as in Rust source.
    pub fn name(&self, index: TypeIndex) -> impl Display + '_ {
        Name(self, index)
    }

    fn fmt_definition(&self, of: &Type, f: &mut Formatter<'_>) -> fmt::Result {
        match &of.shape {
            Shape::Struct { name, args, fields } if !fields.is_empty() => {
                write!(f, "\n\nstruct {name}")?;
                fmt_args(self, args, f)?;
                writeln!(f, " {{ // {} bytes, aligned to {}", of.size, of.align)?;
                for field in fields {
                    self.fmt_field(field, "    ", f)?;
                }
                write!(f, "}}")
            }
            Shape::Enum {
                name,
                args,
                tag,
                variants,
            } => {
                write!(f, "\n\n#[repr({})]\nenum {name}", tag.name())?;
                fmt_args(self, args, f)?;
                writeln!(f, " {{ // {} bytes, aligned to {}", of.size, of.align)?;
                for variant in variants {
                    self.fmt_variant(variant, f)?;
                }
                write!(f, "}}")
            }
            _ => Ok(()),
        }
    }

    fn fmt_field(&self, field: &FieldShape, indent: &str, f: &mut Formatter<'_>) -> fmt::Result {
        let FieldShape { name, offset, of } = field;
        writeln!(f, "{indent}{name}: {}, // at {offset}", Name(self, *of))
    }

    fn fmt_variant(&self, variant: &VariantShape, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "    {}", variant.name)?;
        if !variant.fields.is_empty() {
            writeln!(f, " {{")?;
            for field in &variant.fields {
                self.fmt_field(field, "        ", f)?;
            }
            write!(f, "    }}")?;
        }
        writeln!(f, " = {},", variant.discriminant)
    }
}

/// Type arguments in angle brackets, if there are any.
fn fmt_args(schema: &Schema, args: &[TypeIndex], f: &mut Formatter<'_>) -> fmt::Result {
    Namer {
        schema,
        left: MAX_NAMES,
    }
    .fmt_args(args, 0, f)
}

struct Name<'a>(&'a Schema, TypeIndex);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Namer {
            schema: self.0,
            left: MAX_NAMES,
        }
        .fmt(self.1, 0, f)
    }
}

/// Writes a name out, as far as it goes.
struct Namer<'a> {
    schema: &'a Schema,
    left: u32,
}

impl Namer<'_> {
    fn fmt(&mut self, index: TypeIndex, nesting: u32, f: &mut Formatter<'_>) -> fmt::Result {
        if self.left == 0 || nesting > MAX_NESTING {
            return f.write_str("…");
        }
        self.left -= 1;
        match &self.schema.get(index).shape {
            Shape::Primitive(primitive) => f.write_str(primitive.name()),
            Shape::NonZero(primitive) => write!(f, "NonZero<{}>", primitive.name()),
            Shape::OptionNonZero(primitive) => write!(f, "Option<NonZero<{}>>", primitive.name()),
            Shape::Atomic(primitive) => {
                let (first, rest) = primitive.name().split_at(1);
                write!(f, "Atomic{}{rest}", first.to_uppercase())
            }
            Shape::Array { elem, len } => {
                f.write_str("[")?;
                self.fmt(*elem, nesting + 1, f)?;
                write!(f, "; {len}]")
            }
            Shape::Struct { name, args, .. } | Shape::Enum { name, args, .. } => {
                f.write_str(name)?;
                self.fmt_args(args, nesting, f)
            }
            Shape::Builtin {
                which: Builtin::OptionRelPtr,
                args,
                ..
            } => {
                f.write_str("Option<RelPtr")?;
                self.fmt_args(args, nesting, f)?;
                f.write_str(">")
            }
            Shape::Builtin { which, args, .. } => {
                f.write_str(which.name())?;
                self.fmt_args(args, nesting, f)
            }
            Shape::Opaque { name } => f.write_str(name),
        }
    }

    fn fmt_args(&mut self, args: &[TypeIndex], nesting: u32, f: &mut Formatter<'_>) -> fmt::Result {
        if args.is_empty() {
            return Ok(());
        }
        f.write_str("<")?;
        for (i, arg) in args.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if self.left == 0 {
                f.write_str("…")?;
                break;
            }
            self.fmt(*arg, nesting + 1, f)?;
        }
        f.write_str(">")
    }
}
