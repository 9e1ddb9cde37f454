//! Walking objects through their schemas, without knowing their types.

use crate::{error::Result, mapping::Mapping, section::Writer, share::Schema};

/// Whether nothing of a root can be written by anybody any more.
pub(super) fn is_frozen(_mapping: &Mapping, schema: &Schema, _value: u64) -> bool {
    !schema.contains_atomics_or_locks()
}

/// Frees every block that the value owns.
pub(super) fn free_owned(_writer: Writer, _schema: &Schema, _value: u64) -> Result {
    Ok(())
}
