//! What Celery's `AsyncResult` reads, for engines that Celery shares.

use serde_json::{Value, json};

use super::{Verdict, chord::failure};
use crate::{TaskId, time};

/// The result that a verdict is; none for what is no end.
pub(crate) fn result(id: &TaskId, verdict: &Verdict, now_ms: i64) -> Option<Value> {
    let (status, result) = match verdict {
        Verdict::Done(result) => ("SUCCESS", result.clone()),
        Verdict::Dead(reason) => ("FAILURE", failure("Exception", reason)),
        Verdict::Expire => ("REVOKED", failure("TaskRevokedError", "expired")),
        Verdict::Cancel => ("REVOKED", failure("TaskRevokedError", "revoked")),
        Verdict::Retry { reason, .. } => ("RETRY", failure("Exception", reason)),
        Verdict::Park | Verdict::Release | Verdict::Later { .. } | Verdict::Moved => return None,
    };
    let has_failed = status == "FAILURE" || status == "RETRY";
    let traceback = has_failed.then(|| result["exc_message"][0].clone());
    Some(json!({
        "status": status,
        "result": result,
        "traceback": traceback,
        "children": [],
        "date_done": time::to_iso(now_ms),
        "task_id": id,
    }))
}

/// How a worker that is Celery's says why a task failed.
pub(super) fn reason(result: &Value) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let message = result["exc_message"].as_array();
    let message = message.map(|all| all.iter().map(plain).collect::<Vec<_>>().join(", "));
    format!("{}: {}", plain(&result["exc_type"]), message.unwrap_or_default())
}
