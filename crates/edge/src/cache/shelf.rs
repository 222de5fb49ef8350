//! What a slower store below the one in memory is told, and what it gives back. The cache itself does
//! no I/O: it hands pages over, and takes one back as if its origin had sent it some time ago.

use std::sync::{Arc, atomic::AtomicU64};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::mpsc;

use super::{
    Cache, Fetch, Outcome, Question,
    content::Content,
    control::Control,
    entry::Entry,
    note::Note,
    serve::{Served, serve},
    tags::{Standing, Tag},
    terms::{Terms, Times},
    vary,
};

/// Something for the slower store to write down.
#[derive(Debug)]
pub(crate) enum Job {
    /// A page that is whole.
    Page(Box<Kept>),
    /// A purge, which counts for all pages before it.
    Purge(Purge),
}

/// What was purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purge {
    /// `host/path?query`.
    Address(String),
    Tag(String),
    Pattern(String),
    All,
}

/// A page as the slower store keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) key: String,
    /// What it varies on, with what its request had for that.
    pub(crate) selection: Vec<(HeaderName, Option<String>)>,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) stored_unix_ms: i64,
    pub(crate) fresh_until_unix_ms: i64,
    pub(crate) mark: Mark,
}

/// By which a page is known to have been purged since.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    number: u64,
    tags: Vec<Arc<Tag>>,
}

impl Cache {
    /// Tells `jobs` of every page and purge from now on.
    pub(crate) fn tell(&self, jobs: mpsc::Sender<Job>) {
        let _ = self.inner.shelf.set(jobs);
    }

    /// A mark for the page of this address, with these tags, that was not purged until now.
    pub(crate) fn mark<'a>(&self, key: &str, tags: impl Iterator<Item = &'a str>) -> Mark {
        let (own, now) = (own_tag(key), self.inner.clock.elapsed());
        let mut tags = self.inner.tags.named(tags, now);
        tags.extend(self.inner.tags.named([&*own].into_iter(), now));
        Mark { number: self.inner.tags.now(), tags }
    }

    /// Whether nothing about the page was purged since its mark was made.
    pub(crate) fn is_valid(&self, key: &str, mark: &Mark) -> bool {
        let unchecked = AtomicU64::new(0);
        let standing = self.inner.tags.standing(key, &mark.tags, mark.number, &unchecked);
        standing == Standing::Valid
    }

    pub(super) fn shelve(&self, entry: &Entry) {
        let (Some(jobs), Some(body)) = (self.inner.shelf.get(), entry.content.get()) else {
            return;
        };
        let left_ms = entry.terms.lifetime_ms.saturating_sub(entry.terms.initial_age_ms);
        if left_ms < LEAST_MS {
            return;
        }
        let own = own_tag(entry.key.as_str());
        let own = self.inner.tags.named([&*own].into_iter(), self.inner.clock.elapsed());
        let kept = Kept {
            key: entry.key.as_str().to_owned(),
            selection: entry.selection().clone(),
            status: entry.status,
            headers: entry.all_headers(),
            body: body.clone(),
            stored_unix_ms: entry.stored_unix_ms,
            fresh_until_unix_ms: entry.stored_unix_ms.saturating_add_unsigned(left_ms),
            mark: Mark {
                number: entry.number(),
                tags: entry.tags().iter().cloned().chain(own).collect(),
            },
        };
        // What does not fit is not kept below; it is in memory.
        let _ = jobs.try_send(Job::Page(Box::new(kept)));
    }

    /// Tells the slower store of a purge, which counts in memory by then. One that it has no room for
    /// would bring pages back after a restart, so that it forgets all of them instead.
    pub(super) fn shelve_purge(&self, purge: Purge) {
        let Some(jobs) = self.inner.shelf.get() else { return };
        if let Purge::Address(key) = &purge {
            // Of what is in memory the slot knows; what is below, or on its way there, goes by marks.
            self.inner.tags.purge(&own_tag(key), false, self.inner.clock.elapsed());
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = jobs.try_send(Job::Purge(purge)) {
            // Everything below is forgotten at the next turn of its writer.
            self.inner.shelf_overrun.store(true, std::sync::atomic::Ordering::Release);
        }
    }

    /// Whether a purge could not be told since this was last asked.
    pub(crate) fn take_overrun(&self) -> bool {
        self.inner.shelf_overrun.swap(false, std::sync::atomic::Ordering::AcqRel)
    }
}

impl Question {
    /// Whether a page with this selection answers it.
    pub(crate) fn selects(&self, selection: &[(HeaderName, Option<String>)]) -> bool {
        selection.iter().all(|(name, value)| vary::selecting(self, name) == *value)
    }
}

impl Fetch {
    /// Whether nothing at all is in memory for it.
    pub(crate) fn is_cold(&self) -> bool {
        let is_shared = self.flight.as_ref().is_some_and(|flight| !flight.is_alone());
        self.stale.is_none() && self.holed.is_none() && (is_shared || self.is_of_part())
    }

    /// Takes a page of the slower store in the place of what the origin would say, if it is fresh.
    pub(crate) fn restored(&self, kept: Kept) -> Option<Served> {
        let inner = &self.cache.inner;
        let times = Times {
            asked: self.asked,
            answered: inner.clock.elapsed(),
            answered_unix_ms: inner.clock.now_ms(),
        };
        let mut headers = kept.headers;
        let age_ms = times.answered_unix_ms.saturating_sub(kept.stored_unix_ms).max(0);
        headers.insert(header::AGE, HeaderValue::from(age_ms.div_euclid(1000)));
        let control = Control::of_response(&headers);
        let head = (kept.status, &headers);
        let terms = Terms::of(&inner.policy, &self.question, head, &control, times).ok()?;
        let left_ms =
            terms.lifetime_ms.checked_sub(terms.initial_age_ms).filter(|left| *left > 0)?;
        let content = Content::coming();
        content.push(kept.body, &inner.store.total);
        content.finish();
        let entry = self.entry(terms, (kept.status, headers), content, times);
        self.keep(&entry);
        let ttl_ms = i64::try_from(left_ms).unwrap_or(i64::MAX);
        let note = Note { detail: Some("disk"), ..Note::hit(ttl_ms) };
        Some(serve(&entry, &self.question, times.answered, (Outcome::Hit, note)))
    }
}

/// A tag of the page of one address and of no other. No answer can name it.
fn own_tag(key: &str) -> String {
    format!("\0{key}")
}

/// What is fresh for a shorter time is not worth a write.
const LEAST_MS: u64 = 5_000;
