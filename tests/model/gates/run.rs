//! What is explored.

use super::*;
use crate::{all, prove, refute};

const WORK: &[Op] = &[Op::Attach, Op::Section, Op::Detach];
const REAP_AND_WORK: &[Op] = &[Op::Reap, Op::Attach, Op::Detach];

fn everybody_is_dead(processes: Processes) -> Config {
    Config {
        programs: [WORK, REAP_AND_WORK],
        respawned: REAP_AND_WORK,
        kills: 2,
        processes,
        refuses: false,
        slots: 3,
        mutant: None,
    }
}

fn with_kills(kills: u8, config: Config) -> Config {
    Config { kills, ..config }
}

#[test]
fn together() {
    let kills = if all() { 2 } else { 1 };
    let config = everybody_is_dead(Processes::Together);
    prove("gates", &with_kills(kills, config));
}

#[test]
fn in_namespaces_of_their_own() {
    prove("gates, apart", &everybody_is_dead(Processes::Apart));
}

#[test]
fn parent_and_child() {
    prove("gates, related", &everybody_is_dead(Processes::Related));
}

#[test]
fn gates_are_refused() {
    let kills = if all() { 2 } else { 1 };
    let config = Config {
        refuses: true,
        ..everybody_is_dead(Processes::Apart)
    };
    prove("gates, refused", &with_kills(kills, config));
}

#[test]
fn mutants_of_gates() {
    for (mutant, processes) in [
        (Mutant::NoReserve, Processes::Together),
        (Mutant::NoPatience, Processes::Together),
        (Mutant::ClaimBeforeLife, Processes::Together),
        (Mutant::ReapLiving, Processes::Related),
        (Mutant::ClaimBlindly, Processes::Related),
        (Mutant::TakeOverBlindly, Processes::Related),
        (Mutant::NoGate, Processes::Apart),
        (Mutant::GateLeftEarly, Processes::Apart),
        (Mutant::LeaveOutside, Processes::Apart),
        (Mutant::MarksItself, Processes::Apart),
        (Mutant::FreeOutside, Processes::Apart),
        (Mutant::TakeOutside, Processes::Apart),
    ] {
        let broken = Config {
            mutant: Some(mutant),
            kills: if mutant == Mutant::NoPatience { 1 } else { 2 },
            refuses: mutant == Mutant::MarksItself,
            ..everybody_is_dead(processes)
        };
        refute(&format!("{mutant:?}, {processes:?}"), &broken);
    }
}

#[test]
fn larger_sizes() {
    if !all() {
        return;
    }
    for processes in [Processes::Together, Processes::Apart] {
        let longer = Config {
            programs: [REAP_AND_WORK, REAP_AND_WORK],
            kills: 3,
            ..everybody_is_dead(processes)
        };
        prove(&format!("gates, {processes:?}, three kills"), &longer);
    }
}
