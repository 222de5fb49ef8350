//! Buffered counters: many increments of a key become one write.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use crate::{Delivery, Error, Message, Outcome, Policy, Queue, Result, Worker};

/// Counts what happens far more often than it can be written, such as views of a page.
///
/// Increments that meet within 10 ms in one process leave it as one task; tasks that meet in a
/// worker are one call of [`Worker::on_counts`]. Once [`add`](Self::add) has returned, the increment
/// is as durable as the queue is: a process that dies loses only what it has not acknowledged. A
/// worker that dies between its write and the end of its tasks counts them again: counts are never
/// too low, and after a crash may be too high. Cheap to clone.
#[derive(Clone)]
pub struct Counters {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Queue,
    name: String,
    to: String,
    pending: Mutex<Pending>,
    flushes: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Pending {
    counts: BTreeMap<String, i64>,
    /// Who waits for these counts to be durable.
    told: Option<watch::Sender<Told>>,
}

/// Whether what was counted is durable, once that is known.
type Told = Option<Result<(), Arc<Error>>>;

impl Counters {
    /// Counters whose increments are tasks called `name` in the queue `to`.
    #[must_use]
    pub fn new(queue: Queue, name: impl Into<String>, to: impl Into<String>) -> Self {
        let (pending, flushes) = Default::default();
        let shared = Shared { queue, name: name.into(), to: to.into(), pending, flushes };
        Self { shared: Arc::new(shared) }
    }

    /// Adds `by` to the counter `key`; returns when that is durable.
    ///
    /// # Errors
    /// When the engine does not answer: then it may or may not be counted.
    pub async fn add(&self, key: impl Into<String>, by: i64) -> Result<()> {
        let mut told = self.note(key.into(), by);
        let outcome = told.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        match outcome {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(error))) => Err(self.failed(error.to_string())),
            _ => Err(self.failed("the counters were dropped".to_owned())),
        }
    }

    fn note(&self, key: String, by: i64) -> watch::Receiver<Told> {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let count = pending.counts.entry(key).or_default();
        *count = count.saturating_add(by);
        if let Some(told) = &pending.told
            && pending.counts.len() <= MOST_KEYS
        {
            return told.subscribe();
        }
        // The first of a batch has it sent; one with too many keys is followed by another.
        let (tell, told) = watch::channel(None);
        let full = pending.told.replace(tell);
        let counts = full.map(|full| (mem::take(&mut pending.counts), full));
        drop(pending);
        let shared = self.shared.clone();
        let mut flushes = self.shared.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        while flushes.try_join_next().is_some() {}
        flushes.spawn(async move {
            if let Some((counts, told)) = counts {
                send(&shared.queue, &shared.name, &shared.to, counts, told).await;
            }
            tokio::time::sleep(MEET).await;
            let (counts, told) = {
                let mut pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
                (mem::take(&mut pending.counts), pending.told.take())
            };
            if let Some(told) = told {
                send(&shared.queue, &shared.name, &shared.to, counts, told).await;
            }
        });
        told
    }

    fn failed(&self, source: String) -> Error {
        let engine = self.shared.queue.engine_name();
        Error::Engine { engine, doing: "push counts", source: source.into() }
    }
}

async fn send(
    queue: &Queue,
    name: &str,
    to: &str,
    counts: BTreeMap<String, i64>,
    told: watch::Sender<Told>,
) {
    let pushed = async {
        let message = Message::new(name, &counts)?.queue(to).ignore_result();
        queue.push(message).await.map(drop)
    };
    told.send_replace(Some(pushed.await.map_err(Arc::new)));
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Worker {
    /// Writes what [`Counters`] called `name` have counted: `write` gets the sums of all tasks that
    /// meet here within 20 ms, each key once.
    #[must_use]
    pub fn on_counts<F, O>(
        self,
        name: &str,
        policy: Policy,
        write: impl Fn(BTreeMap<String, i64>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome> + Send + 'static,
    {
        self.on_batch(name, policy, TOGETHER, move |all| {
            let work = sum(&all).map(&write);
            async move {
                match work {
                    Ok(work) => work.await.into(),
                    Err(error) => error.into(),
                }
            }
        })
    }
}

fn sum(all: &[Delivery]) -> Result<BTreeMap<String, i64>> {
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for delivery in all {
        for (key, by) in delivery.arguments::<BTreeMap<String, i64>>()? {
            let sum = sums.entry(key).or_default();
            *sum = sum.saturating_add(by);
        }
    }
    Ok(sums)
}

/// How long increments wait for others in the process that counts.
const MEET: Duration = Duration::from_millis(10);
/// How long tasks wait for others in a worker.
const TOGETHER: Duration = Duration::from_millis(20);
/// Keys in one task.
const MOST_KEYS: usize = 1000;
