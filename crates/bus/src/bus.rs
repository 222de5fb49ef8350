//! The handle: checks names, counts, and hands on to the engine.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{Config, Engine, Error, Result, Sent, Subscription, metrics, name};

/// The bus. Clones share one engine.
#[derive(Clone)]
pub struct Bus {
    engine: Arc<dyn Engine>,
    config: Arc<Config>,
    /// Names this process in the channels that it makes.
    process: Arc<str>,
}

pub(crate) fn new(engine: impl Engine, config: Config) -> Bus {
    metrics::describe();
    let process = Arc::from(random_hex());
    Bus { engine: Arc::new(engine), config: Arc::new(config), process }
}

impl Bus {
    /// Opens the embedded engine: in this process, nothing to install.
    #[must_use]
    pub fn memory() -> Self {
        Config::default().memory()
    }

    /// Opens the engine that `url` names: `memory:`.
    ///
    /// # Errors
    /// [`Error::Url`] when the URL is wrong or names an engine that this build does not open.
    pub async fn open(url: &str) -> Result<Self> {
        Config::default().open(url).await
    }

    /// Uses an engine of your own; it must pass [`conformance::exercise`](crate::conformance).
    #[must_use]
    pub fn with_engine(engine: impl Engine) -> Self {
        Config::default().with_engine(engine)
    }

    /// The name of the engine: `memory`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        self.engine.name()
    }

    /// Whether other processes that open the same URL are on the same bus.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    /// Puts `message` at the end of `channel`.
    ///
    /// # Errors
    /// [`Error::ChannelFull`], and then nothing was sent; [`Error::Name`]; [`Error::Engine`].
    pub async fn send(&self, channel: &str, message: impl Into<Bytes> + Send) -> Result<()> {
        name::check_channel(channel)?;
        let capacity = self.config.capacity_of(channel);
        let sent = self.engine.send(channel, message.into(), capacity).await;
        match &sent {
            Ok(()) => metrics::sent(1),
            Err(Error::ChannelFull { .. }) => metrics::dropped(1),
            Err(_) => {}
        }
        sent
    }

    /// Waits for the next message of `channel`, which is then this caller's alone.
    ///
    /// Cancel safe: a call that is dropped takes no message.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Engine`].
    pub async fn receive(&self, channel: &str) -> Result<Bytes> {
        name::check_channel(channel)?;
        let message = self.engine.receive(channel).await?;
        metrics::received();
        Ok(message)
    }

    /// A fresh channel for one receiver in this process: `prefix.<process>!<random>`.
    ///
    /// # Errors
    /// [`Error::Name`] when `prefix` is not a name or is over 33 characters.
    pub fn new_channel(&self, prefix: &str) -> Result<String> {
        let channel = format!("{prefix}.{}!{}", self.process, random_hex());
        name::check_channel(&channel)?;
        Ok(channel)
    }

    /// Makes `channel` a member of `group`, or renews its membership.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Engine`].
    pub async fn group_add(&self, group: &str, channel: &str) -> Result<()> {
        name::check_group(group)?;
        name::check_channel(channel)?;
        self.engine.group_add(group, channel, Some(self.config.group_expiry_ms)).await
    }

    /// Takes `channel` out of `group`. Not being in it is fine.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Engine`].
    pub async fn group_discard(&self, group: &str, channel: &str) -> Result<()> {
        name::check_group(group)?;
        name::check_channel(channel)?;
        self.engine.group_discard(group, channel).await
    }

    /// Sends `message` to every member of `group`; a full member misses it and is counted.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Engine`]. A group without members is no error.
    pub async fn group_send(&self, group: &str, message: impl Into<Bytes> + Send) -> Result<Sent> {
        name::check_group(group)?;
        let sent = self.engine.group_send(group, message.into(), &self.config).await?;
        metrics::sent(sent.delivered);
        metrics::dropped(sent.dropped);
        Ok(sent)
    }

    /// A channel of its own in `group`, which leaves the group when it is dropped.
    ///
    /// # Errors
    /// [`Error::Name`]; [`Error::Engine`].
    pub async fn subscribe(&self, group: &str) -> Result<Subscription> {
        name::check_group(group)?;
        let channel = self.new_channel("specific")?;
        let subscription = Subscription::new(Arc::clone(&self.engine), group, channel);
        self.engine.group_add(group, subscription.channel(), None).await?;
        Ok(subscription)
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("engine", &self.engine.name()).finish_non_exhaustive()
    }
}

/// 32 hex digits that nobody else has.
fn random_hex() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system gives random bytes once it has started");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
