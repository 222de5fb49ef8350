//! Random numbers.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number that no other process and no other call is likely to be given: the system seeds each
/// thread, and each call is a step on from there.
pub(crate) fn number() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A number above 0 and at most 1.
pub(crate) fn unit() -> f64 {
    ((number() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}
