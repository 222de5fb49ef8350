//! Leases and ends, and Celery's own result beside ours.

use std::time::Duration;

use ::redis::RedisError;
use serde_json::Value;

use super::{Redis, ready::IGNORES};
use crate::engine::{Ended, Lease, OVER_RATE, Tended, Verdict, celery};

impl Redis {
    pub(super) async fn extend_leases(
        &self,
        leases: &[Lease],
        by: Duration,
    ) -> Result<Vec<Lease>, RedisError> {
        let mut lost = Vec::new();
        for leases in leases.chunks(CHUNK) {
            let mut call = self.call(&self.scripts.extend, 1 + leases.len() * 2, leases.len() * 80);
            call.arg(self.in_ms(by));
            for lease in leases {
                call.arg(lease.id.as_str()).arg(&*lease.token);
            }
            let held: Vec<bool> = self.invoke(&self.scripts.extend, &call).await?;
            let gone = leases.iter().zip(held).filter(|(_, is_held)| !is_held);
            lost.extend(gone.map(|(lease, _)| lease.clone()));
        }
        Ok(lost)
    }

    pub(super) async fn settle_ended(&self, ended: &[Ended]) -> Result<Vec<bool>, RedisError> {
        let mut recorded = Vec::with_capacity(ended.len());
        let now_ms = self.clock.now_ms();
        for ended in ended.chunks(CHUNK) {
            let mut call = self.call(&self.scripts.settle, ended.len() * 7, ended.len() * 128);
            for Ended { lease, verdict } in ended {
                let (kind, at_ms, reason) = described(verdict);
                call.arg(lease.id.as_str()).arg(&*lease.token).arg(kind).arg(at_ms).arg(reason);
                match verdict {
                    Verdict::Done(Value::Null) => call.arg("null"),
                    Verdict::Done(result) => call.arg(result.to_string()),
                    _ => call.arg(""),
                };
                let result = match lease.row {
                    IGNORES => None,
                    _ => celery::result(&lease.id, verdict, now_ms),
                };
                match result {
                    Some(result) => call.arg(result.to_string()),
                    None => call.arg(""),
                };
            }
            recorded.extend(self.invoke::<Vec<bool>>(&self.scripts.settle, &call).await?);
        }
        if ended.iter().any(|ended| ended.verdict == Verdict::Release) {
            self.signals.ready();
        }
        self.signals.finished();
        Ok(recorded)
    }

    pub(super) async fn tend_tasks(&self, max_crashes: u32) -> Result<Tended, RedisError> {
        let arguments = [max_crashes];
        let (requeued, buried, expired, has_unfollowed) =
            self.run(&self.scripts.tend, &arguments).await?;
        if requeued > 0 {
            self.signals.ready();
        }
        // Also of queues that only Celery's workers serve, which know nothing of what waits here.
        let queues = self.queues().await?;
        self.promote(&queues).await?;
        Ok(Tended { requeued, buried, expired, forgotten: 0, has_unfollowed })
    }
}

/// A verdict as the script takes it: its name, its time, its reason.
fn described(verdict: &Verdict) -> (&'static str, i64, &str) {
    match verdict {
        Verdict::Done(_) => ("done", 0, ""),
        Verdict::Dead(reason) => ("dead", 0, reason),
        Verdict::Retry { at_ms, reason } => ("retry", *at_ms, reason),
        Verdict::Later { at_ms } => ("later", *at_ms, OVER_RATE),
        Verdict::Park => ("park", 0, "no worker that met it knows a task of this name"),
        Verdict::Expire => ("expired", 0, "expired before it started"),
        Verdict::Release => ("release", 0, ""),
        Verdict::Cancel => ("cancelled", 0, "revoked"),
        Verdict::Moved => ("moved", 0, ""),
    }
}

const CHUNK: usize = 500;
