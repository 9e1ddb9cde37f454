//! Where fields lie in an arena, as ARCHITECTURE.md has it: its tables are read here, so that nothing is
//! aimed at where a field was once. (The bits within words stand where they are used.)

use std::{collections::HashMap, ops::Range, sync::LazyLock};

const DOCUMENT: &str = include_str!("../../ARCHITECTURE.md");

/// Offset and size of each field, by rows such as `| Slot.log | 3872 | 8 |`.
static FIELDS: LazyLock<HashMap<&str, (u64, u64)>> = LazyLock::new(|| {
    let row = |line: &'static str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (name, offset, bytes) = (cells.next()?, cells.next()?, cells.next()?);
        Some((name, (offset.parse().ok()?, bytes.parse().ok()?)))
    };
    DOCUMENT.lines().filter_map(row).collect()
});

/// The bytes of a field, from the begin of what it belongs to.
pub(crate) fn field(name: &str) -> Range<u64> {
    let known = FIELDS.get(name);
    let (offset, bytes) = known.unwrap_or_else(|| panic!("ARCHITECTURE.md has no {name}"));
    *offset..offset + bytes
}
