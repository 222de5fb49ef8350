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
    /// Where the body is only what was missing of the page.
    hole: Option<Hole>,
    is_kept: bool,
    is_done: bool,
}

/// What a body that fills a hole has to be.
#[derive(Debug)]
pub(super) struct Hole {
    /// How many bytes are still missing.
    pub(super) left: u64,
    /// Whether more came than was missing: it is not of this page.
    pub(super) is_overrun: bool,
    /// What follows them.
    pub(super) after: Vec<Bytes>,
}

impl Filling {
    pub(super) fn new(cache: &Cache, entry: Arc<Entry>, declared: Option<u64>) -> Self {
        Self { cache: cache.clone(), entry, declared, hole: None, is_kept: true, is_done: false }
    }

    pub(super) fn of_hole(mut self, hole: Hole) -> Self {
        self.hole = Some(hole);
        self
    }

    /// Returns when more may be pushed; an error when nobody wants it any more.
    pub async fn room(&self) -> Result<(), Broken> {
        if self.hole.as_ref().is_some_and(|hole| hole.is_overrun) {
            return Err(Broken);
        }
        poll_fn(|cx| self.entry.content.poll_room(cx)).await
    }

    /// Adds the next bytes of the body.
    pub fn push(&mut self, chunk: Bytes) {
        if let Some(hole) = &mut self.hole {
            hole.is_overrun |= hole.left < chunk.len() as u64;
            if hole.is_overrun {
                return self.entry.content.abort();
            }
            hole.left -= chunk.len() as u64;
        }
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
        if let Some(hole) = self.hole.take_if(|hole| hole.left == 0 && !hole.is_overrun) {
            let total = &self.cache.inner.store.total;
            for run in hole.after {
                self.entry.content.push(run, total);
            }
        }
        let has_all = self.hole.is_none()
            && self.declared.is_none_or(|declared| declared == self.entry.content.length());
        if has_all {
            self.entry.content.finish();
            self.is_done = true;
            if !self.is_kept {
                return;
            }
            let page = match self.entry.claim.is_some() {
                true => self.cache.join(&self.entry),
                false => Some(Arc::clone(&self.entry)),
            };
            if let Some(page) = page {
                self.cache.shelve(&page);
            }
        }
    }

    /// Takes the entry out of the store.
    fn leave(&self, until: Option<std::time::Duration>) {
        let total = &self.cache.inner.store.total;
        self.cache.inner.store.with(&self.entry.key, |slot| {
            slot.take_out(total, |other| Arc::ptr_eq(&other.content, &self.entry.content));
            match self.entry.claim.is_some() {
                true => slot.part_until = until.or(slot.part_until),
                false => slot.pass_until = until.or(slot.pass_until),
            }
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
