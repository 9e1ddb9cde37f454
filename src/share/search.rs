//! Looking for a container or lock in a type, without allocating: signal handlers do that, too.

use super::info::{Builtin, Kind, Node, TypeRef};
use std::any::TypeId;

/// The most types that are looked through.
const MOST: usize = 64;

/// Whether the type is, has, owns or points to one that `is_it` recognises. `None` of one that is made of
/// more types than are looked through here.
pub(crate) fn contains(root: Node, is_it: fn(Builtin) -> bool) -> Option<bool> {
    let mut search = Search {
        seen: [None; MOST],
        is_it,
    };
    search.node(root)
}

struct Search {
    seen: [Option<TypeId>; MOST],
    is_it: fn(Builtin) -> bool,
}

impl Search {
    fn node(&mut self, node: Node) -> Option<bool> {
        for seen in &mut self.seen {
            match *seen {
                Some(id) if id == node.id => return Some(false),
                Some(_) => {}
                None => {
                    *seen = Some(node.id);
                    return self.parts(node);
                }
            }
        }
        None
    }

    fn parts(&mut self, node: Node) -> Option<bool> {
        match node.info.kind {
            Kind::Builtin { which, .. } if (self.is_it)(which) => Some(true),
            Kind::Builtin { args, .. } => self.any(args.iter().copied()),
            Kind::Array { elem, .. } => self.any([elem]),
            Kind::Struct { args, fields, .. } => {
                let fields = fields.iter().map(|field| field.of);
                self.any(args.iter().copied().chain(fields))
            }
            Kind::Enum { args, variants, .. } => {
                let fields = variants.iter().flat_map(|variant| variant.fields);
                let fields = fields.map(|field| field.of);
                self.any(args.iter().copied().chain(fields))
            }
            Kind::Primitive(_)
            | Kind::NonZero(_)
            | Kind::OptionNonZero(_)
            | Kind::Atomic(_)
            | Kind::Opaque { .. } => Some(false),
        }
    }

    fn any(&mut self, types: impl IntoIterator<Item = TypeRef>) -> Option<bool> {
        for of in types {
            if self.node(of())? {
                return Some(true);
            }
        }
        Some(false)
    }
}
