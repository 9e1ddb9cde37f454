//! The arena: a handle on memory that several processes share, and the roots in it.

mod check;
mod create;
mod directory;
mod handle;
mod normal;
mod open;
mod options;
mod process;
mod raw;
mod rebirth;
mod root;
mod snapshot;
mod stats;
mod transaction;
mod trim;

pub use check::{Problem, ProblemKind, Report, Unowned};
pub use handle::Arena;
pub use options::Options;
pub use raw::Reserved;
pub use root::{Frozen, Root, RootInfo};
pub use stats::{ClassStats, Stats};
pub use transaction::Transaction;
