//! Taking a root's value apart without knowing its type.

use crate::{
    error::Result,
    section::Writer,
    share::Schema,
    walk::{Edge, owned},
};

/// Log entries that one unit of [`free_owned`] makes at most, of up to 56 bytes: they fit into the
/// slot, so that also a full arena can be emptied.
const UNIT: usize = 24;

/// Frees every block that the value owns. What makes no sense is left as it is.
///
/// In units of a few blocks each, the deepest first, since a large value would need a large log:
/// `commit` ends a unit and begins the next one. Killed in between, the value has lost some of its
/// parts but owns all that is left, so whoever comes next goes on.
///
/// # Errors
///
/// When a unit cannot be recorded: it is not begun then.
pub(super) fn free_owned(
    writer: Writer,
    schema: &Schema,
    value: u64,
    mut commit: impl FnMut(),
) -> Result {
    let mut edges = owned(writer.mapping(), schema, value);
    // Owners were met before what they own.
    edges.reverse();
    for unit in edges.chunks(UNIT) {
        for edge in unit {
            free(writer, edge)?;
        }
        commit();
    }
    Ok(())
}

/// Frees a container's block, and leaves the container empty.
fn free(writer: Writer, edge: &Edge) -> Result {
    let len = edge.header_size as usize;
    let Some(header) = writer.mapping().address(edge.header, len) else {
        return Ok(());
    };
    writer.record(header.as_ptr().cast_const(), len)?;
    writer.free(edge.block, false)?;
    // SAFETY: the walk found a header there, in a block that belongs to a value which nobody else
    // can reach any more; its bytes are recorded (J1).
    unsafe { header.write_bytes(0, len) };
    Ok(())
}
