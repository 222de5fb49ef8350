//! Leases and ends, and Celery's own result beside ours.

use std::time::Duration;

use ::redis::RedisError;

use super::Redis;
use crate::engine::{Ended, Lease, Tended, Verdict, celery};

impl Redis {
    pub(super) async fn extend_leases(
        &self,
        leases: &[Lease],
        by: Duration,
    ) -> Result<Vec<Lease>, RedisError> {
        let mut lost = Vec::new();
        for leases in leases.chunks(CHUNK) {
            let mut arguments = vec![self.in_ms(by).to_string()];
            arguments.extend(
                leases.iter().flat_map(|lease| [lease.id.to_string(), lease.token.to_string()]),
            );
            let held: Vec<bool> = self.run(&self.scripts.extend, &arguments).await?;
            let gone = leases.iter().zip(held).filter(|(_, is_held)| !is_held);
            lost.extend(gone.map(|(lease, _)| lease.clone()));
        }
        Ok(lost)
    }

    pub(super) async fn settle_ended(&self, ended: &[Ended]) -> Result<Vec<bool>, RedisError> {
        let mut recorded = Vec::with_capacity(ended.len());
        for ended in ended.chunks(CHUNK) {
            let mut arguments = Vec::with_capacity(ended.len() * 7);
            for Ended { lease, verdict } in ended {
                let end = End::of(verdict);
                arguments.extend([lease.id.to_string(), lease.token.to_string()]);
                arguments.extend([
                    end.kind.to_owned(),
                    end.at_ms.to_string(),
                    end.reason,
                    end.result,
                ]);
                let result = celery::result(&lease.id, verdict, self.clock.now_ms());
                arguments.push(result.map(|result| result.to_string()).unwrap_or_default());
            }
            recorded.extend(self.run::<Vec<bool>>(&self.scripts.settle, &arguments).await?);
        }
        if ended.iter().any(|ended| ended.verdict == Verdict::Release) {
            self.signals.ready();
        }
        self.signals.finished();
        Ok(recorded)
    }

    pub(super) async fn tend_tasks(&self, max_crashes: u32) -> Result<Tended, RedisError> {
        let arguments = [max_crashes];
        let (requeued, buried, expired) = self.run(&self.scripts.tend, &arguments).await?;
        if requeued > 0 {
            self.signals.ready();
        }
        // Also of queues that only Celery's workers serve, which know nothing of what waits here.
        let queues = self.queues().await?;
        self.promote(&queues).await?;
        Ok(Tended { requeued, buried, expired, forgotten: 0 })
    }
}

/// A verdict as the script takes it.
struct End {
    kind: &'static str,
    at_ms: i64,
    reason: String,
    result: String,
}

impl End {
    fn of(verdict: &Verdict) -> Self {
        let end = |kind, reason: &str| Self {
            kind,
            at_ms: 0,
            reason: reason.to_owned(),
            result: String::new(),
        };
        match verdict {
            Verdict::Done(result) => Self { result: result.to_string(), ..end("done", "") },
            Verdict::Dead(reason) => end("dead", reason),
            Verdict::Retry { at_ms, reason } => Self { at_ms: *at_ms, ..end("retry", reason) },
            Verdict::Park => end("park", "no worker that met it knows a task of this name"),
            Verdict::Expire => end("expired", "expired before it started"),
            Verdict::Release => end("release", ""),
        }
    }
}

const CHUNK: usize = 500;
