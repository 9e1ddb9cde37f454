//! A type, described in bytes that any program can read.
//!
//! A [`Schema`] is the graph of all types that a root's type is made of. Types refer to each other
//! by their index, the root's type has index 0, and the others follow in the order in which a
//! depth-first walk first meets them. So there is one way to write a graph down, and two programs
//! mean the same type exactly when the bytes are equal: same names, kinds, sizes, alignments and
//! offsets, through and through. That they were built from different sources, by different
//! compilers, does not matter, nor how often a program declares the same type: types that cannot be
//! told apart are merged first.
//!
//! What an arena says is not trusted: [`decode`] checks everything before there is a `Schema`
//! (`check.rs`), so whoever walks one may rely on
//!
//! - T1: every [`TypeIndex`] in it is in range;
//! - T2: parts lie inside their whole, aligned, and those of a struct or variant do not overlap, so
//!   that a walk over the parts of a value takes no longer than its bytes (skip parts of size 0: an
//!   array of those may claim any length);
//! - T3: no type contains itself by value, nor more than [`MAX_DEPTH`] others in one another;
//! - T4: the discriminants of an enum are distinct and fit its tag, which is an integer of at most
//!   eight bytes;
//! - T5: a builtin has as many arguments as it should, and a value offset exactly if its role is
//!   [`Role::Inline`]; *not* that its size is the one of this program's build: compare
//!   before use.

mod bytes;
mod check;
mod print;

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap},
    mem::{Discriminant, discriminant},
};

use super::{Builtin, Field, Kind, Node, Primitive, Role, Share, TypeRef, Variant, node};

pub use check::MAX_DEPTH;

/// The index of a type in its schema.
pub type TypeIndex = u32;

/// All types that a type is made of, and how.
///
/// `Display` prints the type as in Rust source, `{:#}` the structs and enums behind it as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schema {
    types: Vec<Type>,
}

/// A type in a schema.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Type {
    /// Bytes of a value.
    pub size: u64,
    /// Alignment of a value.
    pub align: u32,
    /// What it is made of.
    pub shape: Shape,
}

/// What a type in a schema is made of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Shape {
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
        elem: TypeIndex,
        /// How many there are.
        len: u64,
    },
    /// Fields at fixed offsets.
    Struct {
        /// The name without path and arguments.
        name: String,
        /// The type arguments.
        args: Vec<TypeIndex>,
        /// The fields in order of declaration.
        fields: Vec<FieldShape>,
    },
    /// A tag at offset 0, and the fields of the variant it names.
    Enum {
        /// The name without path and arguments.
        name: String,
        /// The type arguments.
        args: Vec<TypeIndex>,
        /// The integer that tells the variants apart.
        tag: Primitive,
        /// The variants in order of declaration.
        variants: Vec<VariantShape>,
    },
    /// A container, lock or pointer of sharena.
    Builtin {
        /// Which one.
        which: Builtin,
        /// The types it contains, owns or points to.
        args: Vec<TypeIndex>,
        /// Where the value lies in it, if it holds one by value.
        value: Option<u64>,
    },
    /// Bytes of which any pattern is valid.
    Opaque {
        /// The name without paths.
        name: String,
    },
}

/// A field of a struct or of a variant in a schema.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FieldShape {
    /// The name, or the index of a tuple field.
    pub name: String,
    /// Offset from the start of the struct or enum.
    pub offset: u64,
    /// The type of the field.
    pub of: TypeIndex,
}

/// A variant of an enum in a schema.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VariantShape {
    /// The name.
    pub name: String,
    /// The tag that stands for it.
    pub discriminant: i128,
    /// Its fields.
    pub fields: Vec<FieldShape>,
}

/// The schema of `T` in bytes: equal for two programs exactly if they mean the same type.
pub fn encode<T: Share>() -> Vec<u8> {
    Schema::of::<T>().to_bytes()
}

