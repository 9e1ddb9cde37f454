//! What is stepped through.

mod boxed;
mod doomed;
mod frees;
mod links;
mod map;
mod overflow;
mod plain_map;
mod roots;
mod rwlock;
mod sections;
mod semaphore;
mod string;
mod threads;
mod trim;
mod vec;

use crate::subject::Case;

/// Every operation from every start state.
pub(crate) fn all() -> Vec<Case> {
    [
        vec::subject().cases(),
        string::subject().cases(),
        map::subject().cases(),
        plain_map::subject().cases(),
        boxed::subject().cases(),
        frees::subject().cases(),
        links::subject().cases(),
        roots::subject().cases(),
        semaphore::subject().cases(),
        rwlock::subject().cases(),
        threads::subject().cases(),
        trim::subject().cases(),
        doomed::subject().cases(),
        overflow::subject().cases(),
        sections::subject().cases(),
        sections::long().cases(),
    ]
    .concat()
}
