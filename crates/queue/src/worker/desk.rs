//! Where a worker hears what it is asked, and tells what its tasks do.

use std::collections::HashSet;

use tokio::sync::mpsc;

use super::ask::Ask;
use crate::{TaskId, celery::event::Teller};

/// A worker's side of the remote control.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) teller: Teller,
    revoked: HashSet<TaskId>,
}

impl Desk {
    pub(crate) fn new(asks: mpsc::Receiver<Ask>, teller: Teller) -> Self {
        Self { asks, teller, revoked: HashSet::new() }
    }

    /// Remembers that these are not to start.
    pub(super) fn revoke(&mut self, ids: &[TaskId]) {
        if self.revoked.len() > MOST_REVOKED {
            self.revoked.clear();
        }
        self.revoked.extend(ids.iter().cloned());
    }

    /// Whether it was told that this is not to start.
    pub(super) fn is_revoked(&self, id: &TaskId) -> bool {
        self.revoked.contains(id)
    }
}

/// Ids of tasks that are not to start; Celery remembers some too, and for a while.
const MOST_REVOKED: usize = 50_000;
