//! Stops something at every instruction, and notes how an arena's bytes change.
//!
//! What a `kill -9` would leave at an instruction boundary is exactly these bytes: so each change
//! is one crash state. Two ways: the processor's trap flag, in this process, where there is one;
//! `ptrace`, of a forked child, on all others.

#[cfg(target_arch = "x86_64")]
mod breakpoint;
pub(crate) mod ptrace;
#[cfg(target_arch = "x86_64")]
pub(crate) mod trap_flag;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use ptrace::step;
#[cfg(target_arch = "x86_64")]
pub(crate) use trap_flag::step;

/// Whether what is stepped changes the arena of this process, rather than a child's copy.
pub(crate) const IN_PLACE: bool = cfg!(target_arch = "x86_64");

/// Where something is stopped. The crash states are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pace {
    /// Behind each instruction.
    Instructions,
    /// Behind each instruction that stores into the arena, where that is possible.
    Stores,
}

/// A word of the arena that got a new value at an instruction boundary.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    pub(crate) step: u32,
    pub(crate) word: u32,
    pub(crate) value: u64,
}

/// What stepping through something showed.
pub(crate) struct Recording {
    first: Vec<u8>,
    changes: Vec<Change>,
    /// Instruction boundaries.
    pub(crate) boundaries: usize,
}

impl Recording {
    /// The bytes before the first instruction.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }

    /// The bytes behind the last instruction.
    pub(crate) fn last(&self) -> Vec<u8> {
        let mut image = self.first.clone();
        for change in &self.changes {
            change.apply(&mut image);
        }
        image
    }

    /// The bytes when half of the changes were made.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn half_way(&self) -> Vec<u8> {
        let mut image = self.first.clone();
        let all = self.instructions().count();
        for change in self.instructions().take(all / 2).flatten() {
            change.apply(&mut image);
        }
        image
    }

    /// What changed, in groups of one instruction each.
    pub(crate) fn instructions(&self) -> impl Iterator<Item = &[Change]> {
        self.changes.chunk_by(|a, b| a.step == b.step)
    }
}

impl Change {
    /// Makes the change in an image.
    pub(crate) fn apply(&self, image: &mut [u8]) {
        let at = self.word as usize * 8;
        image[at..at + 8].copy_from_slice(&self.value.to_ne_bytes());
    }
}

/// Calls `note` with each word in which `now` differs from `before`.
///
/// # Safety
///
/// Both are `len` bytes long, a multiple of 8, and aligned to 8.
unsafe fn compare(now: *const u8, before: *const u8, len: usize, mut note: impl FnMut(usize, u64)) {
    let (now, before) = (now.cast::<u64>(), before.cast::<u64>());
    for word in 0..len / 8 {
        // SAFETY: inside, by contract. What is watched may change at any time, so it is read once.
        let (new, old) = unsafe { (now.add(word).read_volatile(), before.add(word).read()) };
        if new != old {
            note(word, new);
        }
    }
}
