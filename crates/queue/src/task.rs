//! The typed face of a task: a struct that is its own arguments.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use crate::{Backoff, Rate};

/// A kind of task: its fields are the arguments, its name is what travels.
pub trait Task: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name under which producers and workers in every language know it.
    const NAME: &'static str;
    /// The queue that it goes to.
    const QUEUE: &'static str = crate::DEFAULT_QUEUE;

    /// How a worker treats it when it fails or takes long.
    #[must_use]
    fn policy() -> Policy {
        Policy::default()
    }

    /// Whose turn it takes under [`Policy::key_rate`], such as a customer or a host; none for no
    /// such limit.
    #[must_use]
    fn rate_key(&self) -> Option<String> {
        None
    }
}

/// How a worker treats a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How often a task that fails is tried again before it goes to the dead letters.
    /// Defaults to 8.
    pub max_retries: u32,
    /// How long it waits before each retry. Defaults to 1 s, doubling up to 10 min, full jitter.
    pub backoff: Backoff,
    /// After this long the task is asked to stop. Defaults to none.
    pub soft_limit: Option<Duration>,
    /// After this long the task is stopped and counts as failed. Defaults to none.
    pub hard_limit: Option<Duration>,
    /// How many places of a worker's concurrency a run takes: more for what is large, such as a
    /// picture in memory. Defaults to 1; one that is larger than the worker runs alone.
    pub weight: usize,
    /// How many start in each worker. Defaults to no limit; Celery's `rate_limit` command sets it in
    /// workers that run.
    pub rate: Option<Rate>,
    /// How many start in all workers together, as the engine counts. Defaults to no limit.
    pub fleet_rate: Option<Rate>,
    /// How many of one key start in all workers together: [`Task::rate_key`],
    /// [`Worker::rate_key`](crate::Worker::rate_key). Defaults to no limit.
    pub key_rate: Option<Rate>,
    /// Whether a task whose worker died is a dead letter rather than run again; it travels with
    /// messages made by [`Message::of`](crate::Message::of). Defaults to false: at least once.
    pub is_at_most_once: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_retries: 8,
            backoff: Backoff::default(),
            soft_limit: None,
            hard_limit: None,
            weight: 1,
            rate: None,
            fleet_rate: None,
            key_rate: None,
            is_at_most_once: false,
        }
    }
}

impl Policy {
    pub(crate) fn is_limited(&self) -> bool {
        self.rate.or(self.fleet_rate).or(self.key_rate).is_some()
    }
}
