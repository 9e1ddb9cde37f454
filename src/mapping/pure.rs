//! The table, read by a call of which the compiler knows that it changes nothing.
//!
//! Each access to a container asks where its memory lies, and almost always the thread's context
//! answers. If the other case were a plain call, the compiler would have to assume that everything
//! may have changed behind it, and ask again for each element of a loop. So the call is made by
//! inline assembly that says what is true: it reads, it returns, it has no effect. Then all of the
//! question moves out of a loop that only reads.

use super::table;
use std::ptr;

/// Where an arena is mapped, and what its hash tables hash with.
#[repr(C)]
struct Base {
    /// 0 if it is not mapped there.
    address: usize,
    seed: u64,
}

/// The base of the mapping in which the place lies, and its seed; if it is one of the arena that
/// containers know by `arena`.
#[inline(always)]
pub(crate) fn base_of<T: ?Sized>(place: *const T, arena: u32) -> Option<(*mut u8, u64)> {
    let Base { address, seed } = call(place.addr(), arena);
    (address != 0).then(|| (ptr::with_exposed_provenance_mut(address), seed))
}

/// Reads the table only: no store but to its own stack, no panic, no endless loop.
#[cold]
extern "C" fn look_up(address: usize, arena: u32) -> Base {
    let found = table::search(address, 0).filter(|found| found.arena == arena);
    found.map_or(
        Base {
            address: 0,
            seed: 0,
        },
        |found| Base {
            address: found.base.addr(),
            seed: found.seed,
        },
    )
}

/// Calls [`look_up`].
#[inline(always)]
fn call(place: usize, arena: u32) -> Base {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let (address, seed);
        // SAFETY: a call by the C convention, whose registers are all declared; it is what the
        // options say, see `look_up`.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!(
                "call {look_up}",
                look_up = sym look_up,
                in("rdi") place,
                in("rsi") u64::from(arena),
                lateout("rax") address,
                lateout("rdx") seed,
                clobber_abi("C"),
                options(pure, readonly),
            );
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!(
                "bl {look_up}",
                look_up = sym look_up,
                inlateout("x0") place => address,
                inlateout("x1") u64::from(arena) => seed,
                clobber_abi("C"),
                options(pure, readonly),
            );
        }
        Base { address, seed }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    look_up(place, arena)
}
