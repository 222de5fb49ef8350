//! Questions to a worker that runs, and orders: what it holds, what it is to stop, how much it takes on.

use serde_json::Value;
use tokio::sync::oneshot;

use crate::{Message, Policy, Rate, TaskId};

/// What a worker is asked or told.
#[derive(Debug)]
pub(crate) enum Ask {
    /// What it holds and how it is set.
    Look(oneshot::Sender<Held>),
    /// Not to run these; the answer has those that run here, which are stopped if so told.
    Revoke { ids: Vec<TaskId>, terminate: bool, answer: oneshot::Sender<Vec<TaskId>> },
    /// New time limits in seconds for a task.
    Limits { name: String, soft: Option<f64>, hard: Option<f64>, answer: oneshot::Sender<Value> },
    /// A new rate for a task here, or none.
    Rate { name: String, rate: Option<Rate>, answer: oneshot::Sender<bool> },
    /// To run so many more at once.
    Grow(i64),
    /// To serve one more queue.
    Serve(String),
    /// To serve a queue no longer.
    Leave(String),
}

/// What a worker holds and how it is set.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) active: Vec<Seen>,
    pub(crate) reserved: Vec<Seen>,
    pub(crate) tasks: Vec<(String, Policy)>,
    pub(crate) queues: Vec<String>,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
}

/// A task as it is held.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) message: Message,
    /// When it was started, if it was.
    pub(crate) started_ms: Option<i64>,
}
