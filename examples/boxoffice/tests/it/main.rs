//! Boxoffice through its own doors.

#![expect(
    clippy::unwrap_used,
    reason = "tests; the lint spares only the test functions themselves"
)]

mod accounts;
mod api;
mod before;
mod behind;
mod brokers;
mod browser;
mod cache;
#[path = "../../../../crates/db/tests/it/servers/mod.rs"]
#[expect(dead_code, reason = "the database's own tests use the rest")]
mod clusters;
mod house;
mod import;
mod journeys;
mod leavers;
mod links;
mod lists;
mod live;
mod looks;
mod mail;
mod pages;
mod plans;
#[path = "../../../../crates/edge/tests/it/port.rs"]
mod port;
mod process;
mod purchase;
mod race;
mod replicas;
mod seed;
#[path = "../../../../crates/cache/tests/it/servers.rs"]
#[expect(dead_code, reason = "the cache's own tests do more to their servers")]
mod servers;
mod signals;
mod statements;
mod tickets;
mod visit;
mod worker;
