//! The tasks that the edge has spawned, so that somebody waits for them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use throng_core::Clock;
use tokio::task::JoinSet;

/// Owns tasks. Clones own the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
}

impl Tasks {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.spawn(work);
        // Two out for one in, so that what is over never piles up.
        while let Some(over) = set.try_join_next() {
            report(over);
        }
    }

    /// Waits for all of them, up to `limit`, then stops the rest.
    pub(crate) async fn finish(&self, clock: &Clock, limit: Duration) {
        let mut set = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            while let Some(over) = set.join_next().await {
                report(over);
            }
        };
        if clock.timeout(limit, all).await.is_none() {
            set.shutdown().await;
        }
    }
}

fn report(over: Result<(), tokio::task::JoinError>) {
    if let Err(error) = over
        && error.is_panic()
    {
        tracing::error!("a task of the edge panicked: {error}");
    }
}
