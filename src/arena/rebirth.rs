//! When the life of an arena's file begins anew: then all that the life words say is over.
//!
//! Life words mean something in the boot in which they were written, and in the file in which the kernel
//! marks them, not in a copy. What is on a tmpfs does not outlive it, and the kernel gives each a number of
//! its own when it is mounted: that is quick to ask for. Elsewhere, and before Linux 5.13, it is the boot
//! that counts.

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

/// The life that begins now in an arena in that file, as the header stores it: a tmpfs's number and 0, or
/// the boot's id, whose second word is never 0 (it has the bits of a UUID's variant).
pub(super) fn words_of(file: &File) -> Result<[u64; 2]> {
    match tmpfs_words(file)? {
        Some(words) => Ok(words),
        None => boot_words(),
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
        let words = words_of(file)?;
        mark_all_dead(mapping);
        let header = mapping.header();
        header.device.store(identity.dev, Release);
        header.life[0].store(words[0], Release);
        header.life[1].store(words[1], Release);
        header.inode.store(identity.ino, Release);
        Ok(())
    })();
    os::file::unlock_byte(locks, REBIRTH_BYTE).map_err(os)?;
    done
}

/// Marks every thread as dead as the kernel would, recoverers too: what they held is still theirs.
pub(super) fn mark_as_killed(mapping: &Mapping) {
    for slot in 0..mapping.geometry().slots {
        mark_dead(mapping, slot);
        mapping.process_entry(slot).claim.store(0, Relaxed);
    }
}

/// Marks every thread as dead, and what recoverers had as nobody's.
pub(super) fn mark_all_dead(mapping: &Mapping) {
    let reserved = journal::reserved_slots(mapping);
    for slot in 0..mapping.geometry().slots {
        let stored = mapping.slot(slot);
        stored.lease.store(0, Relaxed);
        if slot < reserved {
            mapping.life(slot).store(0, Relaxed);
            stored.claim.store(0, Relaxed);
        } else {
            mark_dead(mapping, slot);
        }
        mapping.process_entry(slot).claim.store(0, Relaxed);
    }
}

/// Marks the thread as dead that has the slot, if one has.
fn mark_dead(mapping: &Mapping, slot: usize) {
    let claimed = mapping.slot(slot).claim.load(Relaxed) != 0;
    if claimed || mapping.life(slot).load(Relaxed) != 0 {
        mapping.life(slot).store(life::OWNER_DIED, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arena;

    /// By what was stored, and not by what this process would store: those that live are not taken for dead
    /// by who can tell better.
    #[test]
    fn a_life_is_told_by_what_it_began_with() {
        let arena = Arena::options().max_size(1 << 20).anonymous().unwrap();
        let mapping = arena.mapping();
        let Backing::File { file, identity, .. } = &mapping.backing else {
            unreachable!("it is in a file");
        };
        let header = mapping.header();
        let same = |words: [u64; 2]| {
            header.life[0].store(words[0], Relaxed);
            header.life[1].store(words[1], Relaxed);
            is_same(mapping, file, *identity).unwrap()
        };
        let (stored, boot) = (words_of(file).unwrap(), boot_words().unwrap());
        assert!(same(boot));
        assert!(!same([boot[0] ^ 1, boot[1]]));
        // What a kill may leave of the change from one to the other.
        assert!(!same([boot[0], 0]));
        if let Some(words) = tmpfs_words(file).unwrap() {
            assert_eq!(stored, words);
            assert!(!same([words[0] ^ 1, 0]));
            assert!(!same([words[0], boot[1]]));
        }
        assert!(same(stored));
        let inode = header.inode.fetch_add(1, Relaxed);
        assert!(!same(stored));
        header.inode.store(inode, Relaxed);
        assert!(same(stored));
    }
}
