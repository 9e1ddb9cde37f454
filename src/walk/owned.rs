//! What a value owns.

use super::{Edge, Plan, Purpose, Visitor, Walk};
use crate::{mapping::Mapping, share::Schema};

/// All blocks that the value owns, each after its owner's.
pub(crate) fn owned(mapping: &Mapping, schema: &Schema, value: u64) -> Vec<Edge> {
    struct Edges(Vec<Edge>);
    impl Visitor for Edges {
        fn owned(&mut self, edge: Edge) {
            self.0.push(edge);
        }
    }
    let mut walk = Walk::new(mapping, Edges(Vec::new()));
    walk.value(&Plan::new(schema, Purpose::Blocks), 0, value);
    walk.visitor.0
}
