//! A page cache and load balancer that a site can stand behind.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use throng_core::{Clock, Shutdown};
//! use throng_edge::{Config, Edge, Upstream};
//!
//! let back_ends = vec![
//!     Upstream::http("http://10.0.0.1:8000")?,
//!     Upstream::http("http://10.0.0.2:8000")?,
//! ];
//! let edge = Edge::new(Config::default(), back_ends, &Clock::system())?;
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:80").await?;
//! let (trigger, shutdown) = Shutdown::pair();
//! edge.serve(listener, shutdown, Duration::from_secs(30)).await?;
//! # drop(trigger);
//! # Ok(())
//! # }
//! ```
//!
//! A back end may also be a service in this process ([`Upstream::service`]), with no socket between;
//! [`Edge::handle`] answers requests from anywhere.
//!
//! **Promised:** a request that does no harm twice fails only when every back end that may be tried
//! fails it. A page is fetched once however many ask for it at a time. A visitor who is signed in
//! never gets a stored page, and no answer to them is ever stored. What untrusted peers claim in
//! Forwarded and X-Forwarded-* reaches no back end. Everything that a stranger can make grow is
//! bounded in [`Config`], or refused. **Not promised:** that a page stays stored for as long as it is
//! fresh; back ends are spoken to over HTTP/1.1, also where it is over TLS.
//!
//! # The page cache alone
//!
//! [`cache`] decides what may be kept and for whom, by RFC 9111 and by the policy that carried
//! Eventbrite, Disqus and Lanyrd: a visitor who is not signed in gets the page of the last minute, a
//! visitor who is signed in never meets the cache. It does no I/O.
//!
//! ```
//! use std::sync::Arc;
//!
//! use http::{HeaderMap, Method, StatusCode};
//! use throng_core::Clock;
//! use throng_edge::cache::{Answered, Cache, Policy, Question, Step};
//!
//! let cache = Cache::new(Policy::talks(), Clock::system(), 256 << 20);
//! let ask = || {
//!     let (target, headers) = ("/events?utm_source=mail".parse().unwrap(), HeaderMap::new());
//!     Arc::new(Question::new(cache.policy(), "example.org", Method::GET, target, headers))
//! };
//!
//! // The first visitor has to fetch; whoever comes meanwhile is told to wait.
//! let Step::Fetch(fetch) = cache.ask(&ask(), false) else { unreachable!("nothing is stored") };
//! assert!(matches!(cache.ask(&ask(), false), Step::Wait(_)));
//! let mut said = HeaderMap::new();
//! said.insert("surrogate-key", "event-7".parse().unwrap());
//! let Answered::Fill(_, mut filling) = fetch.answered(StatusCode::OK, said) else {
//!     unreachable!("nothing forbids to store it")
//! };
//! filling.push("a page".into());
//! filling.finish();
//!
//! // The next visitor does not, until the event changes.
//! assert!(matches!(cache.ask(&ask(), false), Step::Serve(_)));
//! cache.purge_tag("event-7", false);
//! assert!(matches!(cache.ask(&ask(), false), Step::Fetch(_)));
//! ```
//!
//! | store | needs | survives a restart | shared between processes | cannot promise |
//! |---|---|---|---|---|
//! | memory | nothing | no | no | to keep a page for as long as it is fresh: what is not used leaves first |
//! | disk, below memory ([`Config::disk_folder`]) | a folder | yes | no | the last moments before a crash; pages that are fresh for less than five seconds |

#[cfg(feature = "acme")]
mod acme;
mod balance;
mod body;
pub mod cache;
mod client;
mod config;
mod disk;
mod error;
mod interim;
mod limit;
mod log;
mod peer;
mod proxy;
mod proxy_protocol;
mod stats;
mod tasks;
mod tls;
mod upstream;

#[cfg(feature = "acme")]
pub use acme::{Acme, Proof};
pub use balance::{Balance, Status};
pub use body::{Body, BoxError};
pub use cache::{Cache, Policy};
pub use config::{ClientLimits, Config, Health};
pub use disk::DiskStatus;
pub use error::{Error, Result};
pub use log::{AccessLog, LogWriter};
pub use peer::{Client, Network, NetworkError};
pub use proxy::{Edge, Listener, ServerStatus};
pub use throng_core::Kind;
pub use tls::{CertificateStatus, Certificates, PemFiles};
pub use upstream::{Trust, Upstream};
