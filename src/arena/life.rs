//! The life of an arena's file: in another one, all that the life words say is over.
//!
//! Life words mean something in the boot in which they were written, and in the file in which the kernel
//! marks them, not in a copy. What is on a tmpfs does not outlive it, and the kernel gives each a number of
//! its own when it is mounted: that is quick to ask for. Elsewhere, and before Linux 5.13, it is the boot
//! that counts.

use super::create::identity;
use crate::{
    error::{Error, Result},
    journal,
    mapping::{Backing, Mapping},
    os::{
        self,
        file::{Hold, Identity},
        life,
    },
};
use std::{fs::File, sync::atomic::Ordering::*};

/// The byte of the file that is locked while somebody looks whether all slots are of another time.
const REBIRTH_BYTE: u64 = 1 << 62;

/// The life of a file, as the header stores it.
pub(super) struct Life {
    /// A tmpfs's number and 0, or the boot's id, whose second word is never 0 (it has the bits of a UUID's
    /// variant).
    pub(super) words: [u64; 2],
    pub(super) file: Identity,
}

impl Life {
    /// The life that begins now in an arena in that file, or in memory.
    pub(super) fn of(file: Option<&File>) -> Result<Life> {
        let Some(file) = file else {
            return Ok(Life {
                words: [0; 2],
                file: Identity { dev: 0, ino: 0 },
            });
        };
        Ok(Life {
            words: match tmpfs_words(file)? {
                Some(words) => words,
                None => boot_words()?,
            },
            file: identity(file)?,
        })
    }
}

/// `None` where the file is not on a tmpfs, or that has no number.
///
/// An error is none of these: who cannot tell must not take the living for dead.
fn tmpfs_words(file: &File) -> Result<Option<[u64; 2]>> {
    let number = os::file::tmpfs_number(file)
        .map_err(|source| Error::os("look at the arena's file system", source))?;
    Ok(number.map(|number| [number, 0]))
}

fn boot_words() -> Result<[u64; 2]> {
    let id = os::process::boot_id().map_err(|source| Error::os("read the boot id", source))?;
    let (a, b) = id.split_at(8);
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    Ok([word(a), word(b)])
}

/// Whether the life words in the arena speak of this life of this very file.
fn is_same(mapping: &Mapping, file: &File, identity: Identity) -> Result<bool> {
    let header = mapping.header();
    let stored = header.life.each_ref().map(|word| word.load(Acquire));
    if header.device.load(Acquire) != identity.dev || header.inode.load(Acquire) != identity.ino {
        return Ok(false);
    }
    // By what was stored, and not by what would be: all openers must come to the same.
    Ok(match stored {
        [_, 0] => tmpfs_words(file)? == Some(stored),
        _ => boot_words()? == stored,
    })
}

/// Marks every slot as dead if the arena is of another life, and says last that this was done. Killed in
/// between, the next opener does it again; nobody attaches before, since each opener comes by here.
pub(super) fn begin_unless_same(mapping: &Mapping, identity: Identity) -> Result {
    let Backing::File { file, locks, .. } = &mapping.backing else {
        return Ok(());
    };
    if is_same(mapping, file, identity)? {
        return Ok(());
    }
    let os = |source| Error::os("lock the arena's file", source);
    let locks = locks.of_this_process().map_err(os)?;
    os::file::lock_byte(locks, REBIRTH_BYTE, Hold::Exclusive).map_err(os)?;
    let done = (|| {
        if is_same(mapping, file, identity)? {
            return Ok(());
        }
        let life = Life::of(Some(file))?;
        mark_all_dead(mapping);
        let header = mapping.header();
        header.device.store(identity.dev, Release);
        header.life[0].store(life.words[0], Release);
        header.life[1].store(life.words[1], Release);
        header.inode.store(identity.ino, Release);
        Ok(())
    })();
    os::file::unlock_byte(locks, REBIRTH_BYTE).map_err(os)?;
    done
}

/// Marks every thread as dead as the kernel would, recoverers too: what they held is still theirs.
pub(super) fn mark_as_killed(mapping: &Mapping) {
    for slot in 0..mapping.geometry().slots {
        let claimed = mapping.slot(slot).claim.load(Relaxed) != 0;
        if claimed || mapping.life(slot).load(Relaxed) != 0 {
            mapping.life(slot).store(life::OWNER_DIED, Release);
        }
        mapping.process_entry(slot).claim.store(0, Relaxed);
    }
}

pub(super) fn mark_all_dead(mapping: &Mapping) {
    let reserved = journal::reserved_slots(mapping);
    for slot in 0..mapping.geometry().slots {
        let stored = mapping.slot(slot);
        stored.lease.store(0, Relaxed);
        if slot < reserved {
            mapping.life(slot).store(0, Relaxed);
            stored.claim.store(0, Relaxed);
        } else if stored.claim.load(Relaxed) != 0 || mapping.life(slot).load(Relaxed) != 0 {
            mapping.life(slot).store(life::OWNER_DIED, Release);
        }
        mapping.process_entry(slot).claim.store(0, Relaxed);
    }
}
