//! The programs that are explored.

use super::*;
use crate::{all, prove, refute};
use Op::*;

/// Both data words under both locks, in a scope: what must not be torn.
const TWO_LOCKS: &[Op] = &[
    Attach,
    Lock(0),
    Toggle(0),
    DropGuard(0),
    Lock(1),
    Toggle(1),
    End,
    Detach,
];

/// The same, by one who recovers the dead first, and then claims the lowest slot that is free.
const REAP_FIRST: &[Op] = &[
    Attach,
    Reap,
    Detach,
    Attach,
    Lock(0),
    Toggle(0),
    DropGuard(0),
    Lock(1),
    Toggle(1),
    End,
    Detach,
];

impl Default for Config {
    fn default() -> Self {
        Config {
            programs: [&[], &[]],
            respawned: &[],
            kills: 2,
            inline: ENTRIES as u8,
            cells: [0, 0],
            owners: [None, None],
            mutant: None,
        }
    }
}

fn with(mutant: Mutant, config: Config) -> Config {
    Config {
        mutant: Some(mutant),
        ..config
    }
}

/// Locks, the journal of bytes, recovery of recoverers; slots used again.
fn two_locks() -> Config {
    Config {
        programs: [TWO_LOCKS, TWO_LOCKS],
        respawned: REAP_FIRST,
        ..Config::default()
    }
}

/// One who recovers the dead first, and then wants a block.
const REAP_AND_REPLACE: &[Op] = &[Attach, Reap, Lock(0), Replace(0), End, Detach];

/// Each replaces the block of both cells: remote frees, adoption, drains.
fn blocks() -> Config {
    Config {
        programs: [
            &[Attach, Lock(0), Replace(0), Lock(1), Clear(1), End, Detach],
            &[Attach, Lock(0), Replace(0), End, Detach],
        ],
        respawned: &[Attach, Lock(0), Replace(0), End, Detach],
        cells: [1, 3],
        ..Config::default()
    }
}

/// A frees two blocks of B's slab, which B drains and gives out anew.
fn frees() -> Config {
    Config {
        programs: [
            &[Lock(0), Lock(1), Clear(0), Clear(1), End, Detach],
            &[Lock(0), Replace(0), Commit, Replace(0), End, Detach],
        ],
        respawned: REAP_AND_REPLACE,
        cells: [1, 2],
        owners: [Some(1), Some(0)],
        ..Config::default()
    }
}

/// A frees a block of B's slab in each of two sections, one behind the other.
fn frees_again() -> Config {
    Config {
        programs: [
            &[Lock(0), Lock(1), Clear(0), Commit, Clear(1), End, Detach],
            &[Detach],
        ],
        respawned: &[Attach, Lock(0), Lock(1), Clear(0), Clear(1), End, Detach],
        ..frees()
    }
}

/// A long section: its log takes a block that was freed before in the same section.
fn segments() -> Config {
    Config {
        programs: [
            &[
                Lock(0),
                Temporary,
                Toggle(0),
                Replace(0),
                Lock(1),
                Toggle(1),
                End,
                Detach,
            ],
            &[Attach, Lock(0), Replace(0), Lock(1), End, Detach],
        ],
        respawned: &[Attach, Lock(0), Replace(0), End, Detach],
        inline: 4,
        cells: [3, 0],
        owners: [Some(0), None],
        ..Config::default()
    }
}

#[test]
fn sections_under_two_locks() {
    prove("two locks", &two_locks());
}

#[test]
fn sections_with_blocks() {
    prove("blocks", &blocks());
}

#[test]
fn several_frees() {
    prove("frees", &frees());
    prove("frees again", &frees_again());
}

#[test]
fn log_segments() {
    prove("segments", &segments());
}

#[test]
fn larger_sizes() {
    if !all() {
        return;
    }
    let kills = 3;
    prove(
        "two locks, 3 kills",
        &Config {
            kills,
            ..two_locks()
        },
    );
    prove("frees, 3 kills", &Config { kills, ..frees() });
    prove(
        "frees again, 3 kills",
        &Config {
            kills,
            ..frees_again()
        },
    );
    prove(
        "segments, 3 kills",
        &Config {
            kills,
            ..segments()
        },
    );
    let reaping = Config {
        respawned: REAP_AND_REPLACE,
        ..blocks()
    };
    prove("blocks, reaped", &reaping);
}

#[test]
fn mutants_of_sections() {
    for mutant in [
        Mutant::NoJournal,
        Mutant::RecordLate,
        Mutant::ReleaseFirst,
        Mutant::ReleaseEarly,
        Mutant::NoLifeWord,
        Mutant::NoSecondLook,
        Mutant::GenerationFirst,
        Mutant::ClaimClearsLease,
        Mutant::ClaimBeforeLife,
    ] {
        refute(&format!("{mutant:?}"), &with(mutant, two_locks()));
    }
    refute("ClaimFirst", &with(Mutant::ClaimFirst, blocks()));
}

#[test]
fn mutants_of_frees() {
    for mutant in [
        Mutant::FreeFirst,
        Mutant::DoneLate,
        Mutant::DoneClearedFirst,
        Mutant::ClaimKeepsDone,
        Mutant::NoDoubt,
        Mutant::NoDoubtCheck,
    ] {
        refute(&format!("{mutant:?}"), &with(mutant, frees()));
    }
    refute("DoneKept", &with(Mutant::DoneKept, frees_again()));
    refute("KeepLog", &with(Mutant::KeepLog, segments()));
}
