//! What is behind a mapping: a file that others can map, or memory of this process.

use crate::os::file::Identity;
use std::{fs::File, path::PathBuf};

/// Where an arena's pages come from.
pub(crate) enum Backing {
    /// A file, named or not.
    File {
        /// As it was opened or handed over.
        file: File,
        /// The same file, opened anew: byte locks through it belong to this process (and its
        /// children) alone.
        locks: File,
        identity: Identity,
        /// Where it was found, if it has a name.
        path: Option<PathBuf>,
    },
    /// Memory of this process, shared with nobody.
    Memory,
}
