//! A value, with the times of its life and the tags that end it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::life::Times;

/// A value and the times of its life, in milliseconds of the clock's elapsed time.
pub(crate) struct Entry<V> {
    pub(crate) value: V,
    pub(crate) version: Option<i64>,
    pub(crate) tags: Box<[Tag]>,
    /// From here a lucky reader refreshes early.
    pub(crate) early_from_ms: i64,
    pub(crate) fresh_until_ms: i64,
    pub(crate) stale_until_ms: i64,
    pub(crate) kept_until_ms: i64,
    /// How long loading took.
    pub(crate) load_ms: i64,
    /// Not refreshed before this: the last attempt failed.
    pub(crate) retry_at_ms: AtomicI64,
    pub(crate) weight: u64,
}

/// A tag's generation when a value was stored, beside the tag itself.
pub(crate) struct Tag {
    pub(crate) name: Arc<str>,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) then: u64,
}

impl<V> Entry<V> {
    /// An entry whose life begins at `now_ms`.
    pub(crate) fn new(value: V, times: Times, now_ms: i64, weight: u64) -> Self {
        let fresh_until_ms = now_ms.saturating_add(millis(times.ttl));
        let stale_until_ms = fresh_until_ms.saturating_add(millis(times.grace));
        Self {
            value,
            version: None,
            tags: Box::default(),
            early_from_ms: fresh_until_ms,
            fresh_until_ms,
            stale_until_ms,
            kept_until_ms: stale_until_ms.saturating_add(millis(times.fail_safe)),
            load_ms: 0,
            retry_at_ms: AtomicI64::new(0),
            weight,
        }
    }

    /// Takes the value's life: whoever has it may use it, and nobody finds it.
    pub(crate) fn end(&mut self) {
        self.early_from_ms = i64::MIN;
        self.fresh_until_ms = i64::MIN;
        self.stale_until_ms = i64::MIN;
        self.kept_until_ms = i64::MIN;
    }

    /// Whether a tag of the value was expired since it was stored.
    pub(crate) fn is_expired_by_tag(&self) -> bool {
        self.tags.iter().any(Tag::is_expired)
    }
}

impl Tag {
    pub(crate) fn is_expired(&self) -> bool {
        self.now.load(Ordering::Acquire) != self.then
    }

    pub(crate) fn again(&self) -> Self {
        Self { name: Arc::clone(&self.name), now: Arc::clone(&self.now), then: self.then }
    }
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
