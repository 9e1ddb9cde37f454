//! What of a schema's types a walk must look at: most bytes it may skip.

use crate::{
    layout::{
        BufferHeader, LockWord, MapHeader, MutexHeader, SemaphoreHeader, TextHeader, VecHeader,
    },
    share::{Builtin, Primitive, Role, Schema, Shape, Type, TypeIndex},
};
use std::collections::HashMap;

/// What a walk is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Finding blocks: what owns none is skipped.
    Blocks,
    /// The same, and every value that can be invalid is looked at.
    Everything,
}

/// Parts of a value by value: where in it, and of which type.
pub(super) type Parts = Vec<(u64, TypeIndex)>;

/// What a walk does at a value of some type.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// Nothing: no block hangs on it, and any bytes are fine.
    Skip,
    Parts(Parts),
    Elements {
        of: TypeIndex,
        len: u64,
    },
    Enum {
        tag: Primitive,
        variants: HashMap<i128, Parts>,
    },
    Vec(TypeIndex),
    String,
    Box(TypeIndex),
    Map {
        key: TypeIndex,
        value: Option<TypeIndex>,
    },
    Mutex {
        value: u64,
        of: TypeIndex,
    },
    /// Something that begins with the word of a lock.
    Lock,
    /// The same, of a semaphore.
    Semaphore,
    Pointer {
        to: TypeIndex,
        may_be_null: bool,
    },
    Bool,
    Char,
    NonZero(u64),
    /// A container of sharena that this build does not know from inside.
    Unknown(&'static str),
}

/// A schema, with what is to be done for each of its types.
pub(crate) struct Plan {
    purpose: Purpose,
    sizes: Vec<(u64, u32)>,
    looks: Vec<Look>,
}

impl Plan {
    /// # Complexity
    ///
    /// Linear in the schema, times the depth of types in one another.
    pub(crate) fn new(schema: &Schema, purpose: Purpose) -> Self {
        let sizes = schema.types().iter().map(|of| (of.size, of.align));
        let looks = schema.types().iter().map(|of| look(of, purpose));
        let mut plan = Plan {
            purpose,
            sizes: sizes.collect(),
            looks: looks.collect(),
        };
        plan.skip_what_can_be();
        plan
    }

    pub(super) fn look(&self, of: TypeIndex) -> &Look {
        &self.looks[of as usize]
    }

    pub(super) fn size(&self, of: TypeIndex) -> u64 {
        self.sizes[of as usize].0
    }

    pub(super) fn align(&self, of: TypeIndex) -> u64 {
        u64::from(self.sizes[of as usize].1)
    }

    pub(super) fn is_skipped(&self, of: TypeIndex) -> bool {
        matches!(self.look(of), Look::Skip)
    }

    /// Whether every part of the type that is looked at can be skipped.
    fn is_needless(&self, of: usize) -> bool {
        let skipped = |parts: &Parts| parts.iter().all(|&(_, part)| self.is_skipped(part));
        match &self.looks[of] {
            Look::Parts(parts) => skipped(parts),
            Look::Elements { of, len } => *len == 0 || self.is_skipped(*of),
            Look::Enum { variants, .. } => {
                self.purpose == Purpose::Blocks && variants.values().all(skipped)
            }
            Look::Lock | Look::Semaphore => self.purpose == Purpose::Blocks,
            Look::Mutex { of, .. } => self.purpose == Purpose::Blocks && self.is_skipped(*of),
            _ => false,
        }
    }

    /// Skips types whose parts are skipped, from the inside to the outside.
    ///
    /// Types contain one another by value in no circle and to a bounded depth (T3), so the rounds
    /// end. Types without bytes are skipped from the start: arrays of them may claim any length.
    fn skip_what_can_be(&mut self) {
        for (look, (size, _)) in self.looks.iter_mut().zip(&self.sizes) {
            if *size == 0 && !matches!(look, Look::Unknown(_)) {
                *look = Look::Skip;
            }
        }
        let mut changed = true;
        while changed {
            changed = false;
            for of in 0..self.looks.len() {
                if self.is_needless(of) {
                    self.looks[of] = Look::Skip;
                    changed = true;
                }
            }
        }
        for of in 0..self.looks.len() {
            let mut look = std::mem::replace(&mut self.looks[of], Look::Skip);
            match &mut look {
                Look::Parts(parts) => parts.retain(|&(_, part)| !self.is_skipped(part)),
                Look::Enum { variants, .. } => {
                    for parts in variants.values_mut() {
                        parts.retain(|&(_, part)| !self.is_skipped(part));
                    }
                }
                _ => {}
            }
            self.looks[of] = look;
        }
    }
}

