//! The queue through its public door.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod crash;
mod engines;
mod push;
mod schedule;
mod site;
mod worker;
