//! Broadcasts on Redis: kombu's fanout exchanges are channels, its reply queues are lists.

use std::fmt;

use ::redis::{Client, RedisError};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{ReplyTo, Request, Wire};
use crate::{
    Error, Result, TaskId,
    engine::{Verdict, celery, redis::line::Line},
};

/// A Redis server as kombu broadcasts on it.
pub(crate) struct Channels {
    pub(crate) client: Client,
    pub(crate) connection: Line,
    /// kombu's `global_keyprefix`.
    pub(crate) prefix: String,
    /// The number of the database, which is part of a channel's name.
    pub(crate) database: i64,
    pub(crate) clock: throng_core::Clock,
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").finish_non_exhaustive()
    }
}

impl Channels {
    fn channel(&self, exchange: &str) -> String {
        format!("{}/{}.{exchange}", self.prefix, self.database)
    }
}

#[async_trait]
impl Wire for Channels {
    async fn emit(&self, routing_key: &str, node: &str, event: &Value) -> Result<()> {
        let message = envelope(event, "celeryev", routing_key, &json!({"hostname": node}));
        let mut command = ::redis::cmd("PUBLISH");
        command.arg(format!("{}/{routing_key}", self.channel("celeryev"))).arg(message);
        let told: Result<i64, _> = command.query_async(&mut self.connection.clone()).await;
        told.map(drop).map_err(failed("tell Celery's listeners"))
    }

    async fn listen(&self, _node: &str, heard: mpsc::Sender<Request>) -> Result<()> {
        let connected = self.client.get_async_pubsub().await;
        let mut pubsub = connected.map_err(failed("hear Celery's remote control"))?;
        // kombu before 5.4 forgot to fill in the number of the database.
        let old = format!("{}/{{db}}.celery.pidbox", self.prefix);
        for channel in [self.channel("celery.pidbox"), old] {
            pubsub.subscribe(channel).await.map_err(failed("hear Celery's remote control"))?;
        }
        let mut messages = pubsub.into_on_message();
        while let Some(message) = messages.next().await {
            match read(message.get_payload_bytes()) {
                Some(request) => drop(heard.try_send(request)),
                None => tracing::debug!("a control message that cannot be read"),
            }
        }
        Ok(())
    }

    async fn reply(&self, to: &ReplyTo, ticket: &Value, clock: u64, body: &Value) -> Result<()> {
        let headers = json!({"ticket": ticket, "clock": clock});
        let message = envelope(body, &to.exchange, &to.routing_key, &headers);
        let list = format!("{}{}.{}", self.prefix, to.routing_key, to.exchange);
        let mut pipe = ::redis::pipe();
        pipe.cmd("LPUSH").arg(&list).arg(message).ignore();
        // Whoever asked may be gone, and nobody else would ever look there.
        pipe.cmd("EXPIRE").arg(&list).arg(REPLY_S).ignore();
        let told: Result<(), _> = pipe.query_async(&mut self.connection.clone()).await;
        told.map_err(failed("answer Celery's remote control"))
    }

    async fn revoked(&self, id: &TaskId) -> Result<()> {
        let Some(result) = celery::result(id, &Verdict::Cancel, self.clock.now_ms()) else {
            return Ok(());
        };
        let (key, result) = (format!("{}celery-task-meta-{id}", self.prefix), result.to_string());
        let mut set = ::redis::cmd("SET");
        set.arg(&key).arg(&result).arg("NX").arg("EX").arg(RESULT_S);
        let mut connection = self.connection.clone();
        let kept: Result<Option<String>, _> = set.query_async(&mut connection).await;
        if kept.map_err(failed("tell that a task is revoked"))?.is_none() {
            return Ok(());
        }
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(&key).arg(&result);
        let told: Result<i64, _> = publish.query_async(&mut connection).await;
        told.map(drop).map_err(failed("tell that a task is revoked"))
    }
}

/// A message as kombu wraps it for Redis.
fn envelope(body: &Value, exchange: &str, routing_key: &str, headers: &Value) -> String {
    json!({
        "body": BASE64.encode(body.to_string()),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": exchange, "routing_key": routing_key},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": TaskId::random(),
        },
    })
    .to_string()
}

fn read(payload: &[u8]) -> Option<Request> {
    let envelope: Value = serde_json::from_slice(payload).ok()?;
    let text = envelope["body"].as_str()?;
    let body = match envelope["properties"]["body_encoding"].as_str() {
        Some("base64") => BASE64.decode(text).ok()?,
        _ => text.as_bytes().to_vec(),
    };
    let clock = envelope["headers"]["clock"].as_u64().unwrap_or(0);
    Some(Request { clock, ..serde_json::from_slice(&body).ok()? })
}

fn failed(doing: &'static str) -> impl FnOnce(RedisError) -> Error {
    move |source| Error::Engine { engine: "redis", doing, source: Box::new(source) }
}

const REPLY_S: u32 = 60;
const RESULT_S: u32 = 86_400;
