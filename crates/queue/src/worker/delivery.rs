//! What a handler gets, and what it gives back.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::course::Course;
use crate::{Error, Message, Result, TaskId};

/// One run of a task.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(super) course: Arc<Course>,
}

impl Delivery {
    /// The task's id: the same at every retry, so that work can be made idempotent by it.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.course.message.id()
    }

    /// The task's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.course.message.name()
    }

    /// The whole message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.course.message
    }

    /// The arguments as `T`.
    ///
    /// # Errors
    /// [`Error::Arguments`], of which [`Outcome::from`] makes a dead letter.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        self.course.message.arguments()
    }

    /// A header of the message, such as a causal token.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Value> {
        self.course.message.header_value(name)
    }

    /// How often the task failed before this run.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.course.message.retries()
    }

    /// How often a worker died while it held the task.
    #[must_use]
    pub fn crashes(&self) -> u32 {
        self.course.crashes
    }

    /// Says how far the task is, for whoever looks: [`Queue::progress`](crate::Queue::progress),
    /// `task show`.
    ///
    /// # Errors
    /// [`Error::Arguments`] when it has no JSON form; [`Error::Unsupported`] where the task has no
    /// record; else when the engine does not answer.
    pub async fn note(&self, progress: impl Serialize) -> Result<()> {
        let progress = serde_json::to_value(progress).map_err(|error| Error::Arguments {
            name: self.name().to_owned(),
            reason: error.to_string(),
        })?;
        self.course.queue.engine().note_progress(&self.course.lease, &progress).await
    }

    /// Whether a failure now is final.
    #[must_use]
    pub fn is_last_try(&self) -> bool {
        self.retries() >= self.course.policy.max_retries
    }

    /// Whether the task is asked to stop: its soft limit has passed or the worker drains.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.course.is_asked()
    }

    /// Returns when the task is asked to stop. Cancel safe.
    pub async fn stopping(&self) {
        self.course.asked().await;
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// Done; the value is kept for whoever waits, null for nothing.
    Done(Value),
    /// Failed: tried again while retries are left, then a dead letter.
    Retry {
        /// Why it failed.
        reason: String,
        /// How long to wait; the policy's backoff when none.
        after: Option<Duration>,
    },
    /// Failed for good: a dead letter at once.
    Dead {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// Done with nothing to tell.
    #[must_use]
    pub fn done() -> Self {
        Self::Done(Value::Null)
    }

    /// Failed, to be tried again by the policy.
    #[must_use]
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self::Retry { reason: reason.to_string(), after: None }
    }

    /// Failed for good.
    #[must_use]
    pub fn dead(reason: impl fmt::Display) -> Self {
        Self::Dead { reason: reason.to_string() }
    }

    /// The outcome of a handler that returns a `Result`: its value, or a retry with its error.
    #[must_use]
    pub fn of<T: Serialize, E: fmt::Display>(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => match serde_json::to_value(value) {
                Ok(value) => Self::Done(value),
                Err(error) => Self::dead(format_args!("its result has no JSON form: {error}")),
            },
            Err(error) => Self::retry(error),
        }
    }
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        match error {
            Error::Arguments { .. } => Self::dead(error),
            error => Self::retry(error),
        }
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::done()
    }
}
