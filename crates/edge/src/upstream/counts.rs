//! What became of the requests that one back end got.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::StatusCode;

use super::Cause;

/// Counts since the server was made.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    requests: AtomicU64,
    answers: [AtomicU64; 5],
    unconnected: AtomicU64,
    broken: AtomicU64,
    failed_checks: AtomicU64,
    downs: AtomicU64,
    changed_ms: AtomicU64,
}

impl Counts {
    pub(super) fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.answers[class].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, cause: Cause) {
        let figure = match cause {
            Cause::Connect => &self.unconnected,
            _ if cause.is_visitors() => return,
            _ => &self.broken,
        };
        figure.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn checked(&self, is_passed: bool, has_changed: bool, now: Duration) {
        if !is_passed {
            self.failed_checks.fetch_add(1, Ordering::Relaxed);
        }
        if has_changed {
            self.downs.fetch_add(u64::from(!is_passed), Ordering::Relaxed);
            let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.changed_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Answers by class of status, from 1xx on.
    pub(crate) fn answers(&self) -> [u64; 5] {
        self.answers.each_ref().map(|figure| figure.load(Ordering::Relaxed))
    }

    /// Requests that found no connection, and those whose connection brought no answer.
    pub(crate) fn failures(&self) -> (u64, u64) {
        (self.unconnected.load(Ordering::Relaxed), self.broken.load(Ordering::Relaxed))
    }

    /// Checks that failed, and how often they took the server out.
    pub(crate) fn checks(&self) -> (u64, u64) {
        (self.failed_checks.load(Ordering::Relaxed), self.downs.load(Ordering::Relaxed))
    }

    /// How often checks took it out.
    pub(crate) fn downs(&self) -> u64 {
        self.downs.load(Ordering::Relaxed)
    }

    /// When checks last took it out or brought it back.
    pub(crate) fn changed(&self) -> Duration {
        Duration::from_millis(self.changed_ms.load(Ordering::Relaxed))
    }
}
