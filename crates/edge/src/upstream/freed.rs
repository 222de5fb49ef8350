//! Telling those who wait for a place at a server that there may be one.

use tokio::sync::{Notify, futures::Notified};

/// Where requests wait that no server had a place for.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    /// Requests that any server will do for: a place that is given back is for one of them.
    anywhere: Notify,
    /// Those that must not go where they have been. The place may be just there, so all of them look,
    /// and none of them takes the word from one who could use it.
    elsewhere: Notify,
}

impl Freed {
    /// A server has a place again.
    pub(crate) fn tell(&self) {
        self.anywhere.notify_one();
        self.elsewhere.notify_waiters();
    }

    /// There are other servers.
    pub(crate) fn tell_all(&self) {
        self.anywhere.notify_waiters();
        self.elsewhere.notify_waiters();
    }

    /// Waits for such a word. `has_tried` is whether there are servers that it is not to go to.
    pub(crate) fn told(&self, has_tried: bool) -> Notified<'_> {
        if has_tried { self.elsewhere.notified() } else { self.anywhere.notified() }
    }
}