/// The schema that these bytes hold.
///
/// # Errors
///
/// What is wrong with the bytes; any bytes may be given.
pub fn decode(bytes: &[u8]) -> Result<Schema, String> {
    let types = bytes::read(bytes)?;
    check::check(&types)?;
    Ok(Schema { types })
}

impl Schema {
    /// The schema of `T`.
    ///
    /// # Complexity
    ///
    /// Computed anew at each call, without locks: about a microsecond for each type in it.
    pub fn of<T: Share>() -> Schema {
        Self::of_node(node::<T>())
    }

    /// The schema of a type that is named only.
    pub(crate) fn of_type(of: TypeRef) -> Schema {
        Self::of_node(of())
    }

    fn of_node(node: Node) -> Schema {
        let types = number(merge(collect(node)));
        debug_assert_eq!(check::check(&types), Ok(()));
        Schema { types }
    }

    /// The schema of the type `id`, if it is among those that the type `whole` is made of.
    pub(crate) fn within(whole: TypeRef, id: TypeId) -> Option<Schema> {
        let (_, nodes) = collect_nodes(whole());
        let node = nodes.into_iter().find(|node| node.id == id)?;
        Some(Self::of_node(node))
    }

    /// The schema in bytes, for [`decode`].
    pub fn to_bytes(&self) -> Vec<u8> {
        bytes::write(&self.types)
    }

    /// A number that tells schemas apart, the same in all programs: FNV-1a of the bytes.
    pub fn hash64(&self) -> u64 {
        self.to_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
    }

    /// The type that this is the schema of.
    pub fn root(&self) -> &Type {
        &self.types[0]
    }

    /// The type with this index, 0 being the root.
    ///
    /// # Panics
    ///
    /// When the index does not come from this schema.
    pub fn get(&self, index: TypeIndex) -> &Type {
        &self.types[index as usize]
    }

    /// All types, the root first.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// Whether safe code that has a `&T` may write to the arena: whether there are atomics, locks
    /// or counted pointers in a `T` or in the blocks it owns.
    ///
    /// Such a type cannot be handed out where the memory is mapped read-only.
    pub fn contains_atomics_or_locks(&self) -> bool {
        let mut seen = vec![false; self.types.len()];
        let mut next = vec![0];
        while let Some(index) = next.pop() {
            if std::mem::replace(&mut seen[index as usize], true) {
                continue;
            }
            let of = self.get(index);
            if of.is_written_when_shared() {
                return true;
            }
            next.extend(of.parts().into_iter().map(|(_, part)| part));
            next.extend_from_slice(of.owned());
        }
        false
    }
}

impl Type {
    /// What lies in a value by value: offsets and types. For an array, its first element; for an
    /// enum, the fields of all its variants.
    pub fn parts(&self) -> Vec<(u64, TypeIndex)> {
        match &self.shape {
            Shape::Array { elem, .. } => vec![(0, *elem)],
            Shape::Struct { fields, .. } => fields.iter().map(|f| (f.offset, f.of)).collect(),
            Shape::Enum { variants, .. } => {
                let fields = variants.iter().flat_map(|v| &v.fields);
                fields.map(|f| (f.offset, f.of)).collect()
            }
            Shape::Builtin {
                args,
                value: Some(offset),
                ..
            } => args.iter().map(|arg| (*offset, *arg)).collect(),
            _ => Vec::new(),
        }
    }

    /// The types of what lies in blocks that a value owns.
    pub fn owned(&self) -> &[TypeIndex] {
        match &self.shape {
            Shape::Builtin { which, args, .. } if which.role() == Role::Owner => args,
            _ => &[],
        }
    }

    /// Whether safe code may write to the value itself, its parts aside, through a `&`.
    pub fn is_written_when_shared(&self) -> bool {
        match &self.shape {
            Shape::Atomic(_) => true,
            Shape::Builtin { which, .. } => which.is_written_when_shared(),
            _ => false,
        }
    }

