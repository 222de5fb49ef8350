//! Buffered counters: many increments of a key become one write.

use std::{
    collections::BTreeMap,
    fmt, mem,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use throng_core::Clock;
use tokio::{
    sync::{Mutex as Turn, oneshot, watch},
    task::JoinSet,
};

use crate::{Delivery, Error, Message, Outcome, Policy, Queue, Result, Worker};

/// Counts what happens far more often than it can be written, such as views of a page.
///
/// Increments that meet within 10 ms in one process leave it as one task; tasks that meet in a
/// worker are one call of [`Worker::on_counts`]. Once [`add`](Self::add) has returned, the increment
/// is as durable as the queue is: a process that dies loses only what it has not acknowledged. A
/// worker that dies between its write and the end of its tasks counts them again: counts are never
/// too low, and after a crash may be too high. Cheap to clone.
///
/// [`note`](Self::note) does not wait: what is noted leaves as one task a second, so that counting
/// costs neither a wait nor a statement. A process that is killed loses its last second.
#[derive(Clone)]
pub struct Counters {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Queue,
    name: String,
    to: String,
    pending: Mutex<Pending>,
    noted: Mutex<Noted>,
    /// Whoever has it sends what was noted.
    turn: Turn<()>,
    flushes: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Pending {
    counts: BTreeMap<String, i64>,
    /// Who waits for these counts to be durable.
    told: Option<watch::Sender<Told>>,
}

#[derive(Default)]
struct Noted {
    counts: BTreeMap<String, i64>,
    /// Whether somebody will send them.
    is_awaited: bool,
}

/// Whether what was counted is durable, once that is known.
type Told = Option<Result<(), Arc<Error>>>;

impl Counters {
    /// Counters whose increments are tasks called `name` in the queue `to`.
    #[must_use]
    pub fn new(queue: Queue, name: impl Into<String>, to: impl Into<String>) -> Self {
        let (pending, noted, turn, flushes) = Default::default();
        let (name, to) = (name.into(), to.into());
        let shared = Shared { queue, name, to, pending, noted, turn, flushes };
        Self { shared: Arc::new(shared) }
    }

    /// Adds `by` to the counter `key`; returns when that is durable.
    ///
    /// # Errors
    /// When the engine does not answer: then it may or may not be counted.
    pub async fn add(&self, key: impl Into<String>, by: i64) -> Result<()> {
        let mut told = self.join(key.into(), by);
        let outcome = told.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        match outcome {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(error))) => Err(self.failed(error.to_string())),
            _ => Err(self.failed("the counters were dropped".to_owned())),
        }
    }

    /// Adds `by` to the counter `key` some time in the next seconds, without waiting. While the
    /// engine does not answer, what was noted is kept in memory: 100,000 keys of it; the increments
    /// of more are dropped.
    pub fn note(&self, key: impl Into<String>, by: i64) {
        let key = key.into();
        let mut noted = self.shared.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.counts.len() >= MOST_NOTED && !noted.counts.contains_key(&key) {
            let name = &self.shared.name;
            tracing::warn!("dropping an increment of `{name}`: {MOST_NOTED} others are not sent");
            return;
        }
        let count = noted.counts.entry(key).or_default();
        *count = count.saturating_add(by);
        if mem::replace(&mut noted.is_awaited, true) {
            return;
        }
        drop(noted);
        self.spawn(send_noted(Arc::downgrade(&self.shared), self.shared.queue.clock().clone()));
    }

    /// Sends what was noted, and returns once it is durable: before a process ends.
    ///
    /// # Errors
    /// When the engine does not answer; then it is sent as soon as it does, if the process lives.
    pub async fn settle(&self) -> Result<()> {
        // What was taken out to be sent is sent, also when nobody waits for it any more.
        let (tell, told) = oneshot::channel();
        let counters = self.clone();
        self.spawn(async move { drop(tell.send(counters.send_all_noted().await)) });
        told.await.unwrap_or_else(|_| Err(self.failed("it was stopped".to_owned())))
    }

    async fn send_all_noted(&self) -> Result<()> {
        let _turn = self.shared.turn.lock().await;
        let mut settled = Ok(());
        for (counts, message) in self.shared.take_noted()? {
            if settled.is_ok() {
                settled = self.shared.queue.push(message).await.map(drop);
            }
            if settled.is_err() {
                counts.into_iter().for_each(|(key, by)| self.note(key, by));
            }
        }
        settled
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut flushes = self.shared.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        while flushes.try_join_next().is_some() {}
        flushes.spawn(work);
    }

    fn join(&self, key: String, by: i64) -> watch::Receiver<Told> {
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
        self.spawn(async move {
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

impl Shared {
    /// What was noted, as messages that are no others when they are pushed again.
    fn take_noted(&self) -> Result<Vec<(BTreeMap<String, i64>, Message)>> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = mem::take(&mut noted.counts);
        drop(noted);
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let beyond = rest.keys().nth(MOST_KEYS).cloned();
            let after = beyond.map(|key| rest.split_off(&key)).unwrap_or_default();
            let message = Message::new(&*self.name, &rest)?.queue(&*self.to).ignore_result();
            messages.push((mem::replace(&mut rest, after), message));
        }
        Ok(messages)
    }
}

/// Sends what is noted, a task a second, until there is nothing more.
async fn send_noted(shared: Weak<Shared>, clock: Clock) {
    loop {
        clock.sleep(EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        let turn = shared.turn.lock().await;
        let messages = shared.take_noted().unwrap_or_else(|error| {
            tracing::error!(%error, "increments of `{}` are no JSON: {error}", shared.name);
            Vec::new()
        });
        for (_, message) in messages {
            let mut is_told = false;
            // Pushed again under its id, so that it counts once whatever became of it before.
            while let Err(error) = shared.queue.push(message.clone()).await {
                if !mem::replace(&mut is_told, true) {
                    let name = &shared.name;
                    tracing::warn!(%error, "cannot push increments of `{name}` yet: {error}");
                }
                clock.sleep(EVERY).await;
            }
        }
        drop(turn);
        let mut noted = shared.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.is_awaited = !noted.counts.is_empty();
        if !noted.is_awaited {
            return;
        }
    }
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
/// How often what was noted leaves the process.
const EVERY: Duration = Duration::from_secs(1);
/// Keys that are noted and not sent yet.
const MOST_NOTED: usize = 100_000;
/// How long tasks wait for others in a worker.
const TOGETHER: Duration = Duration::from_millis(20);
/// Keys in one task.
const MOST_KEYS: usize = 1000;
