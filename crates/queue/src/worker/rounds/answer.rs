//! Answering whoever asks a worker that runs, and doing what it is told.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::mpsc;

use super::{Event, Rounds, Started};
use crate::{
    Policy, TaskId,
    engine::Verdict,
    worker::{
        Handler,
        ask::{Ask, Held, Seen},
    },
};

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
            desk.revoke(ids);
        }
        running
    }
}
