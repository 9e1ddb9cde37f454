//! What the fast paths ask of a context, in one word.

use std::sync::atomic::{AtomicU64, Ordering::*, compiler_fence};

/// The state of a thread's unit. The fast paths of a lock ask for all of it by one comparison.
///
/// | bits | meaning |
/// |---|---|
/// | 0 | busy: inside an operation, while a signal handler must keep out |
/// | 1 | plural: the unit may have several locks, from its scope's begin to its end |
/// | 2 | one free: the section frees the block in `Ctx::one_free` after commit |
/// | 3 | others: the thread has other contexts |
/// | 4 | single: the unit has one lock, and can have no other |
/// | 5 | in panic: the thread was panicking when it took that lock |
/// | 6 | more frees: it frees what is in `Body::frees`, too, or gives back what its log has in the overflow |
/// | 7 | unreached: barriers that others issue do not reach this process; all is done by slow paths |
/// | 8..64 | live write guards, and sections that have no guard (`root_with` and the like) |
///
/// It is read and written as a whole: a load of eight bytes behind a store of fewer would wait until
/// the store has left the store buffer, at each lock and unlock. Atomic, since only then the compiler
/// does not make a store of one byte of a changed bit; used by its own thread alone.
///
/// A signal handler may change it between a load and a store of the thread: what it changes it puts
/// back before it returns, except `OTHERS`, and no handler attaches (that allocates memory).
#[derive(Default, Debug)]
#[repr(transparent)]
pub(super) struct Flags(AtomicU64);

/// What the flags were before a few steps.
#[derive(Clone, Copy)]
pub(super) struct Entered(u64);

impl Entered {
    #[inline(always)]
    pub(super) fn has_frees(self) -> bool {
        self.0 & FREES != 0
    }

    #[inline(always)]
    pub(super) fn has_more_frees(self) -> bool {
        self.0 & MORE_FREES != 0
    }

    #[inline(always)]
    pub(super) fn without_frees(self) -> Self {
        Entered(self.0 & !FREES)
    }
}

const BUSY: u64 = 1;
const PLURAL: u64 = 1 << 1;
const ONE_FREE: u64 = 1 << 2;
const OTHERS: u64 = 1 << 3;
const SINGLE: u64 = 1 << 4;
const IN_PANIC: u64 = 1 << 5;
const MORE_FREES: u64 = 1 << 6;
const UNREACHED: u64 = 1 << 7;
/// There is something to free.
const FREES: u64 = ONE_FREE | MORE_FREES;
/// One guard, and the bits that count them.
const GUARD: u64 = 1 << 8;
const GUARDS: u64 = !(GUARD - 1);

