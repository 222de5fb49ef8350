//! A cache in which an expiry costs one load: single flight, soft expiry, and set on write.
//!
//! ```
//! use std::time::Duration;
//! use throng_cache::Cache;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let cache = Cache::memory();
//! let load = || async { Ok::<_, std::io::Error>("<h1>Tonight</h1>".to_owned()) };
//!
//! // Loads once, however many ask; served for a minute, then served while one loads it anew.
//! let page = cache.fetch("front", Duration::from_secs(60), load).await?;
//! assert_eq!(page, "<h1>Tonight</h1>");
//!
//! // Whoever writes, sets: then nobody ever has to load.
//! cache.set("front", &"<h1>Sold out</h1>".to_owned(), Duration::from_secs(60)).await?;
//! let page: Option<String> = cache.get("front").await?;
//! assert_eq!(page.as_deref(), Some("<h1>Sold out</h1>"));
//! # Ok::<(), throng_cache::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Values live in this process, typed, bounded by bytes and chosen by S3-FIFO. With a shared engine
//! behind, this process keeps copies for a second ([`Config::near_ms`]) and the engine decides who
//! loads, so that an expiry costs one load in all processes together. What a value goes through is
//! drawn at [`Life`].
//!
//! | URL | needs | survives a restart | shared between processes | cannot promise |
//! |---|---|---|---|---|
//! | `memory:` (`max_bytes`) | nothing | no | no | one load among several processes |
//! | `redis://host/0`, `rediss:` (feature `redis`) | one Redis, not a cluster | as the server is set up | yes | that a value outlives a failover |
//! | `memcached://a,b?ring=…` | memcached | the site's, yes; a server's, no | yes | that a server which hung and came back is not behind; ttls under a second |
//!
//! [`Cache::fetch_many`] loads all that is missing at once; [`Cache::keep`] is a handle for one
//! request, which reads the same twice; [`Cache::namespace`] is forgotten as a whole;
//! [`Cache::push`] and [`Cache::latest`] are for values that readers never load;
//! [`Cache::hot_keys`] and [`Cache::prefixes`] say what is read and how it fares.
//!
//! The URL of a memcached fleet names the ring by which its other clients place keys; see
//! [`engine::Memcached::open`] for the options. A server that fails leaves the ring, its keys go to
//! the others, and no caller gets an error.
//!
//! **Promised:** a load's failure is never stored; a load that was overtaken by a `set` or `delete`
//! is not stored; a caller that goes away breaks off nobody else's load; a value with a lower
//! [version](Life::version) never takes the place of one that is there. **Not promised:** that
//! anything stays. A cache may forget everything at any time, and a page must do without.

mod cache;
mod change;
mod changes;
mod config;
pub mod conformance;
mod core;
mod doubt;
pub mod engine;
mod entry;
mod error;
mod fetch;
mod flight;
#[cfg(test)]
mod fuzz;
mod keep;
mod life;
mod many;
mod metrics;
#[cfg(test)]
mod model;
mod namespace;
mod namespaces;
mod pickle;
mod python;
mod random;
mod reads;
mod sealed;
mod slot;
mod store;
mod tags;
mod value;
mod warm;

pub use cache::Cache;
pub use change::Change;
pub use changes::Changes;
pub use config::Config;
pub use engine::{Engine, Memory};
pub use error::{Error, Failure, Result};
pub use life::Life;
pub use metrics::Stats;
pub use reads::{HotKey, PrefixStats};
pub use throng_core::Kind;
pub use value::Cacheable;
