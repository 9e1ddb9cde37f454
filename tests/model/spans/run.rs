//! The programs that are explored.

use super::*;
use crate::{all, prove, refute};
use Op::*;

impl Default for Config {
    fn default() -> Self {
        Config {
            programs: [&[], &[]],
            respawned: &[],
            kills: 2,
            first: None,
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

/// What a killed thread does: it uses what a recovery freed, under the other lock, and then wants
/// what the dead one had.
const COME_BACK: &[Op] = &[
    Attach,
    Lock(1),
    Replace(1, 2),
    End,
    Lock(0),
    Clear(0),
    End,
    Reap,
    Detach,
];

/// A span is allocated and replaced.
fn replaced() -> Config {
    Config {
        programs: [
            &[Attach, Lock(0), Replace(0, 2), End, Detach],
            &[Attach, Lock(0), Replace(0, 1), End, Detach],
        ],
        respawned: COME_BACK,
        first: Some((0, 1)),
        ..Config::default()
    }
}

/// The same with both locks, in one section.
fn both_replaced() -> Config {
    Config {
        programs: [
            &[Attach, Lock(0), Replace(0, 2), End, Detach],
            &[
                Attach,
                Lock(0),
                Replace(0, 1),
                Lock(1),
                Replace(1, 1),
                End,
                Detach,
            ],
        ],
        ..replaced()
    }
}

/// A span is allocated and grown in one section.
fn grown() -> Config {
    Config {
        programs: [
            &[Attach, Lock(0), Replace(0, 1), Grow(0), End, Detach],
            &[Attach, Lock(0), Grow(0), End, Detach],
        ],
        respawned: COME_BACK,
        ..Config::default()
    }
}

/// A frees a span and is killed before its journal is empty. B has the slab as a tail, as a head
/// again, and then recovers A.
fn freed_again() -> Config {
    Config {
        programs: [
            &[Attach, Lock(0), Clear(0), End, Detach],
            &[
                Attach,
                Lock(1),
                Replace(1, 2),
                End,
                Lock(1),
                Clear(1),
                End,
                Lock(1),
                Replace(1, 1),
                End,
                Reap,
                Detach,
            ],
        ],
        respawned: &[Attach, Reap, Detach],
        first: Some((1, 4)),
        ..Config::default()
    }
}

#[test]
fn spans_replaced() {
    prove("spans replaced", &replaced());
    if all() {
        prove("both spans replaced", &both_replaced());
    }
}

#[test]
fn spans_grown() {
    prove("spans grown", &grown());
}

#[test]
fn spans_freed_again() {
    prove("spans freed again", &freed_again());
}

#[test]
fn mutants_of_spans() {
    refute("TailForgets", &with(Mutant::TailForgets, freed_again()));
    refute("FreeAnySpan", &with(Mutant::FreeAnySpan, freed_again()));
    refute("SpanUnnamed", &with(Mutant::SpanUnnamed, replaced()));
    refute("KeepLog, replaced", &with(Mutant::KeepLog, replaced()));
    refute("KeepLog, grown", &with(Mutant::KeepLog, grown()));
}
