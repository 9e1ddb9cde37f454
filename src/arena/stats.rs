//! Sizes and counts.

use super::Arena;

/// Of one size class.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassStats {}

/// Of an arena.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Bytes of addresses.
    pub reserved: u64,
}

pub(super) fn stats(arena: &Arena) -> Stats {
    Stats {
        reserved: arena.mapping().geometry().maximum,
    }
}
