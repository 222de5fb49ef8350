//! The heartbeat: what is held stays ours, or is stopped here.

use futures_util::future::FutureExt as _;

use super::{Event, Rounds};
use crate::{
    Result,
    engine::{Lease, Verdict},
    metrics,
};

impl Rounds {
    /// The heartbeat: everything that is held, from claimed to being recorded.
    pub(super) fn extend(&mut self) {
        let waiting = self.ready.iter().map(|(_, claimed)| &claimed.lease);
        let ending = self.ended.iter().chain(&self.settling).map(|ended| &ended.lease);
        let paced = self.pace.held().map(|claimed| &claimed.lease);
        let held = waiting.chain(self.running.keys()).chain(ending).chain(paced);
        let held: Vec<Lease> = held.cloned().collect();
        if held.is_empty() || self.is_extending {
            return;
        }
        let (engine, by) = (self.queue.engine().clone(), self.config.lease);
        self.is_extending = true;
        let request = async move { Event::Extended(engine.extend(&held, by).await) };
        self.requests.push(request.boxed());
    }

    pub(super) fn extended(&mut self, lost: Result<Vec<Lease>>) {
        self.is_extending = false;
        let lost = match lost {
            Ok(lost) => lost,
            Err(error) => {
                tracing::warn!(error = ?error, "cannot prolong leases: {error}");
                return;
            }
        };
        let now = self.clock.elapsed();
        for lease in lost {
            self.ready.retain(|(_, claimed)| claimed.lease != lease);
            self.pace.forget(&lease);
            self.forget_suspect(&lease);
            if let Some(started) = self.running.remove(&lease) {
                let id = &lease.id;
                metrics::lost();
                tracing::warn!(task.id = %id, "stopped task {id}: it was cancelled or its lease was lost");
                started.course.stop();
            }
        }
        for (claimed_at, _) in &mut self.ready {
            *claimed_at = now;
        }
        self.pace.prolonged(now);
    }

    /// What was leased ahead and still waits goes to whoever is free.
    pub(super) fn give_back_stale(&mut self) {
        let is_full = self.weight >= self.config.concurrency;
        if is_full && self.report.ran == self.ran_before {
            self.short_runs = 0;
            self.release_ready();
        }
        self.ran_before = self.report.ran;
    }

    pub(super) fn release_ready(&mut self) {
        for (_, claimed) in std::mem::take(&mut self.ready) {
            self.end(claimed.lease, Verdict::Release);
        }
    }
}
