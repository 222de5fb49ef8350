//! Questions to a worker that runs, and orders: what it holds, what it is to stop, how much it takes on.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{
    Handler,
    rounds::{Event, Rounds, Started},
};
use crate::{Message, Policy, Rate, TaskId, celery::Teller, engine::Verdict};

/// What a worker is asked or told.
#[derive(Debug)]
pub(crate) enum Ask {
    /// What it holds and how it is set.
    Look(oneshot::Sender<Held>),
    /// Not to run these; the answer has those that run here, which are stopped if so told.
    Revoke { ids: Vec<TaskId>, terminate: bool, answer: oneshot::Sender<Vec<TaskId>> },
    /// New time limits in seconds for a task.
    Limits { name: String, soft: Option<f64>, hard: Option<f64>, answer: oneshot::Sender<Value> },
    /// A new rate for a task here, or none.
    Rate { name: String, rate: Option<Rate>, answer: oneshot::Sender<bool> },
    /// To run so many more at once.
    Grow(i64),
    /// To serve one more queue.
    Serve(String),
    /// To serve a queue no longer.
    Leave(String),
}

/// What a worker holds and how it is set.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) active: Vec<Seen>,
    pub(crate) reserved: Vec<Seen>,
    pub(crate) tasks: Vec<(String, Policy)>,
    pub(crate) queues: Vec<String>,
    pub(crate) concurrency: usize,
    pub(crate) prefetch: usize,
}

/// A task as it is held.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) message: Message,
    /// When it was started, if it was.
    pub(crate) started_ms: Option<i64>,
}

/// A worker's side of it.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) teller: Teller,
    pub(super) revoked: HashSet<TaskId>,
}

impl Desk {
    pub(crate) fn new(asks: mpsc::Receiver<Ask>, teller: Teller) -> Self {
        Self { asks, teller, revoked: HashSet::new() }
    }
}

/// The next question, as one of the events of the worker's loop.
pub(super) async fn next(mut asks: mpsc::Receiver<Ask>) -> Event {
    match asks.recv().await {
        Some(ask) => Event::Asked(ask, asks),
        None => std::future::pending().await,
    }
}

impl Rounds {
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Look(answer) => drop(answer.send(self.held())),
            Ask::Revoke { ids, terminate, answer } => {
                let running = self.revoke(&ids, terminate);
                let _ = answer.send(running);
            }
            Ask::Limits { name, soft, hard, answer } => {
                let limit = |seconds: Option<f64>| {
                    seconds.and_then(|s| Duration::try_from_secs_f64(s).ok())
                };
                let told = match self.handlers.get_mut(&name) {
                    Some(handler) => {
                        handler.policy.soft_limit = limit(soft);
                        handler.policy.hard_limit = limit(hard);
                        json!({"ok": "time limits set successfully"})
                    }
                    None => json!({"error": "unknown task"}),
                };
                let _ = answer.send(told);
            }
            Ask::Rate { name, rate, answer } => {
                let handler = self.handlers.get_mut(&name);
                let is_known = handler.map(|handler| handler.policy.rate = rate).is_some();
                self.pace.reset(&name);
                self.may_have_more = true;
                let _ = answer.send(is_known);
            }
            Ask::Grow(by) => {
                let config = Arc::make_mut(&mut self.config);
                let by = isize::try_from(by).unwrap_or(0);
                config.concurrency = config.concurrency.saturating_add_signed(by).max(1);
                self.may_have_more = true;
            }
            Ask::Serve(queue) => {
                if !self.config.queues.contains(&queue) && !queue.is_empty() {
                    Arc::make_mut(&mut self.config).queues.push(queue);
                    self.may_have_more = true;
                }
            }
            Ask::Leave(queue) => {
                Arc::make_mut(&mut self.config).queues.retain(|name| *name != queue);
            }
        }
    }

    fn held(&self) -> Held {
        let ready = self.ready.iter().map(|(_, claimed)| claimed);
        let reserved = ready
            .chain(self.pace.held())
            .map(|claimed| Seen { message: claimed.message.clone(), started_ms: None });
        let of = |(name, handler): (&String, &Handler)| (name.clone(), handler.policy);
        let mut tasks: Vec<(String, Policy)> = self.handlers.iter().map(of).collect();
        tasks.sort_by(|one, other| one.0.cmp(&other.0));
        Held {
            active: self.running.values().map(Started::seen).collect(),
            reserved: reserved.collect(),
            tasks,
            queues: self.config.queues.clone(),
            concurrency: self.config.concurrency,
            prefetch: self.config.prefetch,
        }
    }

    fn revoke(&mut self, ids: &[TaskId], terminate: bool) -> Vec<TaskId> {
        let leases: Vec<_> =
            self.running.keys().filter(|lease| ids.contains(&lease.id)).cloned().collect();
        let running = leases.iter().map(|lease| lease.id.clone()).collect();
        for lease in leases.into_iter().filter(|_| terminate) {
            if let Some(started) = self.running.remove(&lease) {
                started.course.stop();
                self.end(lease, Verdict::Cancel);
            }
        }
        if let Some(desk) = &mut self.desk {
            if desk.revoked.len() > MOST_REVOKED {
                desk.revoked.clear();
            }
            desk.revoked.extend(ids.iter().cloned());
        }
        running
    }
}

/// Ids of tasks that are not to start; Celery remembers some too, and for a while.
const MOST_REVOKED: usize = 50_000;