fn look(of: &Type, purpose: Purpose) -> Look {
    let everything = purpose == Purpose::Everything;
    match &of.shape {
        Shape::Primitive(Primitive::Bool) | Shape::Atomic(Primitive::Bool) if everything => {
            Look::Bool
        }
        Shape::Primitive(Primitive::Char) if everything => Look::Char,
        Shape::NonZero(_) if everything => Look::NonZero(of.size),
        Shape::Array { elem, len } => Look::Elements {
            of: *elem,
            len: *len,
        },
        Shape::Struct { .. } => Look::Parts(of.parts()),
        Shape::Enum { tag, variants, .. } => Look::Enum {
            tag: *tag,
            variants: variants
                .iter()
                .map(|variant| {
                    let fields = variant.fields.iter();
                    let parts = fields.map(|field| (field.offset, field.of));
                    (variant.discriminant, parts.collect())
                })
                .collect(),
        },
        Shape::Builtin { which, args, value } => look_at_builtin(of, *which, args, *value),
        _ => Look::Skip,
    }
}

fn look_at_builtin(of: &Type, which: Builtin, args: &[TypeIndex], value: Option<u64>) -> Look {
    // A schema says how large a container is in the program that wrote it (T5).
    let is = |size: usize, align: usize| of.size == size as u64 && of.align as usize == align;
    let unknown = Look::Unknown(which.name());
    match (which, args) {
        (Builtin::Vec, &[item]) if is(size_of::<VecHeader>(), 8) => Look::Vec(item),
        (Builtin::String, []) if is(size_of::<TextHeader>(), 8) => Look::String,
        (Builtin::Box, &[item]) if is(size_of::<BufferHeader>(), 8) => Look::Box(item),
        (Builtin::HashMap, &[key, value]) if is(size_of::<MapHeader>(), 8) => Look::Map {
            key,
            value: Some(value),
        },
        (Builtin::HashSet, &[key]) if is(size_of::<MapHeader>(), 8) => {
            Look::Map { key, value: None }
        }
        (Builtin::RelPtr, &[to]) if is(8, 8) => Look::Pointer {
            to,
            may_be_null: false,
        },
        (Builtin::OptionRelPtr | Builtin::AtomicRelPtr, &[to]) if is(8, 8) => Look::Pointer {
            to,
            may_be_null: true,
        },
        (Builtin::Mutex | Builtin::RwLock, &[inside]) => match value {
            Some(value) if value >= size_of::<MutexHeader>() as u64 => {
                Look::Mutex { value, of: inside }
            }
            _ => unknown,
        },
        (Builtin::RawLock, []) if is(size_of::<LockWord>(), 8) => Look::Lock,
        (Builtin::Semaphore, []) if is(size_of::<SemaphoreHeader>(), 8) => Look::Semaphore,
        _ => match which.role() {
            Role::Inline => Look::Parts(of.parts()),
            Role::Bare => Look::Skip,
            Role::Owner | Role::Pointer => unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RelPtr, sync::Mutex};

    fn plan<T: crate::Share>(purpose: Purpose) -> Plan {
        Plan::new(&Schema::of::<T>(), purpose)
    }

    #[test]
    fn plain_bytes_are_skipped() {
        assert!(plan::<[[u64; 8]; 100]>(Purpose::Everything).is_skipped(0));
        assert!(plan::<[(); usize::MAX]>(Purpose::Everything).is_skipped(0));
        assert!(plan::<[RelPtr<u64>; 0]>(Purpose::Everything).is_skipped(0));
        assert!(!plan::<[bool; 3]>(Purpose::Everything).is_skipped(0));
        assert!(plan::<[bool; 3]>(Purpose::Blocks).is_skipped(0));
        assert!(!plan::<[Mutex<[RelPtr<u64>; 2]>; 3]>(Purpose::Blocks).is_skipped(0));
    }
}
