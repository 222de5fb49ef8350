//! The facade through its public door: a small site in process, and real processes for what only
//! they can show.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot do fails the test")]

mod assets;
#[cfg(feature = "acme")]
#[path = "../../../edge/tests/it/authority.rs"]
mod authority;
mod cache;
#[cfg(feature = "acme")]
mod certified;
mod cli;
#[path = "../../../db/tests/it/servers/mod.rs"]
#[expect(dead_code, reason = "the database's own tests use the rest")]
mod clusters;
mod config;
mod csrf;
#[cfg(feature = "edge")]
mod edge;
mod errors;
#[cfg(feature = "edge")]
mod full;
mod leaving;
mod limits;
mod outer;
mod pages;
#[cfg(feature = "edge")]
#[path = "../../../edge/tests/it/port.rs"]
mod port;
mod process;
mod routes;
#[cfg(feature = "edge")]
mod running;
mod seen;
#[path = "../../../cache/tests/it/servers.rs"]
#[expect(dead_code, reason = "the cache's own tests do more to their servers")]
mod servers;
mod sessions;
mod site;
mod tasks;
