//! Messages between processes: bounded channels that one receiver reads, and groups that reach many.
//!
//! ```
//! use bytes::Bytes;
//! use throng_bus::Bus;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let bus = Bus::memory();
//! let mut watching = bus.subscribe("show.7").await?; // leaves the group when dropped
//!
//! let sent = bus.group_send("show.7", Bytes::from_static(b"seat 12 is taken")).await?;
//! assert_eq!((sent.delivered, sent.dropped), (1, 0));
//! assert_eq!(watching.next().await?, "seat 12 is taken");
//! # Ok::<(), throng_bus::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A **channel** is a queue with a name: whoever receives first has the message, alone. It holds at
//! most its capacity (100 unless [`Config::capacities`] says otherwise); sending to a full one is
//! [`Error::ChannelFull`], never a wait. A channel of one receiver, such as one visitor's page, is
//! named `prefix!suffix` and made by [`Bus::new_channel`].
//!
//! A **group** is a set of channels. Sending to a group never fails for a full member: it tells how
//! many got the message and how many did not.
//!
//! | URL | needs | survives a restart | shared between processes | cannot promise |
//! |---|---|---|---|---|
//! | `memory:` | nothing | no | no | anything beyond this process |
//!
//! **Promised by every engine:** at most once; never twice; messages of one sender to one channel
//! arrive in order; a message that nobody took within [`Config::expiry_ms`] is dropped; names are
//! those of Django Channels. **Not promised:** that a message arrives at all. What must not be lost
//! belongs in the queue or the database; a message says "look again".

mod bus;
mod config;
pub mod conformance;
pub mod engine;
mod error;
mod metrics;
mod name;
mod subscription;

pub use bus::Bus;
pub use config::{Capacity, Config};
pub use engine::{Engine, Memory, Sent};
pub use error::{Error, Result};
pub use subscription::Subscription;
pub use throng_core::Kind;
