//! Recording how tasks ended, many to a commit.

use std::time::Duration;

use futures_util::future::FutureExt as _;

use super::{Event, Rounds};
use crate::{Result, engine::Verdict, metrics};

impl Rounds {
    pub(super) fn settle(&mut self) {
        if self.ended.is_empty() || !self.settling.is_empty() {
            return;
        }
        let most = self.ended.len().min(MAX_SETTLED);
        self.settling = self.ended.drain(..most).collect();
        self.send_settling(Duration::ZERO);
    }

    fn send_settling(&self, wait: Duration) {
        let (engine, ended) = (self.queue.engine().clone(), self.settling.clone());
        let clock = self.clock.clone();
        let request = async move {
            if !wait.is_zero() {
                clock.sleep(wait).await;
            }
            Event::Settled(engine.settle(&ended).await)
        };
        self.requests.push(request.boxed());
    }

    pub(super) fn settled(&mut self, recorded: Result<Vec<bool>>) {
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(error) => {
                // The leases are prolonged meanwhile, so that nobody else runs what is done.
                tracing::warn!(error = ?error, "cannot record how tasks ended: {error}");
                self.send_settling(SETTLE_AGAIN);
                return;
            }
        };
        for (ended, is_recorded) in std::mem::take(&mut self.settling).into_iter().zip(recorded) {
            self.forget_suspect(&ended.lease);
            self.report.given_back += u64::from(ended.verdict == Verdict::Release);
            if !is_recorded {
                let id = &ended.lease.id;
                metrics::lost();
                tracing::warn!(task.id = %id, "lost the lease of task {id}: how it ended here is not recorded");
            }
        }
    }
}

const SETTLE_AGAIN: Duration = Duration::from_millis(250);
const MAX_SETTLED: usize = 500;
