//! Waking workers of other processes on PostgreSQL: a push notifies, an idle worker listens.
//!
//! One connection a process, made when the first worker is idle. When it is lost, workers find tasks
//! by looking, as on any database, until there is another.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::DbBackend;
use throng_db::Db;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::JoinSet,
};

use super::schema as s;
use crate::backoff;

/// A process's ear on the notifications of its database.
pub(super) struct Ear {
    db: Db,
    /// The queues that were pushed to.
    told: broadcast::Sender<Arc<str>>,
    /// How many processes listen.
    listeners: Arc<AtomicU64>,
    /// What listens, once somebody wants to hear; ends with the engine.
    listening: Mutex<JoinSet<()>>,
}

impl Ear {
    pub(super) fn of(db: &Db) -> Option<Arc<Self>> {
        let has_one = db.get_database_backend() == DbBackend::Postgres;
        has_one.then(|| {
            let (told, _) = broadcast::channel(UNHEARD);
            let (listeners, listening) = Default::default();
            Arc::new(Self { db: db.clone(), told, listeners, listening })
        })
    }

    /// Returns when one of the queues was pushed to.
    pub(super) async fn hear(&self, queues: &[String]) {
        let mut told = self.told.subscribe();
        {
            let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
            if listening.is_empty() {
                let (db, told) = (self.db.clone(), self.told.clone());
                listening.spawn(listen(db, told, self.listeners.clone()));
            }
        }
        loop {
            match told.recv().await {
                Ok(queue) if queues.iter().any(|name| **name == *queue) => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
        // All idle workers hear of it and one gets it. So that they do not all ask for it at once,
        // they come one after the other: about one in each millisecond.
        let spread = self.listeners.load(Ordering::Relaxed).clamp(1, MOST_SPREAD);
        let after_us = backoff::dice() % (spread * 1000) / spread * (spread - 1);
        tokio::time::sleep(Duration::from_micros(after_us)).await;
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear").finish_non_exhaustive()
    }
}

async fn listen(db: Db, told: broadcast::Sender<Arc<str>>, listeners: Arc<AtomicU64>) {
    let mut was_refused = false;
    loop {
        match db.listen(s::TASK).await {
            Ok(mut listener) => {
                was_refused = false;
                // What was pushed before is found by looking.
                loop {
                    if let Ok(count) = listener.count().await {
                        listeners.store(count, Ordering::Relaxed);
                    }
                    let heard = hear_some(&mut listener, &told).await;
                    if let Err(error) = heard {
                        tracing::info!(error = ?error, "no longer hears of pushes to the queue and looks for them: {error}");
                        break;
                    }
                }
            }
            Err(error) if !was_refused => {
                was_refused = true;
                tracing::info!(error = ?error, "cannot hear of pushes to the queue and looks for them: {error}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Passes on what is notified until it is quiet for a while.
async fn hear_some(
    listener: &mut throng_db::Listener,
    told: &broadcast::Sender<Arc<str>>,
) -> Result<(), sea_orm::DbErr> {
    while let Some(queue) = listener.next().await? {
        // Nobody may be idle.
        let _ = told.send(queue.into());
    }
    Ok(())
}

/// Notifications that an idle worker may be behind.
const UNHEARD: usize = 256;
const MOST_SPREAD: u64 = 50;
const AGAIN: Duration = Duration::from_secs(1);
