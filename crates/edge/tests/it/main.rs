//! The edge through its public door.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it says")]

mod cache;
mod freshness;
mod herd;
mod model;
mod site;
