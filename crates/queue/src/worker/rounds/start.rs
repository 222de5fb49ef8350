//! From leased to running, or to an end without a run.

use std::time::Duration;

use super::{Rounds, Started};
use crate::{
    engine::{Claimed, Verdict},
    metrics,
    worker::{
        course::Course,
        one::{self, Finished},
    },
};

impl Rounds {
    pub(super) fn start_ready(&mut self) {
        while self.weight < self.config.concurrency && !self.is_draining {
            let Some((claimed_at, claimed)) = self.ready.pop_front() else { break };
            let handler = self.handlers.get(claimed.message.name()).cloned();
            let weight = handler.as_ref().map_or(0, |handler| handler.policy.weight.max(1));
            if self.weight > 0 && self.weight + weight > self.config.concurrency {
                // It keeps its turn: lighter ones behind it would never let it have its places.
                self.ready.push_front((claimed_at, claimed));
                break;
            }
            // What waited longer than its lease may belong to another by now.
            if self.clock.elapsed().saturating_sub(claimed_at) > self.config.lease {
                self.end(claimed.lease, Verdict::Release);
                continue;
            }
            if claimed.message.expires_ms().is_some_and(|at_ms| at_ms < self.clock.now_ms()) {
                if let Some(desk) = &self.desk {
                    desk.teller.revoked(&claimed.lease.id, true);
                }
                self.end(claimed.lease, Verdict::Expire);
                continue;
            }
            if let Some(desk) = &self.desk
                && desk.is_revoked(&claimed.lease.id)
            {
                desk.teller.revoked(&claimed.lease.id, false);
                self.end(claimed.lease, Verdict::Cancel);
                continue;
            }
            let Some(handler) = handler else {
                self.park(claimed);
                continue;
            };
            let claimed = match handler.policy.is_limited() {
                false => claimed,
                true => match self.in_turn(claimed_at, claimed, &handler.policy) {
                    Some(claimed) => claimed,
                    None => continue,
                },
            };
            let lease = claimed.lease.clone();
            let (course, run) = one::start(claimed, &handler, weight, self.queue.clone());
            self.weight += weight;
            if let Some(desk) = &self.desk {
                desk.teller.started(&course.message);
            }
            let at_ms = self.clock.now_ms();
            self.running.insert(lease, Started { course, at_ms });
            self.tasks.spawn(run);
        }
        metrics::running(self.running.len());
    }

    fn park(&mut self, claimed: Claimed) {
        let (name, id) = (claimed.message.name(), &claimed.lease.id);
        if self.unknown.len() < MAX_UNKNOWN && self.unknown.insert(name.to_owned()) {
            tracing::warn!(task.id = %id, task.name = name, "parked task {id}: no handler here is called {name}; it runs when a worker that has one starts");
        } else {
            tracing::debug!(task.id = %id, task.name = name, "parked task {id} ({name})");
        }
        self.end(claimed.lease, Verdict::Park);
    }

    pub(super) fn finish(&mut self, finished: Finished) {
        let Finished { course, weight, ended, took } = finished;
        let Course { lease, message, .. } = &*course;
        if let Some(desk) = &self.desk {
            desk.teller.ended(message, ended.as_ref().map(|ended| &ended.verdict), took);
        }
        self.weight -= weight;
        self.running.remove(lease);
        self.report.ran += 1;
        self.short_runs += usize::from(took < SHORT);
        match ended {
            Some(ended) => self.ended.push(ended),
            None => self.forget_suspect(lease),
        }
    }
}

/// A run under this is short: tasks like it are leased ahead.
const SHORT: Duration = Duration::from_millis(50);
/// Names that are logged as unknown once each; after that many, none are.
const MAX_UNKNOWN: usize = 1000;
