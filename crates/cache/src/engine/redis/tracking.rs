//! What others change on the server, as it tells by itself: Redis' client-side caching.
//!
//! The connection is told of every key that is written and begins as the cache's keys do (`BCAST`).
//! To be told only of what it has read would be less, but then what a process has written itself,
//! and keeps, would be forgotten by nobody. Its own writes come back to it as well, because they are
//! scripts, of which the server does not know whose they are: what was stored is asked for once more.

use std::sync::{Arc, Mutex, PoisonError};

use ::redis::{Cmd, PushInfo, PushKind, Value};

use crate::engine::{Heard, Listener};

/// Whoever wants to hear of changes, and of which. Clones share the listeners.
#[derive(Clone)]
pub(super) struct Tracking {
    /// What the server's names of keys begin with, before the cache's.
    prefix: Arc<str>,
    listeners: Arc<Mutex<Vec<Listener>>>,
}

impl Tracking {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), listeners: Arc::default() }
    }

    pub(super) fn listen(&self, listener: Listener) {
        self.listeners().push(listener);
    }

    /// What a new connection asks the server for.
    pub(super) fn command(&self) -> Cmd {
        let mut command = ::redis::cmd("CLIENT");
        command.arg("TRACKING").arg("ON").arg("BCAST");
        if !self.prefix.is_empty() {
            command.arg("PREFIX").arg(&*self.prefix);
        }
        command
    }

    /// Changes may have been missed: there was no connection.
    pub(super) fn doubt_all(&self) {
        self.tell(Heard::Everything);
    }

    pub(super) fn hear(&self, push: &PushInfo) {
        match push.kind {
            PushKind::Invalidate => {}
            // Nobody tells any more; whoever asks next finds that out and connects again.
            PushKind::Disconnection => return self.doubt_all(),
            _ => return,
        }
        // A list of keys, or nothing where the whole database was emptied.
        let Some(Value::Array(keys)) = push.data.first() else {
            self.doubt_all();
            return;
        };
        for key in keys {
            let Value::BulkString(key) = key else { continue };
            let key = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(&*self.prefix));
            if let Some(key) = key.filter(|key| !key.ends_with(LEASE)) {
                self.tell(Heard::Key(key));
            }
        }
    }

    fn tell(&self, heard: Heard<'_>) {
        self.listeners().iter().for_each(|listener| listener(heard));
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Vec<Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Tracking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracking").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What the key of a lease ends with.
const LEASE: &str = ".lease";
