//! What can go wrong with a queue, sorted by what a caller would do about it.

use throng_core::{Kind, url::UrlError};

use crate::TaskId;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a queue could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The queue's URL is wrong.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The engine did not answer, or answered with a failure of its own.
    #[error("cannot {doing} on queue engine `{engine}`")]
    Engine {
        /// The engine's name, such as `database`.
        engine: &'static str,
        /// What was being done, such as `push a task`.
        doing: &'static str,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine can not do this at all.
    #[error("queue engine `{engine}` cannot {what}")]
    Unsupported {
        /// The engine's name.
        engine: &'static str,
        /// What it lacks.
        what: &'static str,
    },
    /// The task's body is larger than the queue takes.
    #[error("task `{name}` has a body of {bytes} bytes, over the limit of {max_bytes}")]
    TooLarge {
        /// The task's name.
        name: String,
        /// Its body.
        bytes: usize,
        /// The queue's limit.
        max_bytes: usize,
    },
    /// The arguments cannot be written as JSON, or cannot be read as what the task takes.
    #[error("wrong arguments for task `{name}`: {reason}")]
    Arguments {
        /// The task's name.
        name: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A message that is not Celery's protocol 1 or 2.
    #[error("malformed task message: {0}")]
    Malformed(String),
    /// A queue's, task's or schedule's name that cannot be stored.
    #[error("{what} must have 1 to {max} characters, not {length}")]
    Name {
        /// Whose name.
        what: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        max: usize,
    },
    /// A schedule that cannot be read or never comes true.
    #[error("cannot read schedule `{spec}`: {reason}")]
    Schedule {
        /// The five fields as given.
        spec: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A rate that cannot be read.
    #[error("cannot read rate `{0}`: it is like 10/s, 100/m or 5/h")]
    Rate(String),
    /// The tasks of a queue can not be moved as asked.
    #[error("cannot move queue `{queue}`: {reason}")]
    Move {
        /// The queue.
        queue: String,
        /// What stands in the way.
        reason: String,
    },
    /// No task with this id is known, perhaps no longer.
    #[error("no task `{0}`")]
    Unknown(TaskId),
    /// The task is in a state in which this cannot be done.
    #[error("task `{id}` is {state} and cannot be {doing}")]
    State {
        /// The task.
        id: TaskId,
        /// Where it is.
        state: crate::State,
        /// What was asked for.
        doing: &'static str,
    },
}

impl Error {
    /// Sorts the error by what to do about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Engine { .. } => Kind::Retry,
            Self::Unsupported { .. } | Self::Schedule { .. } => Kind::Bug,
            _ => Kind::Refuse,
        }
    }
}
