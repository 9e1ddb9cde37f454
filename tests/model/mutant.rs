//! Protocols with one rule broken. A model that does not notice proves nothing.

/// The rule that is broken, by its number in ARCHITECTURE.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// J1: nothing is recorded.
    NoJournal,
    /// J1: what is overwritten is recorded afterwards.
    RecordLate,
    /// J8: the locks are released, then the section commits.
    ReleaseFirst,
    /// S2: a lock is released when its guard goes, though the scope goes on.
    ReleaseEarly,
    /// L8: a reader looks at the word, then fills its cell.
    ReaderLooksOnce,
    /// L8: a writer looks at the cells, then takes the word.
    WriterScansFirst,
    /// L8: who reads already waits for a writer all the same.
    ReadsInTurn,
    /// J6: blocks are freed before the commit.
    FreeFirst,
    /// J9: `done` is stored only after the next block is in doubt.
    DoneLate,
    /// J9: nobody says what is being freed.
    NoDoubt,
    /// H4: a drain looks at no doubt word.
    NoDoubtCheck,
    /// R3: a rollback empties the log at its end, and not entry by entry.
    KeepLog,
    /// P3: a sleeper does not watch the life word of who has the lock.
    NoLifeWord,
    /// R1: the life word is not looked at again under the lease.
    NoSecondLook,
    /// R2: the generation is raised before the journal is resolved.
    GenerationFirst,
    /// R6: the slot can be claimed before its slabs are given up.
    ClaimFirst,
    /// R1: who claims a slot clears its lease.
    ClaimClearsLease,
    /// R6: the claim is cleared also if it is another one by now.
    ClearAnyClaim,
    /// J10: whatever span is there now is freed.
    FreeAnySpan,
    /// H6: a slab forgets its generation while it is a tail.
    TailForgets,
    /// J1: a span is published before the journal names it.
    SpanUnnamed,
    /// J5: a semaphore is changed without the redo record.
    NoRedo,
    /// J5: the redo record outlives the lock.
    RedoLate,
    /// R6: permits of the dead are not returned.
    PermitsKept,
    /// L2: small locks are taken in the name of the generation that died.
    OldTag,
    /// R4: no slots are reserved for recoverers.
    NoReserve,
    /// R4: a dead recoverer's slot is taken over whether or not it still is one.
    TakeOverBlindly,
    /// R4: a dead recoverer's slot is taken over by its claim, while its mark stays.
    MarkStays,
    /// R6: who finds no slot does not wait for those who are about to leave theirs.
    NoPatience,
    /// R5: whether a claimant is gone is asked after whether its slot has a life.
    LifeFirst,
    /// R5: a slot whose claimant lives is freed too.
    ReapLiving,
}
