//! How a task's record prints.

use std::fmt::Write;

use serde_json::{Value, json};
use throng_queue::{Record, State};

/// The head of the columns of [`row`].
pub(super) fn head() -> Vec<String> {
    ["ID", "NAME", "QUEUE", "STATE", "RETRIES", "PUSHED", "REASON"].map(str::to_owned).to_vec()
}

/// One line of a list.
pub(super) fn row(record: &Record) -> Vec<String> {
    vec![
        record.id().to_string(),
        record.message.name().to_owned(),
        record.message.queue_name().to_owned(),
        record.state.to_string(),
        record.retries.to_string(),
        pushed(record).unwrap_or_default(),
        record.reason.as_deref().unwrap_or("").lines().next().unwrap_or("").to_owned(),
    ]
}

/// Everything about a task, a line each.
pub(super) fn text(record: &Record) -> String {
    let mut page = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(page, "{name:<10}{value}");
        }
    };
    line("id", Some(record.id().to_string()));
    line("name", Some(record.message.name().to_owned()));
    line("queue", Some(record.message.queue_name().to_owned()));
    line("state", Some(record.state.to_string()));
    line("reason", record.reason.clone());
    line("retries", Some(record.retries.to_string()));
    line("crashes", Some(record.crashes.to_string()));
    line("pushed", pushed(record));
    line("due", record.due_ms.map(time));
    line("started", record.started_ms.map(time));
    line("finished", record.finished_ms.map(time));
    line("worker", record.worker.clone());
    line("arguments", Some(arguments(record).to_string()));
    line("progress", record.progress.as_ref().map(Value::to_string));
    line("result", record.result.as_ref().map(Value::to_string));
    page
}

/// Everything about a task, for machines. Times are milliseconds since 1970 UTC.
pub(super) fn json(record: &Record) -> Value {
    json!({
        "id": record.id(),
        "name": record.message.name(),
        "queue": record.message.queue_name(),
        "state": record.state,
        "reason": record.reason,
        "retries": record.retries,
        "crashes": record.crashes,
        "pushed_ms": record.pushed_ms,
        "due_ms": record.due_ms,
        "started_ms": record.started_ms,
        "finished_ms": record.finished_ms,
        "worker": record.worker,
        "arguments": arguments(record),
        "progress": record.progress,
        "result": record.result,
    })
}

/// `: reason`, where there is one; of what went well in the end, why it failed before is no news.
pub(super) fn because(record: &Record) -> String {
    let reason = record.reason.as_ref().filter(|_| record.state != State::Done);
    reason.map_or(String::new(), |reason| format!(": {reason}"))
}

fn arguments(record: &Record) -> Value {
    match record.message.read_body() {
        Ok(body) if body.args.is_empty() => Value::Object(body.kwargs),
        Ok(body) if body.kwargs.is_empty() => Value::Array(body.args),
        Ok(body) => json!({ "args": body.args, "kwargs": body.kwargs }),
        Err(_) => Value::Null,
    }
}

/// None of what a Celery producer left in a list: it says nowhere when.
fn pushed(record: &Record) -> Option<String> {
    (record.pushed_ms > 0).then(|| time(record.pushed_ms))
}

/// A time as `2026-11-21 09:50:42`, in UTC.
fn time(unix_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(1_709_164_800_000), "2024-02-29 00:00:00");
        assert_eq!(time(1_700_000_000_000), "2023-11-14 22:13:20");
        assert_eq!(time(-1_000), "1969-12-31 23:59:59");
        assert_eq!(time(i64::MAX), "9999-12-30 22:00:00", "as late as dates go");
    }
}
