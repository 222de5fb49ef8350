//! How much to claim, and when to look again.

use std::time::Duration;

use futures_util::future::FutureExt as _;

use super::{Event, FIRST_POLL, Rounds};
use crate::{
    Result,
    engine::{Batch, Claim, Lease},
};

impl Rounds {
    /// How many tasks to claim. Tasks are leased ahead only while they are short: then a batch
    /// saves commits; a long one would make those leased behind it wait.
    pub(super) fn wants(&self) -> usize {
        let ahead = self.config.prefetch.min(self.short_runs * 2);
        let held = self.weight + self.ready.len() + self.pace.in_question();
        let room = (self.config.concurrency + ahead).saturating_sub(held);
        // While there is a store, it is filled up in large steps only.
        if self.ready.len() > ahead / 4 { 0 } else { room.min(AT_ONCE) }
    }

    pub(super) fn claim(&mut self) {
        let limit = self.wants();
        let engine = self.queue.engine().clone();
        let (config, names) = (self.config.clone(), self.names.clone());
        let takes_suspect = self.suspect.is_none();
        self.is_claiming = true;
        self.short_runs = 0;
        let request = async move {
            let claim = Claim {
                worker: &config.name,
                queues: &config.queues,
                names: names.as_ref().map(|names| names.as_slice()),
                limit,
                takes_suspect,
                lease: config.lease,
            };
            Event::Claimed(engine.claim(&claim).await, limit)
        };
        self.requests.push(request.boxed());
    }

    pub(super) fn claimed(&mut self, batch: Result<Batch>, asked: usize) {
        self.is_claiming = false;
        let batch = batch.unwrap_or_else(|error| {
            tracing::warn!(error = ?error, "cannot claim tasks: {error}");
            self.poll = self.config.poll;
            Batch::default()
        });
        let found = batch.tasks.len();
        let now = self.clock.elapsed();
        for claimed in batch.tasks {
            if claimed.crashes >= SUSPECT_CRASHES {
                self.suspect = Some(claimed.lease.clone());
            }
            if let Some(desk) = &self.desk {
                desk.teller.received(&claimed.message);
            }
            self.ready.push_back((now, claimed));
        }
        self.may_have_more = found >= asked;
        if found > 0 {
            self.poll = FIRST_POLL;
        }
        if self.is_draining {
            self.release_ready();
            return;
        }
        if !self.may_have_more {
            // Looking again ever less often, but in time for the next task that waits.
            let due_ms = batch.next_due_ms.map(|due_ms| due_ms - self.clock.now_ms());
            let due = due_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
            self.looks += 1;
            self.after(self.poll.min(due.unwrap_or(self.poll)), Event::Look(self.looks));
            self.poll = (self.poll * 2).min(self.config.poll);
            self.listen();
        }
    }

    fn listen(&mut self) {
        // A list with tasks of other names would be told at once, again and again.
        if self.is_listening || self.names.is_some() {
            return;
        }
        let (engine, config) = (self.queue.engine().clone(), self.config.clone());
        self.is_listening = true;
        let request = async move {
            engine.arrival(&config.queues).await;
            Event::Arrived
        };
        self.requests.push(request.boxed());
    }

    pub(super) fn forget_suspect(&mut self, lease: &Lease) {
        if self.suspect.as_ref() == Some(lease) {
            self.suspect = None;
        }
    }
}

/// As many dead workers make a task a suspect.
const SUSPECT_CRASHES: u32 = 2;
/// Tasks of one claim: the first of thousands run while the next are brought, and what a broker answers
/// stays small.
const AT_ONCE: usize = 1000;
