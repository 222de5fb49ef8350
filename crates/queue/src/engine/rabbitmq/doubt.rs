//! Doubt about a node: whether what it hands out has run already, or comes another way as well.
//!
//! It rises when the node is lost or does not confirm in time. While it stands, what comes from the
//! node is looked up in the ledger first. It ends when the node's queues have been seen empty.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

#[derive(Debug, Default)]
pub(super) struct Doubt(Mutex<Option<Instant>>);

impl Doubt {
    pub(super) fn raise(&self) {
        *self.lock() = Some(Instant::now());
    }

    pub(super) fn is_raised(&self) -> bool {
        self.lock().is_some_and(|since| since.elapsed() < LONGEST)
    }

    /// Its queues were seen empty. What is still under way may come a little later.
    pub(super) fn settle(&self) {
        let mut since = self.lock();
        if since.is_some_and(|since| since.elapsed() > SHORTEST) {
            *since = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SHORTEST: Duration = Duration::from_secs(30);
/// Queues that are never empty cost the ledger's time no longer than this.
const LONGEST: Duration = Duration::from_secs(600);
