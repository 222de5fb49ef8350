//! Puts the origin's body into the store while visitors already read it.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;

use super::{Cache, content::Broken, entry::Entry};

/// Takes the body of one answer. Dropping it before [`finish`](Filling::finish) says that the body
/// broke off: its readers get an error and nothing stays stored.
#[derive(Debug)]
#[must_use]
pub struct Filling {
    cache: Cache,
    entry: Arc<Entry>,
    declared: Option<u64>,
    is_kept: bool,
    is_done: bool,
}

impl Filling {
    pub(super) fn new(cache: &Cache, entry: Arc<Entry>, declared: Option<u64>) -> Self {
        Self { cache: cache.clone(), entry, declared, is_kept: true, is_done: false }
    }

    /// Returns when more may be pushed; an error when nobody wants it any more.
    pub async fn room(&self) -> Result<(), Broken> {
        poll_fn(|cx| self.entry.content.poll_room(cx)).await
    }

    /// Adds the next bytes of the body.
    pub fn push(&mut self, chunk: Bytes) {
        let inner = &self.cache.inner;
        let length = self.entry.content.push(chunk, &inner.store.total);
        if self.is_kept && length > inner.policy.max_object_bytes {
            self.is_kept = false;
            self.entry.content.let_go();
            let pause = std::time::Duration::from_millis(inner.policy.hit_for_miss_ms);
            self.leave(Some(inner.clock.elapsed() + pause));
        }
        if self.is_kept {
            inner.store.make_room();
        }
    }

    /// The body is whole.
    pub fn finish(mut self) {
        let has_all = self.declared.is_none_or(|declared| declared == self.entry.content.length());
        if has_all {
            self.entry.content.finish();
            self.is_done = true;
            if self.is_kept {
                self.cache.shelve(&self.entry);
            }
        }
    }

    /// Takes the entry out of the store.
    fn leave(&self, pass_until: Option<std::time::Duration>) {
        let total = &self.cache.inner.store.total;
        self.cache.inner.store.with(&self.entry.key, |slot| {
            slot.take_out(total, |other| Arc::ptr_eq(&other.content, &self.entry.content));
            slot.pass_until = pass_until.or(slot.pass_until);
        });
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if !self.is_done {
            self.entry.content.abort();
            self.leave(None);
        }
    }
}
