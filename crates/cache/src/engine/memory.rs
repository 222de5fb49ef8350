//! The embedded engine: the same store that every cache has in its process, as an engine.

use std::{str, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use throng_core::Clock;

use crate::{
    Error, Result,
    engine::{Claim, Engine, Item, Lease, Span},
    entry::{Entry, millis},
    life::Times,
    store::{Boarding, Store},
};

/// Keeps items in memory, bounded by bytes; what is used least goes first.
///
/// [`Cache::memory`](crate::Cache::memory) needs no engine, because its process is the store; this
/// one stands in for a shared engine, in tests and between caches of one process.
/// Clones share one store.
#[derive(Clone, Debug)]
pub struct Memory {
    store: Arc<Store<Item>>,
}

impl Memory {
    /// An engine of at most `max_bytes` that tells time by `clock`.
    #[must_use]
    pub fn new(max_bytes: u64, clock: Clock) -> Self {
        Self { store: Arc::new(Store::new(max_bytes, clock)) }
    }

    fn entry(&self, item: Item, span: Span) -> Entry<Item> {
        let times = Times { ttl: span.fresh, grace: span.stale, fail_safe: Duration::ZERO };
        let weight = item.bytes.len() as u64;
        Entry::new(item, times, self.store.now_ms(), weight)
    }
}

#[async_trait]
impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn get(&self, keys: &[&str]) -> Result<Vec<Option<Item>>> {
        let now_ms = self.store.now_ms();
        let live = |key: &&str| self.store.get(key).filter(|entry| now_ms < entry.stale_until_ms);
        Ok(keys.iter().map(|key| live(key).map(|entry| entry.value.clone())).collect())
    }

    async fn set(&self, key: &str, item: Item, span: Span) -> Result<()> {
        self.store.put(key, self.entry(item, span));
        Ok(())
    }

    async fn set_unless(
        &self,
        key: &str,
        item: Item,
        span: Span,
        beats: &(dyn for<'a> Fn(&'a Item) -> bool + Sync),
    ) -> Result<bool> {
        Ok(self.store.put_unless(key, self.entry(item, span), |old| beats(&old.value)))
    }

    async fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.store.remove(key))
    }

    async fn claim(&self, key: &str, stale: Duration, lease: Duration) -> Result<Claim> {
        loop {
            let now_ms = self.store.now_ms();
            let seen = self.store.get(key);
            let found = seen.as_ref().filter(|entry| now_ms < entry.stale_until_ms);
            if let Some(entry) = found
                && entry.stale_until_ms - now_ms > millis(stale)
            {
                return Ok(Claim::Fresh(entry.value.clone()));
            }
            let lease = match self.store.board(key, seen.as_ref(), Some(lease)) {
                Boarding::Lead(id, ..) => Some(Lease(id)),
                Boarding::Join(_) => None,
                Boarding::Changed => continue,
            };
            return Ok(match found {
                Some(entry) => Claim::Stale(entry.value.clone(), lease),
                None => Claim::Missing(lease),
            });
        }
    }

    async fn fill(&self, key: &str, lease: Lease, item: Item, span: Span) -> Result<bool> {
        Ok(self.store.land(key, lease.0, self.entry(item, span)))
    }

    async fn release(&self, key: &str, lease: Lease) -> Result<()> {
        self.store.cancel(key, lease.0);
        Ok(())
    }

    async fn set_count(&self, key: &str, count: i64, span: Span) -> Result<()> {
        self.set(key, digits(count), span).await
    }

    async fn add(&self, key: &str, by: i64) -> Result<Option<i64>> {
        let sum = self.store.change(key, |item| {
            let count = str::from_utf8(&item.bytes).ok().and_then(|text| text.parse::<i64>().ok());
            match count.map(|count| count.saturating_add(by).max(0)) {
                Some(sum) => (digits(sum), Some(sum)),
                None => (item.clone(), None),
            }
        });
        match sum {
            Some(None) => Err(Error::value("count", key, "it is not a counter")),
            sum => Ok(sum.flatten()),
        }
    }
}

fn digits(count: i64) -> Item {
    Item { bytes: Bytes::from(count.max(0).to_string()), flags: 0 }
}
