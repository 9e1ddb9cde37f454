//! The bytes of a schema.
//!
//! Integers are little-endian and unaligned. `count` and `index` are `u32`, `name` is a `u32`
//! length and UTF-8.
//!
//! ```text
//! schema   = count type*
//! type     = kind:u8 size:u64 align:u32 shape
//! shape    = primitive:u8                                 kinds 0 to 3: plain, NonZero,
//!                                                         Option<NonZero>, atomic
//!          | elem:index len:u64                           kind 4: array
//!          | name args fields                             kind 5: struct
//!          | name args tag:u8 count variant*              kind 6: enum
//!          | builtin:u8 args                              kind 7: builtin
//!          | builtin:u8 args value:u64                    kind 8: builtin that holds a value
//!          | name                                         kind 9: opaque
//! args     = count index*
//! fields   = count (name offset:u64 index)*
//! variant  = name discriminant:i128 fields
//! ```
//!
//! Reading believes nothing, but checks only that the bytes are of this form; what they say is
//! checked after that, in `check.rs`. Nothing is allocated ahead of the bytes that fill it.

use super::{Builtin, FieldShape, Primitive, Shape, Type, TypeIndex, VariantShape};

/// Writes the types in this order.
pub(super) fn write(types: &[Type]) -> Vec<u8> {
    let mut writer = Writer(Vec::new());
    writer.list(types, Writer::r#type);
    writer.0
}

/// Reads the types that `write` wrote.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Type>, String> {
    let mut reader = Reader { rest: bytes };
    let types = reader.list(Reader::r#type)?;
    match reader.rest.len() {
        0 => Ok(types),
        left => Err(format!("{left} bytes behind the last type")),
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.extend_from_slice(bytes.as_ref());
    }

    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("nothing in a program has 2^32 parts");
        self.bytes(count.to_le_bytes());
    }

    fn name(&mut self, name: &str) {
        self.count(name.len());
        self.bytes(name);
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.count(items.len());
        for item in items {
            write(self, item);
        }
    }

    fn args(&mut self, args: &[TypeIndex]) {
        self.list(args, |writer, arg| writer.bytes(arg.to_le_bytes()));
    }

    fn field(&mut self, field: &FieldShape) {
        self.name(&field.name);
        self.bytes(field.offset.to_le_bytes());
        self.bytes(field.of.to_le_bytes());
    }

    fn variant(&mut self, variant: &VariantShape) {
        self.name(&variant.name);
        self.bytes(variant.discriminant.to_le_bytes());
        self.list(&variant.fields, Writer::field);
    }

    fn r#type(&mut self, of: &Type) {
        self.bytes([kind(&of.shape)]);
        self.bytes(of.size.to_le_bytes());
        self.bytes(of.align.to_le_bytes());
        self.shape(&of.shape);
    }

    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Primitive(primitive)
            | Shape::NonZero(primitive)
            | Shape::OptionNonZero(primitive)
            | Shape::Atomic(primitive) => self.bytes([primitive.code()]),
            Shape::Array { elem, len } => {
                self.bytes(elem.to_le_bytes());
                self.bytes(len.to_le_bytes());
            }
            Shape::Struct { name, args, fields } => {
                self.name(name);
                self.args(args);
                self.list(fields, Writer::field);
            }
            Shape::Enum {
                name,
                args,
                tag,
                variants,
            } => {
                self.name(name);
                self.args(args);
                self.bytes([tag.code()]);
                self.list(variants, Writer::variant);
            }
            Shape::Builtin { which, args, value } => {
                self.bytes([which.code()]);
                self.args(args);
                if let Some(offset) = value {
                    self.bytes(offset.to_le_bytes());
                }
            }
            Shape::Opaque { name } => self.name(name),
        }
    }
}

fn kind(shape: &Shape) -> u8 {
    match shape {
        Shape::Primitive(_) => 0,
        Shape::NonZero(_) => 1,
        Shape::OptionNonZero(_) => 2,
        Shape::Atomic(_) => 3,
        Shape::Array { .. } => 4,
        Shape::Struct { .. } => 5,
        Shape::Enum { .. } => 6,
        Shape::Builtin { value: None, .. } => 7,
        Shape::Builtin { value: Some(_), .. } => 8,
        Shape::Opaque { .. } => 9,
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or("the schema ends in the middle of a type")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, String> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn i128(&mut self) -> Result<i128, String> {
        self.array().map(i128::from_le_bytes)
    }

    fn name(&mut self) -> Result<String, String> {
        let len = self.u32()?;
        let name = std::str::from_utf8(self.slice(len as usize)?)
            .map_err(|_| "a name that is not UTF-8".to_string())?;
        match name.chars().any(char::is_control) {
            true => Err(format!("control characters in the name {name:?}")),
            false => Ok(name.into()),
        }
    }

    /// Each item takes at least one byte, so a false count ends with the bytes.
    fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn args(&mut self) -> Result<Vec<TypeIndex>, String> {
        self.list(Reader::u32)
    }

    fn primitive(&mut self) -> Result<Primitive, String> {
        let code = self.u8()?;
        Primitive::from_code(code).ok_or_else(|| format!("no primitive has the code {code}"))
    }

    fn builtin(&mut self) -> Result<Builtin, String> {
        let code = self.u8()?;
        Builtin::from_code(code).ok_or_else(|| {
            format!("no builtin has the code {code}: is it of a newer version of sharena?")
        })
    }

    fn field(&mut self) -> Result<FieldShape, String> {
        Ok(FieldShape {
            name: self.name()?,
            offset: self.u64()?,
            of: self.u32()?,
        })
    }

    fn variant(&mut self) -> Result<VariantShape, String> {
        Ok(VariantShape {
            name: self.name()?,
            discriminant: self.i128()?,
            fields: self.list(Reader::field)?,
        })
    }

    fn r#type(&mut self) -> Result<Type, String> {
        let kind = self.u8()?;
        Ok(Type {
            size: self.u64()?,
            align: self.u32()?,
            shape: self.shape(kind)?,
        })
    }

    fn shape(&mut self, kind: u8) -> Result<Shape, String> {
        Ok(match kind {
            0 => Shape::Primitive(self.primitive()?),
            1 => Shape::NonZero(self.primitive()?),
            2 => Shape::OptionNonZero(self.primitive()?),
            3 => Shape::Atomic(self.primitive()?),
            4 => Shape::Array {
                elem: self.u32()?,
                len: self.u64()?,
            },
            5 => Shape::Struct {
                name: self.name()?,
                args: self.args()?,
                fields: self.list(Reader::field)?,
            },
            6 => Shape::Enum {
                name: self.name()?,
                args: self.args()?,
                tag: self.primitive()?,
                variants: self.list(Reader::variant)?,
            },
            7 => Shape::Builtin {
                which: self.builtin()?,
                args: self.args()?,
                value: None,
            },
            8 => Shape::Builtin {
                which: self.builtin()?,
                args: self.args()?,
                value: Some(self.u64()?),
            },
            9 => Shape::Opaque { name: self.name()? },
            _ => return Err(format!("no kind of type has the number {kind}")),
        })
    }
}
