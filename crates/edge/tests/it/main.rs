//! The edge through its public door.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it says")]

#[cfg(feature = "acme")]
mod acme;
mod answers;
mod asked;
mod attack;
#[cfg(feature = "acme")]
mod authority;
mod behind;
mod cache;
mod chance;
mod chaos;
mod disk;
mod fickle;
mod freshness;
mod herd;
mod http2;
mod mixture;
mod model;
mod oracles;
mod parts;
mod peers;
mod port;
mod posts;
mod proxy;
mod quick;
mod relay;
mod rested;
mod seen;
mod site;
mod smuggle;
mod storm;
mod strict;
mod suite;
mod tls;
mod trouble;
mod websocket;
mod wire;
