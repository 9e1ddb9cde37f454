//! Sharena and what its users would pick instead, behind the same few operations.

pub(crate) mod heaps;
