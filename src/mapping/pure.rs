//! Where a container's memory lies, asked by instructions of which the compiler knows that they change
//! nothing.
//!
//! Each access to a container asks this, and almost always what the thread has at hand answers. If
//! the other case were a plain call, the compiler would have to assume that everything may have changed
//! behind it, and ask again for each element of a loop. So the table of mappings is read by inline
//! assembly that says what is true: it reads, it returns, it has no effect. Then the question moves out
//! of a loop that only reads.
//!
//! - [`base_of`] is asked where what is at hand did not answer: nothing comes between what is at hand
//!   and the access. A short loop is split in two by the compiler.
//! - [`base_from`] compares with what is at hand by itself. It costs registers, but of whatever length a
//!   loop is, nothing of the question stays in it.

use super::table::{self, Located};
use assembly::compare_or_call;
use std::ptr;

/// Where an arena is mapped, and what its hash tables hash with.
#[repr(C)]
struct Base {
    /// 0 if it is not mapped there.
    address: usize,
    seed: u64,
}

impl Base {
    #[inline(always)]
    fn found(self) -> Option<(*mut u8, u64)> {
        let Base { address, seed } = self;
        (address != 0).then(|| (ptr::with_exposed_provenance_mut(address), seed))
    }
}

/// The base of the mapping in which the place lies, if it is one of the arena that containers know by
/// `arena`.
#[inline(always)]
pub(crate) fn base_of<T: ?Sized>(place: *const T, arena: u32) -> Option<*mut u8> {
    base_from(Located::NOWHERE, place, arena).map(|(base, _)| base)
}

/// The same with its seed, where it is probably `guess` that the place lies in.
#[inline(always)]
pub(crate) fn base_from<T: ?Sized>(
    guess: Located,
    place: *const T,
    arena: u32,
) -> Option<(*mut u8, u64)> {
    compare_or_call(guess, place.addr(), arena).found()
}

/// Reads the table only: no store but to its own stack, no panic, no endless loop.
#[cold]
extern "C" fn look_up(address: usize, arena: u32) -> Base {
    let found = table::search(address).filter(|found| found.arena == arena);
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

#[cfg(target_arch = "x86_64")]
mod assembly {
    use super::{Base, Located, look_up};
    use std::arch::{asm, naked_asm};

    /// Calls [`look_up`] unless the place is where it was guessed, in the arena that was asked for.
    ///
    /// The call keeps general registers: if it did not, whoever uses a container in a loop would have his
    /// own values in memory, although the call never happens. Behind a lock's instruction no load gets what
    /// was stored before it until all stores have left.
    #[inline(always)]
    pub(super) fn compare_or_call(guess: Located, place: usize, arena: u32) -> Base {
        let (address, seed);
        // SAFETY: a call of a function that changes no more than what is declared here (and neither tiles
        // nor the registers of the x87); what comes before it changes flags and its outputs only. It is
        // what the options say, see `look_up`.
        unsafe {
            asm!(
                "cmp {within}, {len}",
                "jae 2f",
                "cmp {here:e}, {arena:e}",
                "je 3f",
                "2: mov rax, {place}",
                "mov edx, {arena:e}",
                "call {look_up}",
                "3:",
                look_up = sym look_up_and_keep,
                within = in(reg) place.wrapping_sub(guess.base.addr()),
                len = in(reg) guess.len,
                here = in(reg) guess.arena,
                place = in(reg) place,
                arena = in(reg) arena,
                inout("rax") guess.base.addr() => address,
                inout("rdx") guess.seed => seed,
                // A linker's stub may use it.
                out("r11") _,
                out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
                out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
                out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
                out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
                out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
                out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
                out("k0") _, out("k1") _, out("k2") _, out("k3") _,
                out("k4") _, out("k5") _, out("k6") _, out("k7") _,
                options(pure, readonly),
            );
        }
        Base { address, seed }
    }

    /// [`look_up`] of what is in `rax` and `edx`; the result is there, too. Keeps all other general
    /// registers.
    #[unsafe(naked)]
    extern "C" fn look_up_and_keep() {
        naked_asm!(
            "push rcx",
            "push rsi",
            "push rdi",
            "push r8",
            "push r9",
            "push r10",
            "push r11",
            // The return address and these make a multiple of 16.
            "mov rdi, rax",
            "mov esi, edx",
            "call {look_up}",
            "pop r11",
            "pop r10",
            "pop r9",
            "pop r8",
            "pop rdi",
            "pop rsi",
            "pop rcx",
            "ret",
            look_up = sym look_up,
        )
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// The compiler keeps a caller's own values there.
        #[test]
        fn general_registers_are_kept() {
            let arena = crate::Arena::in_memory().unwrap();
            let mapping = arena.mapping();
            let inside = mapping.base().addr() + 8;
            for (place, id, found) in [
                (inside, mapping.arena(), mapping.base().addr()),
                (inside, mapping.arena() ^ 2, 0),
                (8, mapping.arena(), 0),
            ] {
                let (mut address, mut kept) = (place, [1u64, 2, 3, 4, 5, 6]);
                let [c, s, d, r8, r9, r10] = &mut kept;
                // SAFETY: as in `compare_or_call`; all that a call may change is declared.
                unsafe {
                    asm!(
                        "call {look_up}",
                        look_up = sym look_up_and_keep,
                        inout("rax") address,
                        inout("rdx") u64::from(id) => _,
                        inout("rcx") *c,
                        inout("rsi") *s,
                        inout("rdi") *d,
                        inout("r8") *r8,
                        inout("r9") *r9,
                        inout("r10") *r10,
                        clobber_abi("C"),
                    );
                }
                assert_eq!(address, found);
                assert_eq!(kept, [1, 2, 3, 4, 5, 6]);
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod assembly {
    use super::{Base, Located, look_up};
    use std::arch::asm;

    /// Calls [`look_up`] unless the place is where it was guessed, in the arena that was asked for.
    #[inline(always)]
    pub(super) fn compare_or_call(guess: Located, place: usize, arena: u32) -> Base {
        let (address, seed);
        // SAFETY: a call by the C convention, whose registers are all declared; what comes before it
        // changes flags and its outputs only. It is what the options say, see `look_up`.
        unsafe {
            asm!(
                "cmp {within}, {len}",
                // Compares only if it is lower; else the flags say "unequal".
                "ccmp {here:w}, w1, #0, lo",
                "b.ne 2f",
                "mov x0, {base}",
                "mov x1, {seed}",
                "b 3f",
                "2: bl {look_up}",
                "3:",
                look_up = sym look_up,
                within = in(reg) place.wrapping_sub(guess.base.addr()),
                len = in(reg) guess.len,
                here = in(reg) guess.arena,
                base = in(reg) guess.base.addr(),
                seed = in(reg) guess.seed,
                inout("x0") place => address,
                inout("x1") u64::from(arena) => seed,
                clobber_abi("C"),
                options(pure, readonly),
            );
        }
        Base { address, seed }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod assembly {
    use super::{Base, Located, look_up};

    /// Calls [`look_up`] unless the place is where it was guessed, in the arena that was asked for.
    #[inline(always)]
    pub(super) fn compare_or_call(guess: Located, place: usize, arena: u32) -> Base {
        if guess.covers(place) && guess.arena == arena {
            return Base {
                address: guess.base.addr(),
                seed: guess.seed,
            };
        }
        look_up(place, arena)
    }
}
