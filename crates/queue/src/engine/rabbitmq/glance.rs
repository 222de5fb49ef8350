//! What a claim must know of the books before it takes anything, as of a moment ago.
//!
//! Reading it anew for each claim would cost more than a claim of light tasks does. What changes by
//! this process is seen at once; what another process pauses or pushes for later, a little later.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Broker;
use crate::{
    Result,
    engine::{Ended, Engine as _, Verdict},
};

/// What the books said.
#[derive(Clone, Debug)]
pub(super) struct Glance {
    pub(super) paused: Vec<String>,
    pub(super) next_due_ms: Option<i64>,
    /// Whether they were read just now.
    pub(super) is_new: bool,
    /// Whether a claim has used them that was due to read them.
    is_stretched: bool,
    since: Instant,
    since_ms: i64,
}

/// The last glance.
#[derive(Debug, Default)]
pub(super) struct Last(Mutex<Option<Glance>>);

impl Last {
    /// Has the books read again by the next claim.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    /// As [`forget`](Self::forget), if one of these waits for a time or for whoever is left.
    pub(super) fn forget_after(&self, ended: &[Ended]) {
        let waits = |ended: &Ended| !matches!(ended.verdict, Verdict::Done(_) | Verdict::Dead(_));
        if ended.iter().any(waits) {
            self.forget();
        }
    }

    /// The last glance, if it may still be used. A claim for which something `has_come` does not
    /// wait for the books when they are a little old: the next one reads them.
    fn fresh(&self, now_ms: i64, has_come: bool) -> Option<Glance> {
        let mut last = self.lock();
        let last = last.as_mut()?;
        let age_ms = u64::try_from(now_ms - last.since_ms).ok()?;
        let age = last.since.elapsed().max(Duration::from_millis(age_ms));
        if last.next_due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            return None;
        }
        if age >= FRESH {
            if !has_come || last.is_stretched || age >= LONGEST {
                return None;
            }
            last.is_stretched = true;
        }
        Some(Glance { is_new: false, ..last.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Glance>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Looks into the books if the last look was too long ago, and sends what has become due.
    pub(super) async fn glance(&self, queues: &[String]) -> Result<Glance> {
        let since_ms = self.clock.now_ms();
        let has_come = queues.iter().any(|queue| self.store.count(queue) > 0);
        if let Some(fresh) = self.last.fresh(since_ms, has_come) {
            return Ok(fresh);
        }
        let since = Instant::now();
        let (has_promoted, next_due_ms) = self.carrier.ledger.promote_due().await?;
        if has_promoted {
            self.carrier.carry().await?;
        }
        let paused = self.carrier.ledger.paused().await?;
        let (is_new, is_stretched) = (true, false);
        let glance = Glance { paused, next_due_ms, is_new, is_stretched, since, since_ms };
        *self.last.lock() = Some(glance.clone());
        Ok(glance)
    }
}

const FRESH: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(1);
