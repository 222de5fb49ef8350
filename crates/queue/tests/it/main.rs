//! The queue through its public door.

mod engines;