    /// Every reference to another type, in the order in which they are written down.
    fn references(&mut self) -> Vec<&mut TypeIndex> {
        match &mut self.shape {
            Shape::Array { elem, .. } => vec![elem],
            Shape::Struct { args, fields, .. } => args
                .iter_mut()
                .chain(fields.iter_mut().map(|field| &mut field.of))
                .collect(),
            Shape::Enum { args, variants, .. } => args
                .iter_mut()
                .chain(
                    variants
                        .iter_mut()
                        .flat_map(|variant| &mut variant.fields)
                        .map(|field| &mut field.of),
                )
                .collect(),
            Shape::Builtin { args, .. } => args.iter_mut().collect(),
            _ => Vec::new(),
        }
    }

    /// What is seen of it at first sight: two types that differ in this are not the same.
    fn traits(&self) -> (u64, u32, Discriminant<Shape>, &str, Option<Builtin>) {
        let (name, which) = match &self.shape {
            Shape::Struct { name, .. } | Shape::Enum { name, .. } | Shape::Opaque { name } => {
                (name.as_str(), None)
            }
            Shape::Builtin { which, .. } => ("", Some(*which)),
            _ => ("", None),
        };
        (
            self.size,
            self.align,
            discriminant(&self.shape),
            name,
            which,
        )
    }

    /// The same with its references exchanged.
    fn with_references(&self, mut exchange: impl FnMut(TypeIndex) -> TypeIndex) -> Type {
        let mut exchanged = self.clone();
        for reference in exchanged.references() {
            *reference = exchange(*reference);
        }
        exchanged
    }
}

/// All types of this process that the root is made of, as they come.
fn collect(root: Node) -> Vec<Type> {
    collect_nodes(root).0
}

fn collect_nodes(root: Node) -> (Vec<Type>, Vec<Node>) {
    let mut nodes = vec![root];
    let mut known = BTreeMap::from([(root.id, 0)]);
    let mut types = Vec::new();
    while let Some(node) = nodes.get(types.len()).copied() {
        types.push(describe(node, &mut |of: TypeRef| {
            index_of(of(), &mut nodes, &mut known)
        }));
    }
    (types, nodes)
}

/// The index of a type, which it gets when it is met first.
fn index_of(
    node: Node,
    nodes: &mut Vec<Node>,
    known: &mut BTreeMap<TypeId, TypeIndex>,
) -> TypeIndex {
    *known.entry(node.id).or_insert_with(|| {
        nodes.push(node);
        index(nodes.len() - 1)
    })
}

fn index(position: usize) -> TypeIndex {
    TypeIndex::try_from(position).expect("a program has fewer than 2^32 types")
}

/// What a type says of itself, its references resolved.
fn describe(node: Node, resolve: &mut impl FnMut(TypeRef) -> TypeIndex) -> Type {
    let info = node.info;
    let shape = match info.kind {
        Kind::Primitive(primitive) => Shape::Primitive(primitive),
        Kind::NonZero(primitive) => Shape::NonZero(primitive),
        Kind::OptionNonZero(primitive) => Shape::OptionNonZero(primitive),
        Kind::Atomic(primitive) => Shape::Atomic(primitive),
        Kind::Array { elem, len } => Shape::Array {
            elem: resolve(elem),
            len: len as u64,
        },
        Kind::Struct { name, args, fields } => Shape::Struct {
            name: name.into(),
            args: args.iter().map(|arg| resolve(*arg)).collect(),
            fields: describe_fields(fields, resolve),
        },
        Kind::Enum {
            name,
            args,
            tag,
            variants,
        } => Shape::Enum {
            name: name.into(),
            args: args.iter().map(|arg| resolve(*arg)).collect(),
            tag,
            variants: describe_variants(variants, resolve),
        },
        Kind::Builtin { which, args, value } => Shape::Builtin {
            which,
            args: args.iter().map(|arg| resolve(*arg)).collect(),
            value: value.map(|offset| offset as u64),
        },
        Kind::Opaque { name } => Shape::Opaque {
            name: without_paths(name()),
        },
    };
    Type {
        size: info.size as u64,
        align: info.align as u32,
        shape,
    }
}

