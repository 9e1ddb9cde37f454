//! The containers: against `std`'s as models, killed, in arenas that are full, moved to wrong
//! places.
// `drop` and `forget` stand for what a user may do, whether it does anything or not.
#![allow(
    dropping_copy_types,
    dropping_references,
    clippy::drop_non_drop,
    clippy::forget_non_drop
)]

mod boxed;
mod crash;
mod full;
mod misplaced;
mod model;
mod ops;
mod string;
mod vec;
