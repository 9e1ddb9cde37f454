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
    /// L9: who is about to sleep has nobody pass a barrier.
    NoBarrier,
    /// L9: who is about to sleep says so only after the barrier.
    NotRoused,
    /// L9: who may sleep is not counted.
    NobodyCounts,
    /// L9: a lock is made calm whether or not somebody sleeps.
    CalmBlindly,
    /// L10: a circle counts when it was seen once.
    CircleSeenOnce,
    /// L10: a circle counts when two looks, one after the other, found one.
    CircleLookedForTwice,
    /// L10: a wait is known by its lock alone.
    WaitsUnnumbered,
    /// L10: one that gives up some time counts as one that waits for ever.
    TimedWaitsCount,
    /// L10: the dead count as waiting.
    TheDeadWait,
    /// L10: who has the word is taken to wait for readers.
    WordMeansReaders,
    /// J6: blocks are freed before the commit.
    FreeFirst,
    /// J9: `done` is stored only after the next block is in doubt.
    DoneLate,
    /// J9: `done` is cleared before the log is empty.
    DoneClearedFirst,
    /// J9: a section commits with the `done` of the one before.
    DoneKept,
    /// J9: who claims a slot leaves `done` as the one before had it.
    ClaimKeepsDone,
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
    /// R6: a slot can be claimed when it has no claim, though it has a life.
    ClaimBeforeLife,
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
    /// R6: who finds no slot does not wait for those who are about to leave theirs.
    NoPatience,
    /// R5: who claims a slot does not look back whether it has a life.
    ClaimBlindly,
    /// R5: nobody is kept out of a gate.
    NoGate,
    /// R5: who claims a slot leaves the gate before its life word is linked.
    GateLeftEarly,
    /// R5: who leaves a slot does so outside the gate.
    LeaveOutside,
    /// R5: who is refused the gate marks its life word itself.
    MarksItself,
    /// R5: a claim without a life is freed outside the gate.
    FreeOutside,
    /// R5: a dead recoverer's slot is taken over outside the gate.
    TakeOutside,
    /// R5: who frees a claim in the gate does not ask whether its process is there.
    ReapLiving,
    /// R8: a hole is a reserved slab before it has its pages.
    StateFirst,
    /// H8: a hole that could not be filled is a free slab.
    UnfilledIsFree,
    /// H8: what a dead one was filling is taken for a slab that it had reserved.
    FillingIsReserved,
    /// H8: what a dead one was punching is free.
    PunchingIsFree,
    /// H8: slabs are punched by who has not claimed them.
    PunchUnclaimed,
    /// H8: what another is at is a hole, though it lives.
    TransitOfLiving,
    /// H8: a survivor makes what a dead one was at a hole, whatever it is by now.
    SettlesBlindly,
    /// H6: a slab's state has no generation.
    SlabForgets,
    /// H8: who follows an offset that may be stale reads through the mapping.
    FollowsMapped,
    /// J12: what is buried is in no doubt.
    BuryWithoutDoubt,
    /// J12: nobody says that a block is being buried.
    NoBurying,
    /// J12: the owner's offset is cleared before anybody says so.
    UnlinkFirst,
    /// J12: the owner's offset is cleared behind the free.
    UnlinkLate,
    /// J12: the doubt is over before the block is freed.
    SettleEarly,
    /// J12: the block in doubt is freed again also if the walk finds it.
    FreesBeforeWalk,
    /// J12: the owner of blocks goes before them.
    ParentFirst,
    /// S2: the end of an inner scope releases the locks whose guards are gone.
    InnerEndReleases,
    /// S2: the end of an inner scope commits.
    InnerEndCommits,
    /// S2: the outermost scope's end ends the unit, though a guard outlives it.
    ScopeEndsUnit,
    /// S2: the last guard ends the unit, though its scope goes on.
    GuardEndsUnit,
    /// S1: a second lock is taken beside a guard that is in no scope.
    LocksBesideGuard,
}