impl Flags {
    #[inline(always)]
    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline(always)]
    fn put(&self, bits: u64) {
        self.0.store(bits, Relaxed);
    }

    #[inline(always)]
    fn has(&self, bit: u64) -> bool {
        self.get() & bit != 0
    }

    #[inline(always)]
    fn set(&self, bit: u64, value: bool) {
        let bits = self.get();
        self.put(if value { bits | bit } else { bits & !bit });
    }

    /// Keeps signal handlers out for a few steps that change nothing else here; not where they have
    /// come into such steps. What is put back is what was found, so that the next load need not wait
    /// for this one's.
    #[inline(always)]
    pub(super) fn enter(&self) -> Option<Entered> {
        self.enter_unless(BUSY)
    }

    /// The same, unless a guard lives.
    #[inline(always)]
    pub(super) fn enter_idle(&self) -> Option<Entered> {
        self.enter_unless(BUSY | GUARDS)
    }

    /// The same, unless the unit may have several locks, or there are other contexts.
    #[inline(always)]
    pub(super) fn enter_single(&self) -> Option<Entered> {
        self.enter_unless(BUSY | GUARDS | PLURAL | OTHERS)
    }

    /// The same, in the section of a single lock, whose guard lives; there may be frees.
    #[inline(always)]
    pub(super) fn enter_section_of_single(&self) -> Option<Entered> {
        let before = self.get();
        if before & !(OTHERS | FREES) != SINGLE | GUARD {
            return None;
        }
        self.put(before | BUSY);
        compiler_fence(SeqCst);
        Some(Entered(before))
    }

    #[inline(always)]
    fn enter_unless(&self, bits: u64) -> Option<Entered> {
        let before = self.get();
        if before & bits != 0 {
            return None;
        }
        self.put(before | BUSY);
        compiler_fence(SeqCst);
        Some(Entered(before))
    }

    /// The reverse.
    #[inline(always)]
    pub(super) fn leave(&self, entered: Entered) {
        compiler_fence(SeqCst);
        self.put(entered.0);
    }

    /// Whether nothing is open, and there is no other context.
    #[inline(always)]
    pub(super) fn are_clear(&self) -> bool {
        self.get() == 0
    }

    /// Whether it is the section of a single lock, whose guard lives, and nothing is to be freed.
    #[inline(always)]
    pub(super) fn are_of_single(&self) -> bool {
        self.get() & !OTHERS == SINGLE | GUARD
    }

    /// Whether nothing is open here, but there are other contexts.
    #[inline(always)]
    pub(super) fn are_of_others_only(&self) -> bool {
        self.get() == OTHERS
    }

    /// Begins the section of a single lock where nothing is open.
    #[inline(always)]
    pub(super) fn begin_single(&self) {
        self.put(self.get() | SINGLE | GUARD);
    }

    /// Ends the section of a single lock; or begins one where more is going on.
    #[inline(always)]
    pub(super) fn set_single(&self, single: bool, in_panic: bool) {
        let others = self.get() & !(GUARDS | SINGLE | IN_PANIC);
        let single = if single { SINGLE | GUARD } else { 0 };
        let in_panic = if in_panic { IN_PANIC } else { 0 };
        self.put(others | single | in_panic);
    }

    /// Whether the unit may have several locks, or an operation goes on.
    #[inline(always)]
    pub(super) fn are_busy_or_plural(&self) -> bool {
        self.has(BUSY | PLURAL)
    }

    /// The same, or there are other contexts.
    #[inline(always)]
    pub(super) fn are_busy_or_plural_or_others(&self) -> bool {
        self.has(BUSY | PLURAL | OTHERS)
    }

    #[inline(always)]
    pub(super) fn has_single(&self) -> bool {
        self.has(SINGLE)
    }

    #[inline(always)]
    pub(super) fn guards(&self) -> u64 {
        self.get() / GUARD
    }

    #[inline(always)]
    pub(super) fn set_guards(&self, guards: u64) {
        self.put(self.get() & !GUARDS | (guards * GUARD));
    }

    #[inline(always)]
    pub(super) fn add_guard(&self) {
        self.put(self.get() + GUARD);
    }

    #[inline(always)]
    pub(super) fn remove_guards(&self, count: u64) {
        debug_assert!(self.guards() >= count);
        self.put(self.get() - count * GUARD);
    }

    #[inline(always)]
    pub(super) fn is_busy(&self) -> bool {
        self.has(BUSY)
    }

    #[inline(always)]
    pub(super) fn set_busy(&self, busy: bool) {
        self.set(BUSY, busy);
    }

    #[inline(always)]
    pub(super) fn is_plural(&self) -> bool {
        self.has(PLURAL)
    }

    #[inline(always)]
    pub(super) fn set_plural(&self, plural: bool) {
        self.set(PLURAL, plural);
    }

    #[inline(always)]
    pub(super) fn has_frees(&self) -> bool {
        self.has(FREES)
    }

    #[inline(always)]
    pub(super) fn has_one_free(&self) -> bool {
        self.has(ONE_FREE)
    }

    #[inline(always)]
    pub(super) fn has_more_frees(&self) -> bool {
        self.has(MORE_FREES)
    }

    #[inline(always)]
    pub(super) fn set_one_free(&self, one: bool) {
        self.set(ONE_FREE, one);
    }

    #[inline(always)]
    pub(super) fn set_more_frees(&self, more: bool) {
        self.set(MORE_FREES, more);
    }

    #[inline(always)]
    pub(super) fn has_others(&self) -> bool {
        self.has(OTHERS)
    }

    #[inline(always)]
    pub(super) fn set_others(&self, others: bool) {
        self.set(OTHERS, others);
    }

    pub(super) fn set_unreached(&self, unreached: bool) {
        self.set(UNREACHED, unreached);
    }

    #[inline(always)]
    pub(super) fn is_unreached(&self) -> bool {
        self.has(UNREACHED)
    }

    #[inline(always)]
    pub(super) fn is_in_panic(&self) -> bool {
        self.has(IN_PANIC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_do_not_touch_each_other() {
        let flags = Flags::default();
        assert!(flags.are_clear());
        flags.begin_single();
        assert!(flags.are_of_single() && flags.has_single() && !flags.is_in_panic());
        flags.set_others(true);
        assert!(flags.are_of_single() && flags.has_others());
        for set in [Flags::set_one_free, Flags::set_more_frees] {
            set(&flags, true);
            assert!(!flags.are_of_single() && flags.has_frees());
            assert!(flags.has_one_free() != flags.has_more_frees());
            set(&flags, false);
        }
        flags.set_unreached(true);
        assert!(flags.is_unreached() && !flags.has_frees() && flags.guards() == 1);
        flags.set_unreached(false);
        flags.set_one_free(true);
        flags.set_busy(true);
        flags.set_plural(true);
        flags.set_single(true, true);
        flags.add_guard();
        assert_eq!(flags.guards(), 2);
        flags.remove_guards(2);
        assert_eq!(flags.guards(), 0);
        flags.set_guards(1);
        assert!(flags.is_busy() && flags.is_plural() && flags.is_in_panic());
        for set in [Flags::set_busy, Flags::set_plural, Flags::set_one_free] {
            set(&flags, false);
        }
        assert!(flags.has_single() && !flags.are_of_single());
        flags.set_single(false, false);
        flags.set_others(false);
        assert!(flags.are_clear());
    }
}
