//! The servers of one database, and what all handles of it share.

use std::sync::Arc;

use sea_orm::DbBackend;
use throng_core::Clock;
use tokio::sync::Notify;

use crate::{
    classify::{Classifier, Verdict},
    fleet::Fleet,
    pool::Pool,
};

/// The servers of one database and what all handles share.
pub(crate) struct Cluster {
    pub(crate) servers: Servers,
    pub(crate) backend: DbBackend,
    pub(crate) classifier: Classifier,
    pub(crate) has_returning: bool,
    pub(crate) name: String,
    pub(crate) clock: Clock,
    /// Wakes the outbox relay of this process.
    pub(crate) outbox: Notify,
}

/// Where the data is.
pub(crate) enum Servers {
    /// One file, whose readers see every commit.
    File { writer: Arc<Pool>, readers: Arc<Pool> },
    /// A primary and its replicas.
    Fleet(Arc<Fleet>),
}

impl Cluster {
    pub(crate) fn backend(&self) -> DbBackend {
        self.backend
    }

    pub(crate) fn reads_only(&self, sql: &str) -> bool {
        self.classifier.classify(sql) == Verdict::Read
    }

    pub(crate) fn has_returning(&self) -> bool {
        self.has_returning
    }

    /// The URL, secrets hidden.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
