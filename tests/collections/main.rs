//! The containers: against `std`'s as models, killed, in arenas that are full, moved to wrong
//! places.

mod boxed;
mod crash;
mod full;
mod misplaced;
mod model;
mod ops;
mod string;
mod vec;
