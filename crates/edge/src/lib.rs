//! A page cache and load balancer that a site can stand behind.
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

pub mod cache;

pub use cache::{Cache, Policy};
