//! The edge through its public door.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it says")]

mod cache;
mod chaos;
mod freshness;
mod herd;
mod model;
mod proxy;
mod site;
mod suite;
mod trouble;
mod wire;
