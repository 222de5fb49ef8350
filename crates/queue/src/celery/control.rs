//! What `celery inspect` and `celery control` ask of a worker, and its answers.

use std::{collections::VecDeque, sync::Arc};

use serde_json::{Map, Value, json};
use throng_core::Trigger;
use tokio::sync::{mpsc, oneshot};

use super::{Request, Teller, Wire, info};
use crate::{
    Filter, Queue, Rate, State, TaskId, WorkerConfig,
    worker::ask::{Ask, Held, Seen},
};

/// Answers for one worker.
#[derive(Debug)]
pub(super) struct Control {
    queue: Queue,
    node: String,
    asks: mpsc::Sender<Ask>,
    teller: Teller,
    stop: Arc<Trigger>,
    wire: Arc<dyn Wire>,
    revoked: VecDeque<TaskId>,
    begun_ms: i64,
}

impl Control {
    pub(super) fn new(
        queue: Queue,
        config: &WorkerConfig,
        asks: mpsc::Sender<Ask>,
        teller: Teller,
        stop: Arc<Trigger>,
        wire: Arc<dyn Wire>,
    ) -> Self {
        let begun_ms = queue.clock().now_ms();
        let (node, revoked) = (config.name.clone(), VecDeque::new());
        Self { queue, node, asks, teller, stop, wire, revoked, begun_ms }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// The answer; none where Celery gives none.
    pub(super) async fn handle(&mut self, request: &Request) -> Option<Value> {
        if !request.is_for(&self.node) {
            return None;
        }
        let empty = Map::new();
        let arguments = request.arguments.as_ref().unwrap_or(&empty);
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default();
        tracing::debug!(method = %request.method, "Celery's remote control asks for {}", request.method);
        Some(match request.method.as_str() {
            "ping" => ok("pong"),
            "hello" if text("from_node") == self.node => return None,
            "hello" => json!({"revoked": {}, "clock": self.teller.tick()}),
            "clock" => json!({"clock": self.teller.tick()}),
            "stats" => self.stats().await?,
            "active" | "dump_active" => {
                let is_safe = arguments.get("safe").and_then(Value::as_bool).unwrap_or(false);
                let held = self.look().await?;
                held.active.iter().map(|seen| info::request(seen, &self.node, is_safe)).collect()
            }
            "reserved" | "dump_reserved" => {
                let held = self.look().await?;
                held.reserved.iter().map(|seen| info::request(seen, &self.node, false)).collect()
            }
            "scheduled" | "dump_schedule" => self.scheduled().await,
            "registered" | "dump_tasks" => {
                let items = arguments.get("taskinfoitems").and_then(Value::as_array);
                let items: Vec<&str> =
                    items.into_iter().flatten().filter_map(Value::as_str).collect();
                let held = self.look().await?;
                held.tasks.iter().map(|(name, policy)| info::task(name, policy, &items)).collect()
            }
            "active_queues" => {
                self.look().await?.queues.iter().map(|name| info::queue(name)).collect()
            }
            "revoked" | "dump_revoked" => json!(self.revoked),
            "query_task" => self.query(&ids(arguments.get("ids"))).await?,
            "conf" | "dump_conf" => self.conf().await?,
            "report" => ok(&format!("throng {}", env!("CARGO_PKG_VERSION"))),
            "enable_events" => match self.teller.switch(true) {
                false => ok("task events enabled"),
                true => ok("task events already enabled"),
            },
            "disable_events" => match self.teller.switch(false) {
                true => ok("task events disabled"),
                false => ok("task events already disabled"),
            },
            "heartbeat" => {
                let beat = self.teller.of_worker("worker-heartbeat");
                super::emit(&*self.wire, &self.node, "worker.heartbeat", &beat).await;
                Value::Null
            }
            "revoke" => {
                let terminate = arguments.get("terminate").is_some_and(|is_so| is_so == true);
                self.revoke(ids(arguments.get("task_id")), terminate).await?
            }
            "terminate" => self.revoke(ids(arguments.get("task_id")), true).await?,
            "rate_limit" => {
                let limit = arguments.get("rate_limit").unwrap_or(&Value::Null);
                self.limit_rate(text("task_name").to_owned(), limit).await?
            }
            "time_limit" => {
                let name = text("task_name").to_owned();
                let limit = |name: &str| arguments.get(name).and_then(Value::as_f64);
                let (soft, hard) = (limit("soft"), limit("hard"));
                self.ask(|answer| Ask::Limits { name, soft, hard, answer }).await?
            }
            "pool_grow" => self.grow(arguments, 1, "pool will grow").await?,
            "pool_shrink" => self.grow(arguments, -1, "pool will shrink").await?,
            "add_consumer" => {
                let queue = text("queue").to_owned();
                let told = ok(&format!("add consumer {queue}"));
                self.asks.send(Ask::Serve(queue)).await.ok()?;
                told
            }
            "cancel_consumer" => {
                let queue = text("queue").to_owned();
                let told = ok(&format!("no longer consuming from {queue}"));
                self.asks.send(Ask::Leave(queue)).await.ok()?;
                told
            }
            "shutdown" => {
                tracing::warn!(worker = %self.node, "worker {} is told by Celery's remote control to stop", self.node);
                self.stop.request();
                return None;
            }
            "autoscale" => json!({"error": "ValueError('Autoscale not enabled')"}),
            "pool_restart" => json!({"error": "ValueError('Pool restarts not enabled')"}),
            other => {
                tracing::warn!(
                    "Celery's remote control asks for `{other}`, which no worker of ours has"
                );
                return None;
            }
        })
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(question(answer)).await.ok()?;
        answered.await.ok()
    }

    async fn look(&self) -> Option<Held> {
        self.ask(Ask::Look).await
    }

    async fn grow(&self, arguments: &Map<String, Value>, sign: i64, told: &str) -> Option<Value> {
        let n = arguments.get("n").and_then(Value::as_i64).unwrap_or(1);
        self.asks.send(Ask::Grow(n.saturating_mul(sign))).await.ok()?;
        Some(ok(told))
    }

    /// Sets this worker's own limit, as Celery sets that of each worker.
    async fn limit_rate(&self, name: String, limit: &Value) -> Option<Value> {
        let text = match limit {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let rate = match Rate::read(&text) {
            Ok(rate) => rate,
            Err(error) => {
                return Some(json!({"error": format!("Invalid rate limit string: {error}")}));
            }
        };
        let ask = name.clone();
        if !self.ask(|answer| Ask::Rate { name: ask, rate, answer }).await? {
            return Some(json!({"error": "unknown task"}));
        }
        let node = &self.node;
        Some(match rate {
            Some(rate) => {
                tracing::info!(worker = %node, "worker {node} starts task {name} at most {rate} from now on");
                ok("new rate limit set successfully")
            }
            None => {
                tracing::info!(worker = %node, "worker {node} limits the rate of task {name} no longer");
                ok("rate limit disabled successfully")
            }
        })
    }

    async fn stats(&self) -> Option<Value> {
        let held = self.look().await?;
        let uptime_ms = self.queue.clock().now_ms() - self.begun_ms;
        let pid = std::process::id();
        Some(json!({
            "total": self.teller.totals(),
            "pid": pid,
            "clock": self.teller.tick().to_string(),
            "uptime": uptime_ms / 1000,
            "pool": {
                "implementation": "throng",
                "max-concurrency": held.concurrency,
                "processes": [pid],
                "max-tasks-per-child": "N/A",
                "put-guarded-by-semaphore": true,
                "timeouts": [0, 0],
                "writes": {"total": "N/A", "avg": "N/A", "all": "N/A", "raw": "N/A", "strategy": null,
                    "inqueues": {"total": 0, "active": 0}},
            },
            "prefetch_count": held.prefetch,
            "broker": {"transport": self.queue.engine_name(), "hostname": null, "port": null,
                "userid": null, "virtual_host": null, "ssl": false, "heartbeat": null},
            "rusage": "N/A",
        }))
    }

    async fn conf(&self) -> Option<Value> {
        let held = self.look().await?;
        Some(json!({
            "worker_concurrency": held.concurrency,
            "worker_prefetch_multiplier": held.prefetch,
            "task_default_queue": held.queues.first(),
            "task_acks_late": true,
        }))
    }

    /// What waits in the engine for its time: for all workers, as none of them holds it.
    async fn scheduled(&self) -> Value {
        let Some(held) = self.look().await else { return json!([]) };
        let mut all = Vec::new();
        for queue in held.queues {
            let filter =
                Filter { queue: Some(queue), state: Some(State::Waiting), ..Filter::default() };
            let waiting = self.queue.list(&filter).await.unwrap_or_default();
            all.extend(waiting.into_iter().map(|record| {
                let seen = Seen { message: record.message, started_ms: None };
                info::scheduled(&seen, record.due_ms, &self.node)
            }));
        }
        json!(all)
    }

    async fn query(&self, ids: &[TaskId]) -> Option<Value> {
        let held = self.look().await?;
        let active = held.active.iter().map(|seen| ("active", seen));
        let all = active.chain(held.reserved.iter().map(|seen| ("reserved", seen)));
        let known = all.filter(|(_, seen)| ids.contains(&seen.message.id()));
        let told = known.map(|(state, seen)| {
            (seen.message.id().to_string(), json!([state, info::request(seen, &self.node, false)]))
        });
        Some(Value::Object(told.collect()))
    }

    async fn revoke(&mut self, ids: Vec<TaskId>, terminate: bool) -> Option<Value> {
        let ask = ids.clone();
        let running = self.ask(|answer| Ask::Revoke { ids: ask, terminate, answer }).await?;
        for id in ids.iter().filter(|id| !running.contains(id)) {
            self.take_back(id).await;
        }
        self.revoked.extend(ids.iter().cloned());
        while self.revoked.len() > REVOKED {
            self.revoked.pop_front();
        }
        let names: Vec<&str> = ids.iter().map(TaskId::as_str).collect();
        Some(match (terminate, running.is_empty()) {
            (true, true) => ok("terminate: tasks unknown"),
            (true, false) => ok(&format!(
                "terminate: {}",
                running.iter().map(TaskId::as_str).collect::<Vec<_>>().join(", ")
            )),
            (false, _) => ok(&format!("tasks {} flagged as revoked", names.join(", "))),
        })
    }

    /// Cancels a task that no worker runs, and says so to whoever waits for its result.
    async fn take_back(&self, id: &TaskId) {
        let told = async {
            let is_unknown = match self.queue.engine().find(id).await? {
                None => true,
                Some(record) if record.state == State::Running => false,
                Some(record) if record.state.is_final() => false,
                Some(_) => self.queue.engine().cancel(id).await?,
            };
            if is_unknown { self.wire.revoked(id).await } else { Ok(()) }
        };
        if let Err(error) = told.await {
            tracing::warn!(error = ?error, task.id = %id, "cannot revoke task {id}: {error}");
        }
    }
}

fn ok(words: &str) -> Value {
    json!({"ok": words})
}

/// One id or several.
fn ids(value: Option<&Value>) -> Vec<TaskId> {
    match value {
        Some(Value::String(id)) => vec![id.as_str().into()],
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_str).map(TaskId::from).collect(),
        _ => Vec::new(),
    }
}

/// Ids that are remembered as revoked.
const REVOKED: usize = 10_000;
