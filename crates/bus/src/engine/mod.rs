//! What a bus rides on: the trait that every engine implements, and the schemes that open one.

mod memory;

use async_trait::async_trait;
use bytes::Bytes;
use throng_core::EngineUrl;

use crate::{Bus, Config, Result};

pub use memory::Memory;

/// An engine. Names are checked before they get here, and capacities come with each call.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The engine's name, as in its URL.
    fn name(&self) -> &'static str;

    /// Whether other processes can be on it.
    fn is_shared(&self) -> bool;

    /// Puts `message` at the end of `channel`, or
    /// [`ChannelFull`](crate::Error::ChannelFull) when it holds `capacity` messages already.
    async fn send(&self, channel: &str, message: Bytes, capacity: usize) -> Result<()>;

    /// Takes the first message of `channel`, waiting for one. Dropping the future takes none.
    async fn receive(&self, channel: &str) -> Result<Bytes>;

    /// Makes `channel` a member of `group` for `expiry_ms` from now. `None` means until
    /// [`leave`](Self::leave), however long that takes, unless the process dies.
    async fn group_add(&self, group: &str, channel: &str, expiry_ms: Option<u64>) -> Result<()>;

    /// Takes `channel` out of `group`.
    async fn group_discard(&self, group: &str, channel: &str) -> Result<()>;

    /// Puts `message` into every member of `group` that has room by `config`.
    async fn group_send(&self, group: &str, message: Bytes, config: &Config) -> Result<Sent>;

    /// Takes `channel` out of `group` and forgets what is in it, without making the caller wait:
    /// this is called from `drop`.
    fn leave(&self, group: &str, channel: &str);
}

/// What became of a message to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a dropped message is gone"]
pub struct Sent {
    /// Members whose channel took it.
    pub delivered: usize,
    /// Members whose channel was full.
    pub dropped: usize,
}

pub(crate) async fn open(url: &str, config: Config) -> Result<Bus> {
    let url = EngineUrl::parse(url)?;
    match url.scheme() {
        "memory" => {
            url.options().finish()?;
            Ok(config.memory())
        }
        _ => Err(url.unknown_scheme("bus", &["memory"]).into()),
    }
}
