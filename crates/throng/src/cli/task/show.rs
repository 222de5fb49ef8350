//! How a task's record prints.

use std::fmt::Write;

use serde_json::{Value, json};
use throng_queue::Record;

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
        time(record.pushed_ms),
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
    line("pushed", Some(time(record.pushed_ms)));
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

/// `: reason`, where there is one.
pub(super) fn because(record: &Record) -> String {
    record.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"))
}

fn arguments(record: &Record) -> Value {
    match record.message.read_body() {
        Ok(body) if body.args.is_empty() => Value::Object(body.kwargs),
        Ok(body) if body.kwargs.is_empty() => Value::Array(body.args),
        Ok(body) => json!({ "args": body.args, "kwargs": body.kwargs }),
        Err(_) => Value::Null,
    }
}

/// A time as `2026-11-21 09:50:42`, in UTC.
fn time(unix_ms: i64) -> String {
    let (days, seconds) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000) / 1000);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The Gregorian date of a day since 1970: years of 400 are counted from March, so that the leap
/// day is the last of its year.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
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
    }
}
