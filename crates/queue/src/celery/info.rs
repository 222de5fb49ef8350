//! How tasks look to whoever inspects a worker.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{Message, Policy, time, worker::ask::Seen};

/// Arguments and keyword arguments as text, as their producer wrote them if he did.
pub(super) fn shown(message: &Message) -> (String, String) {
    let text = |name: &str| message.header_value(name).and_then(Value::as_str).map(str::to_owned);
    if let (Some(args), Some(kwargs)) = (text("argsrepr"), text("kwargsrepr")) {
        return (args, kwargs);
    }
    match message.read_body() {
        Ok(body) => (Value::Array(body.args).to_string(), Value::Object(body.kwargs).to_string()),
        Err(error) => (error.to_string(), String::new()),
    }
}

/// A task as `inspect active` and `reserved` show it.
pub(super) fn request(seen: &Seen, node: &str, is_safe: bool) -> Value {
    let message = &seen.message;
    let (args, kwargs) = match message.read_body() {
        Ok(body) if !is_safe => (Value::Array(body.args), Value::Object(body.kwargs)),
        _ => {
            let (args, kwargs) = shown(message);
            (args.into(), kwargs.into())
        }
    };
    json!({
        "id": message.id(),
        "name": message.name(),
        "args": args,
        "kwargs": kwargs,
        "type": message.name(),
        "hostname": node,
        "time_start": seen.started_ms.map(|ms| ms as f64 / 1000.0),
        "acknowledged": seen.started_ms.is_some(),
        "delivery_info": {
            "exchange": "",
            "routing_key": message.queue_name(),
            "priority": message.priority_level(),
            "redelivered": null,
        },
        "worker_pid": seen.started_ms.map(|_| std::process::id()),
    })
}

/// A task that is held back, as `inspect scheduled` shows it.
pub(super) fn scheduled(seen: &Seen, due_ms: Option<i64>, node: &str) -> Value {
    json!({"eta": due_ms.map(time::to_iso), "priority": 6, "request": request(seen, node, false)})
}

/// A task that a worker knows, as `inspect registered` shows it with what it is asked for.
pub(super) fn task(name: &str, policy: &Policy, items: &[&str]) -> Value {
    let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64().to_string());
    let items = if items.is_empty() { DEFAULT_ITEMS } else { items };
    let told = items.iter().filter_map(|item| {
        let value = match *item {
            "rate_limit" => policy.rate?.to_string(),
            "max_retries" => policy.max_retries.to_string(),
            "soft_time_limit" => seconds(policy.soft_limit)?,
            "time_limit" => seconds(policy.hard_limit)?,
            "name" => name.to_owned(),
            _ => return None,
        };
        Some(format!("{item}={value}"))
    });
    let told: Vec<String> = told.collect();
    if told.is_empty() { name.into() } else { format!("{name} [{}]", told.join(" ")).into() }
}

/// A queue as `inspect active_queues` shows it.
pub(super) fn queue(name: &str) -> Value {
    json!({
        "name": name,
        "exchange": {
            "name": name,
            "type": "direct",
            "arguments": null,
            "durable": true,
            "passive": false,
            "auto_delete": false,
            "delivery_mode": null,
            "no_declare": false,
        },
        "routing_key": name,
        "queue_arguments": null,
        "binding_arguments": null,
        "consumer_arguments": null,
        "durable": true,
        "exclusive": false,
        "auto_delete": false,
        "no_ack": false,
        "alias": null,
        "bindings": [],
        "no_declare": null,
        "expires": null,
        "message_ttl": null,
        "max_length": null,
        "max_length_bytes": null,
        "max_priority": null,
    })
}

/// What Celery tells of a task unless it is asked for other things, as far as ours have it.
const DEFAULT_ITEMS: &[&str] = &["rate_limit"];