fn describe_fields(
    fields: &[Field],
    resolve: &mut impl FnMut(TypeRef) -> TypeIndex,
) -> Vec<FieldShape> {
    let describe = |field: &Field| FieldShape {
        name: field.name.into(),
        offset: field.offset as u64,
        of: resolve(field.of),
    };
    fields.iter().map(describe).collect()
}

fn describe_variants(
    variants: &[Variant],
    resolve: &mut impl FnMut(TypeRef) -> TypeIndex,
) -> Vec<VariantShape> {
    let describe = |variant: &Variant| VariantShape {
        name: variant.name.into(),
        discriminant: variant.discriminant,
        fields: describe_fields(variant.fields, resolve),
    };
    variants.iter().map(describe).collect()
}

/// `a::B<c::D>` as `B<D>`: the modules of a program are its own affair.
fn without_paths(name: &str) -> String {
    let mut out = String::new();
    let mut word = 0;
    for c in name.chars() {
        if c.is_alphanumeric() || c == '_' {
            out.push(c);
        } else if c == ':' {
            out.truncate(word);
        } else {
            out.push(c);
            word = out.len();
        }
    }
    out
}

/// So many types are compared each with each.
const FEW: usize = 32;

/// Whether no two of the types are alike, whatever they refer to.
fn all_differ(types: &[Type]) -> bool {
    let rest = |at: usize| &types[at + 1..];
    let mut pairs = types
        .iter()
        .enumerate()
        .flat_map(|(at, one)| rest(at).iter().map(move |other| (one, other)));
    pairs.all(|(one, other)| one.traits() != other.traits())
}

/// Exchanges each reference for that of the first type which cannot be told apart from the one it
/// refers to. In most types all parts differ at first sight, so that there is nothing to exchange.
fn merge(types: Vec<Type>) -> Vec<Type> {
    if types.len() <= FEW && all_differ(&types) {
        return types;
    }
    merge_by_classes(&types)
}

/// Types are sorted into classes, at first one for all. In each round two types stay in one class
/// if they are equal with their references exchanged for classes. Rounds only split classes, so
/// when their number stays the same, they are final.
fn merge_by_classes(types: &[Type]) -> Vec<Type> {
    let mut classes = vec![0; types.len()];
    let mut count = 1;
    loop {
        let mut known = HashMap::new();
        classes = types
            .iter()
            .map(|of| {
                let next = index(known.len());
                *known
                    .entry(of.with_references(|reference| classes[reference as usize]))
                    .or_insert(next)
            })
            .collect();
        if known.len() == count {
            break;
        }
        count = known.len();
    }
    let first = |class| index(classes.iter().position(|c| *c == class).unwrap_or(0));
    types
        .iter()
        .map(|of| of.with_references(|reference| first(classes[reference as usize])))
        .collect()
}

/// Numbers the types in the order in which a depth-first walk from the root first meets them, and
/// leaves out those it does not meet.
fn number(mut types: Vec<Type>) -> Vec<Type> {
    let mut numbers = vec![None; types.len()];
    let mut order = Vec::new();
    let mut next = vec![0];
    while let Some(old) = next.pop() {
        if numbers[old as usize].is_none() {
            numbers[old as usize] = Some(index(order.len()));
            order.push(old);
            next.extend(
                types[old as usize]
                    .references()
                    .into_iter()
                    .rev()
                    .map(|r| *r),
            );
        }
    }
    if order.iter().copied().eq(0..index(types.len())) {
        return types;
    }
    order
        .iter()
        .map(|old| {
            types[*old as usize]
                .with_references(|r| numbers[r as usize].expect("the walk met all references"))
        })
        .collect()
}

#[cfg(test)]
mod tests;
