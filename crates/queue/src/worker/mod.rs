//! The worker: leases tasks, runs their handlers, and says how they ended.

use std::{
    any::Any, collections::HashMap, future::Future, panic::AssertUnwindSafe, sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use throng_core::Shutdown;
use tokio::task::JoinSet;

use crate::{DjangoBeat, Error, Message, Policy, Queue, Result, Schedule, Task, TaskId};

pub(crate) mod ask;
mod batch;
mod course;
mod delivery;
pub(crate) mod desk;
mod follow;
mod one;
mod rounds;

pub use delivery::{Delivery, Outcome};

use crate::{celery::Entered, signal::Receivers};

/// Runs tasks. Built up by [`on`](Self::on) and its like, then [`run`](Self::run).
#[derive(Debug)]
pub struct Worker {
    pub(crate) queue: Queue,
    handlers: HashMap<String, Handler>,
    schedules: Vec<Schedule>,
    beats: Vec<DjangoBeat>,
    pub(crate) receivers: Receivers,
    config: WorkerConfig,
}

/// What a worker takes on.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The queues that it serves. Defaults to `default`.
    pub queues: Vec<String>,
    /// Only tasks whose name matches one of these; `*` stands for any text. Defaults to all.
    pub tasks: Vec<String>,
    /// No tasks whose name matches one of these. Defaults to none.
    pub not_tasks: Vec<String>,
    /// How many tasks run at once. Defaults to 16.
    pub concurrency: usize,
    /// How many more may be leased ahead while tasks are short; long ones are never leased ahead.
    /// Defaults to 256.
    pub prefetch: usize,
    /// How long a lease lasts without a heartbeat: after a crash its tasks run again this much
    /// later, and at most two seconds more. Defaults to 6 s.
    pub lease: Duration,
    /// A task that this many workers did not survive is a dead letter. Defaults to 3.
    pub max_crashes: u32,
    /// How long running tasks may take to finish at shutdown before they are given back.
    /// Defaults to 30 s.
    pub drain: Duration,
    /// How long an idle worker waits before it looks for tasks of other processes; those of its
    /// own process wake it at once. Defaults to 250 ms.
    pub poll: Duration,
    /// What the worker calls itself in records. Defaults to a random name.
    pub name: String,
    /// Whether it tells Celery's listeners from the start what its tasks do, on engines that Celery
    /// shares; else it does once one of them, such as Flower, asks for it. Defaults to false.
    pub tells_events: bool,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            queues: vec![crate::DEFAULT_QUEUE.into()],
            tasks: Vec::new(),
            not_tasks: Vec::new(),
            concurrency: 16,
            prefetch: 256,
            lease: Duration::from_secs(6),
            max_crashes: 3,
            drain: Duration::from_secs(30),
            poll: Duration::from_millis(250),
            name: format!("{}@{}", &TaskId::random().as_str()[..8], std::process::id()),
            tells_events: false,
        }
    }
}

/// What a worker did, told when it has stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Runs that ended, however they ended.
    pub ran: u64,
    /// Tasks that were given back unfinished at shutdown.
    pub given_back: u64,
}

