//! Telling the other processes what this one writes, and hearing what they do.

use tokio::sync::broadcast;

use crate::{
    Cache,
    change::{Change, What},
    core::{Core, TAG},
    engine::Heard,
    namespace::NAMESPACE,
};

/// Hears the changes that this process makes. One that falls over 1,024 changes behind loses the
/// oldest.
#[derive(Debug)]
pub struct Changes {
    heard: broadcast::Receiver<Change>,
}

impl Cache {
    /// Hears what this process writes to the shared engine from now on. Nothing comes from a cache
    /// that has none.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes { heard: self.core().tell.subscribe() }
    }

    /// Takes in a change that another process made: the copy of it in this one is forgotten, and a
    /// load that is under way for it comes too late.
    pub fn hear(&self, change: &Change) {
        let core = self.core();
        if change.from == core.id {
            return;
        }
        match &change.what {
            What::Key(key) => core.forget(key),
            What::Tag { name, generation } => core.tags.hear(name, *generation),
            What::Namespace { path, generation } => core.namespaces.hear(path, *generation),
        }
    }
}

impl Changes {
    /// Waits for the next change; `None` when the cache is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            match self.heard.recv().await {
                Ok(change) => return Some(change),
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "{lost} changes of the cache were not told in time");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Core {
    /// Takes in what the engine itself tells.
    pub(crate) fn heard(&self, change: Heard<'_>) {
        let Heard::Key(key) = change else {
            self.doubts.add_all();
            self.near.clear();
            self.namespaces.doubt_all();
            return;
        };
        // Of a tag or a namespace the engine tells that there is another generation, not which.
        if let Some(name) = key.strip_prefix(TAG) {
            self.tags.expire(name);
        } else if let Some(path) = key.strip_prefix(NAMESPACE) {
            self.doubts.add(path);
            self.namespaces.doubt(path);
        } else {
            self.forget(key);
        }
    }

    /// Forgets the copy of what others have written. A load that is under way for it comes too late,
    /// and so does the copy of what this process is writing.
    fn forget(&self, key: &str) {
        self.doubts.add(key);
        self.near.remove(key);
    }

    pub(crate) fn tell_key(&self, key: &str) {
        self.tell(|| What::Key(key.to_owned()));
    }

    pub(crate) fn tell_tag(&self, name: &str, generation: u64) {
        self.tell(|| What::Tag { name: name.to_owned(), generation });
    }

    pub(crate) fn tell_namespace(&self, path: &str, generation: u64) {
        self.tell(|| What::Namespace { path: path.to_owned(), generation });
    }

    fn tell(&self, what: impl FnOnce() -> What) {
        if self.tell.receiver_count() > 0 {
            let _ = self.tell.send(Change { from: self.id, what: what() });
        }
    }
}
