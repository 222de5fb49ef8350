//! What checks and answers tell about one back end.

use std::time::Duration;

use super::Status;
use crate::config::Health;

#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) is_draining: bool,
    is_down: bool,
    /// Checks in a row that say the opposite of `is_down`.
    contrary_checks: u32,
    failures_in_row: u32,
    /// Ejections since the last good answer.
    ejections: u32,
    ejected_until: Option<Duration>,
    /// When it last began to get requests again.
    up_since: Option<Duration>,
    average_us: f64,
    average_at: Duration,
}

impl Record {
    pub(super) fn status(&self, now: Duration) -> Status {
        if self.is_draining {
            Status::Draining
        } else if self.is_down {
            Status::Down
        } else if self.ejected_until.is_some_and(|until| now < until) {
            Status::Ejected
        } else {
            Status::Up
        }
    }

    pub(super) fn answered(
        &mut self,
        health: &Health,
        now: Duration,
        took: Duration,
        is_good: bool,
    ) -> bool {
        self.observe(now, took);
        if is_good {
            (self.failures_in_row, self.ejections) = (0, 0);
            return false;
        }
        self.failures_in_row += 1;
        let is_out = self.ejected_until.is_some_and(|until| now < until);
        if self.failures_in_row < health.eject_after || is_out {
            return false;
        }
        self.failures_in_row = 0;
        self.ejections = (self.ejections + 1).min(MOST_EJECTIONS);
        let until = now + Duration::from_millis(health.eject_ms * u64::from(self.ejections));
        self.ejected_until = Some(until);
        self.up_since = Some(until);
        true
    }

    pub(super) fn checked(&mut self, health: &Health, now: Duration, is_passed: bool) -> bool {
        if is_passed != self.is_down {
            self.contrary_checks = 0;
            return false;
        }
        self.contrary_checks += 1;
        let needed = if self.is_down { health.rise } else { health.fall };
        if self.contrary_checks < needed {
            return false;
        }
        self.contrary_checks = 0;
        self.is_down = !self.is_down;
        if !self.is_down {
            self.up_since = Some(now);
            // What it was before it went down says nothing any more.
            self.ejected_until = None;
            (self.failures_in_row, self.ejections) = (0, 0);
        }
        true
    }

    /// Expected answer time in microseconds, and the share that it may have while it warms up.
    pub(super) fn expected(&self, health: &Health, now: Duration) -> (f64, f64) {
        let share = match self.up_since {
            Some(since) if health.slow_start_ms > 0 => {
                let up_ms = now.saturating_sub(since).as_millis() as f64;
                (up_ms / health.slow_start_ms as f64).clamp(LEAST_SHARE, 1.0)
            }
            _ => 1.0,
        };
        let decayed = self.average_us * self.decay(now);
        (decayed.max(LEAST_US), share)
    }

    /// A slow answer counts at once, a quick one little by little.
    fn observe(&mut self, now: Duration, took: Duration) {
        let took_us = took.as_micros() as f64;
        let kept = self.decay(now);
        self.average_us = match took_us > self.average_us {
            true => took_us,
            false => self.average_us * kept + took_us * (1.0 - kept),
        };
        self.average_at = now;
    }

    fn decay(&self, now: Duration) -> f64 {
        let since = now.saturating_sub(self.average_at).as_secs_f64();
        (-since / DECAY_S).exp()
    }
}

const MOST_EJECTIONS: u32 = 30;
const LEAST_SHARE: f64 = 0.1;
/// A back end that nothing is known of is taken to answer in a millisecond.
const LEAST_US: f64 = 1_000.0;
const DECAY_S: f64 = 10.0;