impl Worker {
    /// A worker of `queue` that knows no task yet.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        let config = WorkerConfig::default();
        let (handlers, schedules, beats, receivers) = Default::default();
        Self { queue, handlers, schedules, beats, receivers, config }
    }

    /// Takes on what `config` says rather than the default.
    #[must_use]
    pub fn config(self, config: WorkerConfig) -> Self {
        Self { config, ..self }
    }

    /// Runs tasks called `name` with `handler`. A panic in it is caught and counts as a failure.
    #[must_use]
    pub fn on<F, O>(
        mut self,
        name: impl Into<String>,
        policy: Policy,
        handler: impl Fn(Delivery) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome> + Send + 'static,
    {
        let run: Run = Arc::new(move |delivery| {
            // The call itself is inside, so that a panic in it is caught with the rest.
            let begun = std::panic::catch_unwind(AssertUnwindSafe(|| handler(delivery)));
            match begun {
                Ok(run) => AssertUnwindSafe(run.map(Into::into)).catch_unwind().boxed(),
                Err(panic) => std::future::ready(Err(panic)).boxed(),
            }
        });
        self.handlers.insert(name.into(), Handler { policy, run, key: None });
        self
    }

    /// Runs tasks of type `T`; arguments that are not a `T` make a dead letter at once.
    #[must_use]
    pub fn on_task<T, F, O>(
        self,
        handler: impl Fn(T, Delivery) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Task,
        F: Future<Output = O> + Send + 'static,
        O: Into<Outcome> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let worker = self.on(T::NAME, T::policy(), move |delivery| {
            let handler = handler.clone();
            async move {
                match delivery.arguments::<T>() {
                    Ok(task) => handler(task, delivery).await.into(),
                    Err(error) => error.into(),
                }
            }
        });
        worker.rate_key(T::NAME, |message| message.arguments::<T>().ok()?.rate_key())
    }

    /// How a message of the tasks called `name`, which are known by now, tells the key whose turn it
    /// takes under [`Policy::key_rate`]; none for no such limit. Typed tasks have
    /// [`Task::rate_key`].
    #[must_use]
    pub fn rate_key(
        mut self,
        name: &str,
        key: impl Fn(&Message) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        if let Some(handler) = self.handlers.get_mut(name) {
            handler.key = Some(Arc::new(key));
        }
        self
    }

    /// Runs tasks called `name` with a handler that blocks, each on a thread of its own. A hard
    /// limit can not stop such a thread: the task counts as failed and the thread runs on.
    #[must_use]
    pub fn on_blocking<O>(
        self,
        name: impl Into<String>,
        policy: Policy,
        handler: impl Fn(Delivery) -> O + Send + Sync + 'static,
    ) -> Self
    where
        O: Into<Outcome> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.on(name, policy, move |delivery| {
            let handler = handler.clone();
            async move {
                let work = tokio::task::spawn_blocking(move || handler(delivery).into());
                match work.await {
                    Ok(outcome) => outcome,
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(error) => Outcome::retry(error),
                    },
                }
            }
        })
    }

    /// Carries a schedule: one of the workers that do fires it.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedules.push(schedule);
        self
    }

    /// Carries the schedules of a Django site: one of the workers that do fires them.
    #[must_use]
    pub fn django_beat(mut self, beat: DjangoBeat) -> Self {
        self.beats.push(beat);
        self
    }

    /// Runs until `shutdown`, then drains: claims nothing more, gives back at once what has not
    /// started, waits for what runs, and gives back what does not finish in time.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when a task has a limit over all workers and the engine can not count
    /// these; an engine that does not answer is logged and asked again.
    pub async fn run(self, shutdown: Shutdown) -> Result<Report> {
        let is_shared =
            |handler: &Handler| handler.policy.fleet_rate.or(handler.policy.key_rate).is_some();
        if self.handlers.values().any(is_shared)
            && let Err(error @ Error::Unsupported { .. }) = self.queue.engine().turns(&[]).await
        {
            return Err(error);
        }
        let Self { queue, handlers, schedules, beats, config, .. } = self.fan_out();
        let wire = queue.engine().celery();
        let celery = wire.map(|wire| Entered::new(wire, &queue, &config, &shutdown));
        let (desk, shutdown, served) = match celery {
            Some(Entered { desk, shutdown, served }) => (Some(desk), shutdown, served),
            None => (None, shutdown, JoinSet::new()),
        };
        // They end with the worker, also with one that is dropped.
        let mut beside = served;
        if !schedules.is_empty() {
            let (queue, name) = (queue.clone(), config.name.clone());
            beside.spawn(crate::schedule::lead(queue, schedules, name, shutdown.clone()));
        }
        for beat in beats {
            let (queue, name) = (queue.clone(), config.name.clone());
            beside.spawn(crate::schedule::django::lead(queue, beat, name, shutdown.clone()));
        }
        let report = rounds::Rounds::new(queue, handlers, config, desk).run(shutdown).await;
        while beside.join_next().await.is_some() {}
        Ok(report)
    }
}

#[derive(Clone)]
struct Handler {
    policy: Policy,
    run: Run,
    /// Whose turn a message takes under the policy's limit for each key.
    key: Option<rounds::pace::KeyOf>,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.policy.fmt(f)
    }
}

impl Handler {
    /// The policy, as far as the message does not say otherwise.
    fn policy_for(&self, message: &Message) -> Policy {
        let [soft, hard] = message.limits();
        Policy {
            max_retries: message.most_retries().unwrap_or(self.policy.max_retries),
            soft_limit: soft.or(self.policy.soft_limit),
            hard_limit: hard.or(self.policy.hard_limit),
            ..self.policy
        }
    }
}

type Run = Arc<dyn Fn(Delivery) -> BoxFuture<'static, Result<Outcome, Panic>> + Send + Sync>;
type Panic = Box<dyn Any + Send>;
