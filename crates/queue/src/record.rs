//! What can be seen of a task from outside: its record, its state, and counts.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Message, TaskId};

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Held back until its time: an ETA, a delay or a retry.
    Waiting,
    /// Ready to run.
    Queued,
    /// Held by a worker.
    Running,
    /// Finished; its result is kept for a while.
    Done,
    /// Failed for good: a dead letter, with the reason.
    Dead,
    /// No worker here knows its name; it goes back to its queue when one that does starts.
    Parked,
    /// Taken back before it finished.
    Cancelled,
    /// Not started before it expired.
    Expired,
}

impl State {
    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Dead,
        Self::Parked,
        Self::Cancelled,
        Self::Expired,
    ];

    /// Whether nothing more happens to the task unless someone asks.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled | Self::Expired)
    }

    /// The state as one lowercase word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Parked => "parked",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("`{text}` is no state of a task; there are {known}")
        })
    }
}

/// All that is known about one task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The message as it was pushed, with the retries it has had.
    pub message: Message,
    /// Where it is.
    pub state: State,
    /// How often it failed and was tried again.
    pub retries: u32,
    /// How often a worker died while holding it.
    pub crashes: u32,
    /// When it was pushed.
    pub pushed_ms: i64,
    /// When it may start, for one that waits.
    pub due_ms: Option<i64>,
    /// When it was last started, if it was.
    pub started_ms: Option<i64>,
    /// When it finished, if it has.
    pub finished_ms: Option<i64>,
    /// Who holds it, or held it last.
    pub worker: Option<String>,
    /// Why it failed last, was parked or died.
    pub reason: Option<String>,
    /// How far it is, for one that runs and has said so.
    pub progress: Option<Value>,
    /// What it returned.
    pub result: Option<Value>,
}

impl Record {
    /// The task's id.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.message.id()
    }
}

/// Which tasks to list.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Only this queue. Defaults to all.
    pub queue: Option<String>,
    /// Only this state. Defaults to all.
    pub state: Option<State>,
    /// Only tasks of this name. Defaults to all.
    pub name: Option<String>,
    /// At most this many, newest first. Defaults to 100.
    pub limit: u64,
}

impl Default for Filter {
    fn default() -> Self {
        Self { queue: None, state: None, name: None, limit: 100 }
    }
}

/// How many tasks of one queue are in one state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// The queue.
    pub queue: String,
    /// The state.
    pub state: State,
    /// How many.
    pub tasks: u64,
}
