//! What the fast paths ask of a context, in one word.

/// The state of a thread's unit. The fast paths of a lock ask for all of it by one comparison.
///
/// | bits | meaning |
/// |---|---|
/// | 0..32 | live write guards, and sections that have no guard (`root_with` and the like) |
/// | 32 | busy: inside an operation, while a signal handler must keep out |
/// | 33 | plural: the unit may have several locks, from its scope's begin to its end |
/// | 34 | frees: the section has frees to do after commit |
/// | 35 | others: the thread has other contexts |
/// | 36 | in panic: the thread was panicking when it took the unit's only lock |
///
/// It is read and written as a whole: a load of eight bytes behind a store of fewer would wait until
/// the store has left the store buffer, at each lock and unlock.
///
/// A signal handler may change it between a load and a store of the thread: what it changes it puts
/// back before it returns, except `OTHERS`, and no handler attaches (that allocates memory).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(super) struct Flags(u64);

const GUARDS: u64 = u32::MAX as u64;
const BUSY: u64 = 1 << 32;
const PLURAL: u64 = 1 << 33;
const FREES: u64 = 1 << 34;
const OTHERS: u64 = 1 << 35;
const IN_PANIC: u64 = 1 << 36;

impl Flags {
    /// Nothing is open, and there is no other context.
    pub(super) const NONE: Flags = Flags(0);
    /// The only context's section, with one guard and nothing to free.
    pub(super) const ONE_GUARD: Flags = Flags(1);

    #[inline(always)]
    pub(super) fn guards(self) -> u32 {
        (self.0 & GUARDS) as u32
    }

    #[inline(always)]
    pub(super) fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    #[inline(always)]
    pub(super) fn is_plural(self) -> bool {
        self.0 & PLURAL != 0
    }

    #[inline(always)]
    pub(super) fn has_frees(self) -> bool {
        self.0 & FREES != 0
    }

    #[inline(always)]
    pub(super) fn has_others(self) -> bool {
        self.0 & OTHERS != 0
    }

    #[inline(always)]
    pub(super) fn is_in_panic(self) -> bool {
        self.0 & IN_PANIC != 0
    }

    /// Whether it is a section with one guard, and nothing to free.
    #[inline(always)]
    pub(super) fn is_one_guard(self) -> bool {
        self.0 & !OTHERS == Self::ONE_GUARD.0
    }

    /// The same, without its guards.
    #[inline(always)]
    pub(super) fn without_guards(self) -> Flags {
        Flags(self.0 & !GUARDS)
    }

    #[inline(always)]
    pub(super) fn set_guards(&mut self, guards: u32) {
        self.0 = self.without_guards().0 | u64::from(guards);
    }

    #[inline(always)]
    pub(super) fn add_guard(&mut self) {
        debug_assert!(self.guards() < u32::MAX);
        self.0 += 1;
    }

    #[inline(always)]
    pub(super) fn remove_guards(&mut self, count: u32) {
        debug_assert!(self.guards() >= count);
        self.0 -= u64::from(count);
    }

    #[inline(always)]
    pub(super) fn set_busy(&mut self, busy: bool) {
        self.set(BUSY, busy);
    }

    #[inline(always)]
    pub(super) fn set_plural(&mut self, plural: bool) {
        self.set(PLURAL, plural);
    }

    #[inline(always)]
    pub(super) fn set_frees(&mut self, frees: bool) {
        self.set(FREES, frees);
    }

    #[inline(always)]
    pub(super) fn set_others(&mut self, others: bool) {
        self.set(OTHERS, others);
    }

    #[inline(always)]
    pub(super) fn set_in_panic(&mut self, in_panic: bool) {
        self.set(IN_PANIC, in_panic);
    }

    #[inline(always)]
    fn set(&mut self, bit: u64, value: bool) {
        self.0 = if value { self.0 | bit } else { self.0 & !bit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_do_not_touch_each_other() {
        let mut flags = Flags::NONE;
        flags.add_guard();
        assert_eq!(flags, Flags::ONE_GUARD);
        flags.set_others(true);
        assert!(flags.is_one_guard() && flags.has_others());
        flags.set_frees(true);
        assert!(!flags.is_one_guard() && flags.has_frees());
        flags.set_busy(true);
        flags.set_plural(true);
        flags.add_guard();
        assert_eq!(flags.guards(), 2);
        flags.remove_guards(2);
        assert_eq!(flags.guards(), 0);
        flags.set_guards(1);
        assert!(flags.is_busy() && flags.is_plural());
        for set in [Flags::set_busy, Flags::set_plural, Flags::set_frees] {
            set(&mut flags, false);
        }
        flags.set_others(false);
        assert_eq!(flags, Flags::ONE_GUARD);
    }
}
