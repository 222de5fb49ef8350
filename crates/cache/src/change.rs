//! What a process tells the others when it writes, so that their copies do not have to run out.

use serde::{Deserialize, Serialize};

/// Something was written or expired. Hand it to the other processes, by any way that reaches them
/// soon; a change that is lost costs them at most the time for which they keep copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which cache wrote; it ignores its own changes.
    pub(crate) from: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    Key(String),
    Tag { name: String, generation: u64 },
    Namespace { path: String, generation: u64 },
}

/// How many changes wait for whoever hears them.
pub(crate) const MAX_WAITING: usize = 1_024;
