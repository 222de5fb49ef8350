//! One fetch that others wait for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

/// A fetch under way. Whoever wants the same waits for it.
#[derive(Debug)]
pub(super) struct Flight {
    /// What of the requests must be equal for them to want the same; see `selector` in `look.rs`.
    /// Nobody waits for a fetch without one.
    selector: Option<String>,
    is_revoked: AtomicBool,
    landed: watch::Sender<Landed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landed {
    NotYet,
    Answered,
    Failed,
}

/// Waits for somebody else's fetch of the same page.
#[derive(Debug)]
#[must_use]
pub struct Wait {
    landed: watch::Receiver<Landed>,
}

/// How a [`Wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Ask the cache again.
    Again,
    /// The back end failed and there is nothing to serve in its place.
    Failed,
}

impl Flight {
    pub(super) fn new(selector: String) -> Arc<Self> {
        Self::of(Some(selector))
    }

    /// One that nobody waits for, and that a purge finds.
    pub(super) fn alone() -> Arc<Self> {
        Self::of(None)
    }

    fn of(selector: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            selector,
            is_revoked: AtomicBool::new(false),
            landed: watch::Sender::new(Landed::NotYet),
        })
    }

    pub(super) fn selects(&self, selector: &str) -> bool {
        self.selector.as_deref() == Some(selector)
    }

    pub(super) fn is_alone(&self) -> bool {
        self.selector.is_none()
    }

    pub(super) fn wait(&self) -> Wait {
        Wait { landed: self.landed.subscribe() }
    }

    /// What it brings may be given to those who wait already, but not stored.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    pub(super) fn answered(&self) {
        self.landed.send_if_modified(|landed| {
            let is_first = *landed == Landed::NotYet;
            if is_first {
                *landed = Landed::Answered;
            }
            is_first
        });
    }

    pub(super) fn failed(&self) {
        self.landed.send_replace(Landed::Failed);
    }
}

impl Wait {
    /// Returns as soon as the fetch has a head, or has failed. Cancel safe.
    pub async fn over(mut self) -> Woken {
        match self.landed.wait_for(|landed| *landed != Landed::NotYet).await {
            Ok(landed) if *landed == Landed::Failed => Woken::Failed,
            // Whoever fetched gave up without a word: somebody else must.
            Ok(_) | Err(_) => Woken::Again,
        }
    }
}
