//! The table, read by a call of which the compiler knows that it changes nothing.
//!
//! Each access to a container asks where its memory lies, and almost always the thread's context
//! answers. If the other case were a plain call, the compiler would have to assume that everything
//! may have changed behind it, and ask again for each element of a loop. So the call is made by
//! inline assembly that says what is true: it reads, it returns, it has no effect. Then all of the
//! question moves out of a loop that only reads.

use super::table::TABLE;
use std::{ptr, sync::atomic::Ordering::*};

/// Where an arena is mapped, and what its hash tables hash with.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Base {
    /// 0 if it is not mapped there.
    address: usize,
    seed: u64,
}

impl Base {
    #[inline(always)]
    fn get(self) -> Option<(*mut u8, u64)> {
        (self.address != 0).then(|| (ptr::with_exposed_provenance_mut(self.address), self.seed))
    }
}

/// The base of the mapping in which the address lies, and its seed; if it is one of the arena that
/// containers know by `arena`.
#[inline(always)]
pub(crate) fn base_of<T: ?Sized>(place: *const T, arena: u32) -> Option<(*mut u8, u64)> {
    look_up(place.addr(), arena).get()
}

/// Reads the table only: no store but to its own stack, no panic, no endless loop.
#[cold]
extern "C" fn search(address: usize, arena: u32) -> Base {
    for entry in &TABLE {
        let start = entry.start.load(Acquire);
        let inside = address.wrapping_sub(start) < entry.len.load(Relaxed);
        if start != 0 && inside && entry.arena.load(Relaxed) == arena {
            let seed = entry.seed.load(Relaxed);
            return Base {
                address: start,
                seed,
            };
        }
    }
    Base {
        address: 0,
        seed: 0,
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn look_up(address: usize, arena: u32) -> Base {
    let (base, seed);
    // SAFETY: a call by the C convention, whose registers are all declared; it is what the options
    // say, see `search`.
    unsafe {
        std::arch::asm!(
            "call {search}",
            search = sym search,
            in("rdi") address,
            in("rsi") arena as usize,
            lateout("rax") base,
            lateout("rdx") seed,
            clobber_abi("C"),
            options(pure, readonly),
        );
    }
    Base {
        address: base,
        seed,
    }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn look_up(address: usize, arena: u32) -> Base {
    let (base, seed);
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "bl {search}",
            search = sym search,
            inlateout("x0") address => base,
            inlateout("x1") arena as usize => seed,
            clobber_abi("C"),
            options(pure, readonly),
        );
    }
    Base {
        address: base,
        seed,
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn look_up(address: usize, arena: u32) -> Base {
    search(address, arena)
}
