//! A channel of its own in a group, for whoever watches: one page's live events.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{Engine, Result, metrics};

/// Receives what is sent to a group. Leaves the group when dropped.
pub struct Subscription {
    engine: Arc<dyn Engine>,
    group: String,
    channel: String,
}

impl Subscription {
    pub(crate) fn new(engine: Arc<dyn Engine>, group: &str, channel: String) -> Self {
        metrics::subscribed(1.0);
        Self { engine, group: group.to_owned(), channel }
    }

    /// The channel, to which anyone may send directly too.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Waits for the next message. Cancel safe.
    ///
    /// A receiver that is slower than the senders misses the messages beyond its channel's
    /// capacity; the sender is told how many were dropped.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine) when the engine cannot be reached; call again.
    pub async fn next(&mut self) -> Result<Bytes> {
        let message = self.engine.receive(&self.channel).await?;
        metrics::received();
        Ok(message)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.engine.leave(&self.group, &self.channel);
        metrics::subscribed(-1.0);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("group", &self.group)
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}
