//! The run of a task that a context is for: what it knows of itself, and what it returns.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use throng_queue::{Delivery, Outcome};

use super::{Ctx, Site, seen};
use crate::{Error, Result};

/// One run of a task or a receiver.
#[derive(Debug)]
pub(crate) struct Run {
    delivery: Delivery,
    answer: Mutex<Value>,
}

impl Ctx {
    /// The run that this context was made for, in a [`Task`](crate::Task) and a
    /// [`Receiver`](crate::Receiver); none elsewhere. It knows the task's id, which is the same at
    /// every retry so that work can be made idempotent by it, how often it was tried, and when it is
    /// asked to stop; and it tells how far the work is.
    ///
    /// ```
    /// use throng::{Ctx, Result};
    ///
    /// async fn index(cx: &Ctx, shelves: &[&str]) -> Result {
    ///     for (at, shelf) in shelves.iter().enumerate() {
    ///         if let Some(run) = cx.delivery() {
    ///             run.note(format!("{shelf}, {at} of {} done", shelves.len())).await?;
    ///         }
    ///         // … the shelf's books …
    ///     }
    ///     cx.answer(shelves.len())
    /// }
    /// ```
    #[must_use]
    pub fn delivery(&self) -> Option<&Delivery> {
        self.run.as_ref().map(|run| &run.delivery)
    }

    /// Says what the task returns if it ends well, for
    /// [`Queue::wait`](throng_queue::Queue::wait) and Celery's `AsyncResult`. The last word counts;
    /// null when there is none.
    ///
    /// # Errors
    /// An internal error when the value has no JSON form, or this context is for no task.
    pub fn answer(&self, value: impl Serialize) -> Result {
        let run = self.run.as_ref();
        let run = run.ok_or_else(|| Error::internal("there is no task here that could answer"))?;
        let value = serde_json::to_value(value).map_err(Error::internal)?;
        *run.answer.lock().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }
}

impl Run {
    pub(crate) fn of(delivery: Delivery) -> Arc<Self> {
        Arc::new(Self { delivery, answer: Mutex::default() })
    }

    /// A context for it: its database shows what whoever pushed the task had seen.
    pub(crate) fn ctx(self: &Arc<Self>, site: &Site) -> Ctx {
        let db = seen::of_task(&site.0.db, &self.delivery);
        Ctx { run: Some(self.clone()), ..site.ctx_with(db) }
    }

    pub(crate) fn done(&self) -> Outcome {
        Outcome::Done(self.answer.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}
