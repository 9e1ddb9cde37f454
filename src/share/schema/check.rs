//! Whether the types of a schema make sense: T1 to T5 of the module above.
//!
//! Sizes are compared with care for overflow, and nothing here recurses.

use std::collections::HashSet;

use super::{FieldShape, Primitive, Role, Shape, Type, TypeIndex, VariantShape};
use crate::share::MAX_ALIGN;

/// How many types may contain one another by value, so that a walk may recurse.
pub const MAX_DEPTH: u32 = 128;

/// Checks all rules.
pub(super) fn check(types: &[Type]) -> Result<(), String> {
    if types.is_empty() {
        return Err("a schema without types".into());
    }
    let schema = Types(types);
    for (index, of) in types.iter().enumerate() {
        schema
            .check(of)
            .map_err(|wrong| format!("type {index} of the schema: {wrong}"))?;
    }
    check_depth(types)
}

struct Types<'a>(&'a [Type]);

impl<'a> Types<'a> {
    fn get(&self, index: TypeIndex) -> Result<&'a Type, String> {
        let found = self.0.get(index as usize);
        found.ok_or_else(|| format!("it refers to type {index} of {}", self.0.len()))
    }

    fn check(&self, of: &Type) -> Result<(), String> {
        let align = u64::from(of.align);
        if !align.is_power_of_two() || align > MAX_ALIGN as u64 {
            return Err(format!("alignment {align}"));
        }
        if of.size > i64::MAX as u64 || !of.size.is_multiple_of(align) {
            return Err(format!("size {} at alignment {align}", of.size));
        }
        match &of.shape {
            Shape::Primitive(primitive) => check_size(of, *primitive),
            Shape::NonZero(primitive) | Shape::OptionNonZero(primitive) => {
                check_integer(*primitive)?;
                check_size(of, *primitive)
            }
            Shape::Atomic(primitive) => check_size(of, *primitive),
            Shape::Array { elem, len } => self.check_array(of, *elem, *len),
            Shape::Struct { args, fields, .. } => {
                self.check_args(args)?;
                self.check_fields(of, 0, fields)
            }
            Shape::Enum {
                args,
                tag,
                variants,
                ..
            } => {
                self.check_args(args)?;
                self.check_variants(of, *tag, variants)
            }
            Shape::Builtin { which, args, value } => {
                self.check_args(args)?;
                if args.len() != which.arity() {
                    return Err(format!("{} with {} arguments", which.name(), args.len()));
                }
                if value.is_some() != (which.role() == Role::Inline) {
                    return Err(format!("{}, holding a value or not", which.name()));
                }
                value.map_or(Ok(()), |offset| {
                    self.check_part(of, offset, args[0]).map(drop)
                })
            }
            Shape::Opaque { .. } => Ok(()),
        }
    }

    fn check_args(&self, args: &[TypeIndex]) -> Result<(), String> {
        args.iter().try_for_each(|arg| self.get(*arg).map(drop))
    }

    fn check_array(&self, of: &Type, elem: TypeIndex, len: u64) -> Result<(), String> {
        let elem = self.get(elem)?;
        if elem.size.checked_mul(len) != Some(of.size) || elem.align != of.align {
            return Err(format!(
                "{} bytes for {len} elements of {}",
                of.size, elem.size
            ));
        }
        Ok(())
    }

    /// That the fields follow each other from `start` on. Those without bytes may lie anywhere.
    fn check_fields(&self, of: &Type, start: u64, fields: &[FieldShape]) -> Result<(), String> {
        let mut end = start;
        for field in fields {
            let next = self.check_part(of, field.offset, field.of)?;
            if next == field.offset {
                continue;
            }
            if field.offset < end {
                return Err(format!("the field `{}` overlaps others", field.name));
            }
            end = next;
        }
        Ok(())
    }

    fn check_variants(
        &self,
        of: &Type,
        tag: Primitive,
        variants: &[VariantShape],
    ) -> Result<(), String> {
        check_integer(tag)?;
        let size = tag.size() as u64;
        if size > 8 || size > of.size {
            return Err(format!("the tag {} does not fit", tag.name()));
        }
        let mut known = HashSet::new();
        for variant in variants {
            if !fits(variant.discriminant, tag) || !known.insert(variant.discriminant) {
                return Err(format!(
                    "the discriminant {} of `{}`",
                    variant.discriminant, variant.name
                ));
            }
            self.check_fields(of, size, &variant.fields)?;
        }
        Ok(())
    }

    /// That a part lies inside its whole, aligned; gives its end.
    fn check_part(&self, of: &Type, offset: u64, part: TypeIndex) -> Result<u64, String> {
        let part = self.get(part)?;
        let end = offset.checked_add(part.size).filter(|end| *end <= of.size);
        let aligned = part.align <= of.align && offset.is_multiple_of(u64::from(part.align.max(1)));
        end.filter(|_| aligned).ok_or_else(|| {
            format!(
                "a part at {offset} of size {} and alignment {} in a whole of {} and {}",
                part.size, part.align, of.size, of.align
            )
        })
    }
}

fn check_size(of: &Type, primitive: Primitive) -> Result<(), String> {
    match of.size == primitive.size() as u64 {
        true => Ok(()),
        false => Err(format!("{} of {} bytes", primitive.name(), of.size)),
    }
}

fn check_integer(primitive: Primitive) -> Result<(), String> {
    match primitive.is_integer() {
        true => Ok(()),
        false => Err(format!("{} in place of an integer", primitive.name())),
    }
}

/// Whether the number is one of this integer type of at most eight bytes.
fn fits(number: i128, tag: Primitive) -> bool {
    let bits = tag.size() * 8;
    match tag.is_signed() {
        true => (-(1i128 << (bits - 1))..1 << (bits - 1)).contains(&number),
        false => (0..1i128 << bits).contains(&number),
    }
}

/// That no type contains itself by value, nor too many in one another (T3).
///
/// A type is taken when all that contain it were taken, so its depth is known; types in a cycle are
/// never taken.
fn check_depth(types: &[Type]) -> Result<(), String> {
    let parts: Vec<_> = types.iter().map(Type::parts).collect();
    let mut containers = vec![0u32; types.len()];
    for (_, part) in parts.iter().flatten() {
        containers[*part as usize] += 1;
    }
    let mut depth = vec![0; types.len()];
    let mut free: Vec<_> = (0..types.len()).filter(|i| containers[*i] == 0).collect();
    let mut taken = 0;
    while let Some(index) = free.pop() {
        taken += 1;
        if depth[index] > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} types in one another"));
        }
        for (_, part) in &parts[index] {
            let part = *part as usize;
            depth[part] = depth[part].max(depth[index] + 1);
            containers[part] -= 1;
            if containers[part] == 0 {
                free.push(part);
            }
        }
    }
    match taken == types.len() {
        true => Ok(()),
        false => Err("a type of the schema contains itself by value".into()),
    }
}
