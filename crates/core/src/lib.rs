//! What every room of throng needs: engine URLs, a clock, shutdown as a value, ids, and signing.
//!
//! Nothing here does I/O on the network and nothing here is global: a [`Clock`], a [`Shutdown`] and
//! an [`Ids`] are made once by the application and passed down.
//!
//! ```
//! use throng_core::EngineUrl;
//!
//! let url = EngineUrl::parse("redis://:hunter2@cache.local:6379/0?pool=8")?;
//! assert_eq!(url.scheme(), "redis");
//! assert_eq!(url.to_string(), "redis://:***@cache.local:6379/0?pool=8"); // secrets never print
//!
//! let mut options = url.options();
//! let pool: u32 = options.take("pool")?.unwrap_or(4);
//! options.finish()?; // an option that nobody took is an error that lists the ones there are
//! assert_eq!(pool, 8);
//! # Ok::<(), throng_core::url::UrlError>(())
//! ```

pub mod clock;
pub mod ids;
mod kind;
pub mod shutdown;
pub mod sign;
pub mod stars;
pub mod url;

pub use clock::{Clock, Hand};
pub use ids::Ids;
pub use kind::Kind;
pub use shutdown::{Shutdown, Trigger};
pub use url::{EngineUrl, Secret};
