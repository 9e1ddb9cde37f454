//! The programs that are explored.

use super::*;
use crate::{prove, refute};
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

/// A span is allocated and replaced; others come at once.
fn replaced() -> Config {
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
        respawned: &[
            Attach,
            Lock(1),
            Replace(1, 2),
            End,
            Lock(0),
            Clear(0),
            End,
            Reap,
            Detach,
        ],
        first: Some((0, 1)),
        ..Config::default()
    }
}

/// A span is allocated and grown in one section.
fn grown() -> Config {
    Config {
        programs: [
            &[Attach, Lock(0), Replace(0, 1), Grow(0), End, Detach],
            &[Attach, Lock(0), Grow(0), End, Detach],
        ],
        respawned: &[
            Attach,
            Lock(1),
            Replace(1, 2),
            End,
            Lock(0),
            Clear(0),
            End,
            Reap,
            Detach,
        ],
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
fn spans() {
    prove("spans replaced", &replaced());
    prove("spans grown", &grown());
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
