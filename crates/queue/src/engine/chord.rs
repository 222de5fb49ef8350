//! A part of a chord, and the words in which Celery keeps how it ended.

use serde_json::{Value, json};

use crate::{Result, TaskId};

/// A part of a chord that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The chord's group.
    pub group: &'a str,
    /// The task.
    pub id: &'a TaskId,
    /// Its place among the parts, if the producer said.
    pub index: Option<u64>,
    /// What it returned, or why it failed.
    pub outcome: Result<&'a Value, &'a str>,
}

impl Part<'_> {
    /// The part as every engine keeps it: `[1, id, state, result]`.
    pub(crate) fn kept(&self) -> Value {
        let (state, result) = match self.outcome {
            Ok(result) => ("SUCCESS", result.clone()),
            Err(reason) => ("FAILURE", failure("Exception", reason)),
        };
        json!([1, self.id, state, result])
    }
}

/// What Celery keeps in place of a result.
pub(crate) fn failure(kind: &str, reason: &str) -> Value {
    json!({"exc_type": kind, "exc_message": [reason], "exc_module": "builtins"})
}

/// How long whoever completed a chord has to push its body before another may, in seconds.
pub(crate) const CLAIM_S: u32 = 30;
