//! Celery's remote control and events: `celery inspect`, `celery control` and Flower see our workers.
//!
//! A worker listens on kombu's broadcast exchange beside its queues, answers what is asked there, and
//! tells on Celery's event exchange that it lives and, once somebody asks for it, what its tasks
//! do. All of it is best effort, as in Celery: no task waits for it, and what cannot be told at once
//! is left out.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};
use throng_core::{Shutdown, stars};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{Queue, Result, TaskId, WorkerConfig, worker::desk::Desk};

mod control;
pub(crate) mod event;
mod info;
#[cfg(feature = "rabbitmq")]
pub(crate) mod rabbitmq;
#[cfg(feature = "redis")]
pub(crate) mod redis;

use control::Control;
use event::Teller;

/// An engine's way to Celery's broadcasts.
#[async_trait]
pub trait Wire: fmt::Debug + Send + Sync + 'static {
    /// Publishes an event, or a list of them, to whoever listens.
    async fn emit(&self, routing_key: &str, node: &str, event: &Value) -> Result<()>;

    /// Hears control messages for the worker `node` until the connection is lost.
    async fn listen(&self, node: &str, heard: mpsc::Sender<Request>) -> Result<()>;

    /// Tells whoever waits for the result of a task that it is revoked, unless there is a result.
    async fn revoked(&self, _id: &TaskId) -> Result<()> {
        Ok(())
    }

    /// Answers one of them.
    async fn reply(&self, to: &ReplyTo, ticket: &Value, clock: u64, body: &Value) -> Result<()>;
}

/// A control message, as kombu's pidbox writes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) arguments: Option<Map<String, Value>>,
    #[serde(default)]
    destination: Option<Vec<String>>,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    matcher: Option<String>,
    #[serde(default)]
    reply_to: Option<ReplyTo>,
    #[serde(default)]
    ticket: Value,
    /// The sender's logical clock, from the headers.
    #[serde(default)]
    pub(crate) clock: u64,
}

/// Where an answer goes.
#[derive(Clone, Debug, Deserialize)]
pub struct ReplyTo {
    /// The exchange of answers.
    pub exchange: String,
    /// Whose answers.
    pub routing_key: String,
    /// Of several nodes, the one that was asked.
    #[serde(skip)]
    pub node: usize,
}

impl Request {
    /// Whether the worker `node` is meant.
    fn is_for(&self, node: &str) -> bool {
        if let Some(destination) = self.destination.as_ref().filter(|nodes| !nodes.is_empty()) {
            return destination.iter().any(|name| name == node);
        }
        match (self.pattern.as_deref(), self.matcher.as_deref()) {
            (Some(pattern), Some("glob")) => stars::matches(pattern, node),
            // Regular expressions are Python's own; none is better than another one.
            (Some(_), Some(_)) => false,
            _ => true,
        }
    }
}

/// A worker's place in Celery's world.
pub(crate) struct Entered {
    pub(crate) desk: Desk,
    /// Hears whoever runs the worker, and the remote control.
    pub(crate) shutdown: Shutdown,
    /// What ends after the worker.
    pub(crate) served: JoinSet<()>,
}

impl Entered {
    pub(crate) fn new(
        wire: Arc<dyn Wire>,
        queue: &Queue,
        config: &WorkerConfig,
        outer: &Shutdown,
    ) -> Self {
        let (stop, shutdown) = Shutdown::pair();
        let stop = Arc::new(stop);
        let (teller, events) =
            Teller::new(&config.name, config.tells_events, queue.clock().clone());
        let (asks, asked) = mpsc::channel(REQUESTS);
        let control =
            Control::new(queue.clone(), config, asks, teller.clone(), stop.clone(), wire.clone());
        let forward = {
            let (outer, inner) = (outer.clone(), shutdown.clone());
            async move {
                tokio::select! {
                    () = outer.requested() => stop.request(),
                    () = inner.requested() => {}
                }
            }
        };
        let mut served = JoinSet::new();
        served.spawn(forward);
        served.spawn(serve(wire, control, teller.clone(), events, shutdown.clone()));
        Self { desk: Desk::new(asked, teller), shutdown, served }
    }
}

/// Keeps a worker in Celery's world until shutdown.
async fn serve(
    wire: Arc<dyn Wire>,
    mut control: Control,
    teller: Teller,
    mut events: mpsc::Receiver<Value>,
    shutdown: Shutdown,
) {
    let node = control.node().to_owned();
    let (heard, mut requests) = mpsc::channel(REQUESTS);
    let mut listening = JoinSet::new();
    listening.spawn({
        let (wire, node, shutdown) = (wire.clone(), node.clone(), shutdown.clone());
        async move {
            while !shutdown.is_requested() {
                tokio::select! {
                    lost = wire.listen(&node, heard.clone()) => {
                        if let Err(error) = lost {
                            tracing::debug!(error = ?error, "no longer hears Celery's remote control: {error}");
                        }
                        tokio::time::sleep(LISTEN_AGAIN).await;
                    }
                    () = shutdown.requested() => {}
                }
            }
        }
    });
    let mut beat = tokio::time::interval(event::BEAT);
    let mut kind = "worker-online";
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            _ = beat.tick() => {
                emit(&*wire, &node, "worker.heartbeat", &teller.of_worker(kind)).await;
                kind = "worker-heartbeat";
            }
            Some(request) = requests.recv() => {
                teller.hear(request.clock);
                let Some(answer) = control.handle(&request).await else { continue };
                let Some(to) = &request.reply_to else { continue };
                let body = Value::Object(Map::from_iter([(node.clone(), answer)]));
                let clock = teller.tick();
                if let Err(error) = wire.reply(to, &request.ticket, clock, &body).await {
                    tracing::debug!(error = ?error, "cannot answer Celery's remote control: {error}");
                }
            }
            count = events.recv_many(&mut batch, MOST_EVENTS), if !events.is_closed() || !events.is_empty() => {
                if count > 0 {
                    let told = Value::Array(std::mem::take(&mut batch));
                    emit(&*wire, &node, "task.multi", &told).await;
                }
            }
            () = shutdown.requested() => break,
        }
    }
    while listening.join_next().await.is_some() {}
    emit(&*wire, &node, "worker.offline", &teller.of_worker("worker-offline")).await;
}

async fn emit(wire: &dyn Wire, node: &str, routing_key: &str, event: &Value) {
    if let Err(error) = wire.emit(routing_key, node, event).await {
        tracing::debug!(error = ?error, "cannot tell Celery's listeners: {error}");
    }
}

/// Control messages that wait; what comes beyond them is not heard.
const REQUESTS: usize = 100;
/// Task events in one message.
const MOST_EVENTS: usize = 200;
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
