//! The page cache: what RFC 9111 lets a shared cache keep, and the policy of the talks, as logic
//! without any I/O of its own.
//!
//! Whoever speaks HTTP makes a [`Question`] of a request, asks the [`Cache`] for the next [`Step`],
//! and reports what the origin said to the [`Fetch`] or [`Pass`] that it was given. Time comes from
//! the [`Clock`] alone.

mod ahead;
mod claim;
mod complete;
mod content;
mod control;
pub(crate) mod date;
mod entry;
mod fare;
mod fetch;
mod fill;
mod flight;
mod glance;
mod key;
mod language;
mod look;
mod note;
mod parts;
mod pass;
mod policy;
mod question;
mod range;
mod serve;
mod shelf;
mod store;
mod structured;
mod tags;
mod terms;
mod vary;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use http::Uri;
use throng_core::Clock;
use tokio::sync::mpsc;

pub(crate) use self::key::Key;
use self::{fare::Fares, store::Store, tags::Tags, terms::Terms};

pub use self::{
    content::{Broken, Reader},
    fare::{Fared, Purged},
    fetch::{Answered, Fetch},
    fill::Filling,
    flight::{Wait, Woken},
    look::Step,
    pass::Pass,
    policy::{Action, Policy, Rule},
    question::Question,
    serve::{Outcome, Served, Stored},
};
pub(crate) use self::{
    control::CAPABILITY,
    entry::strip_hop,
    fare::Group,
    glance::{Glance, Memo, Passed},
    shelf::{Job, Kept, Mark, Purge},
};

/// Stored answers and the rules by which they are used. Clones share one store.
#[derive(Clone, Debug)]
pub struct Cache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    policy: Policy,
    clock: Clock,
    store: Store,
    tags: Tags,
    fares: Fares,
    /// Hears of whole pages and purges, where there is a slower store.
    shelf: OnceLock<mpsc::Sender<Job>>,
    shelf_overrun: AtomicBool,
    is_read_only: AtomicBool,
}

impl Cache {
    /// An empty cache that holds at most about `max_bytes` in memory.
    #[must_use]
    pub fn new(policy: Policy, clock: Clock, max_bytes: u64) -> Self {
        let inner = Inner {
            policy,
            clock,
            store: Store::new(max_bytes),
            tags: Tags::default(),
            fares: Fares::default(),
            shelf: OnceLock::new(),
            shelf_overrun: AtomicBool::new(false),
            is_read_only: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The policy that it was made with.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// Whether the site is read-only, so that stale pages live longer.
    pub fn set_read_only(&self, is_read_only: bool) {
        self.inner.is_read_only.store(is_read_only, Ordering::Relaxed);
    }

    /// Forgets every variant of one address, such as `example.org` and `/events?page=2`; a soft
    /// purge makes them stale instead. Answers on their way are not stored. Returns how many
    /// variants and parts there were.
    pub fn purge(&self, host: &str, target: &str, is_soft: bool) -> usize {
        self.note_purge("address", format!("{host}{target}"), is_soft);
        self.forget(host, target, is_soft)
    }

    /// The same without a word in the log of purges.
    fn forget(&self, host: &str, target: &str, is_soft: bool) -> usize {
        let Ok(uri) = target.parse::<Uri>() else { return 0 };
        let key = Key::new(host, &uri);
        self.shelve_purge(Purge::Address(key.as_str().to_owned()));
        let purged = self.inner.store.with_existing(&key, |slot| {
            let answers = slot.entries().count();
            match is_soft {
                true => {
                    slot.entries().for_each(|entry| entry.soften());
                    slot.flights.drain(..).for_each(|flight| flight.revoke());
                }
                false => slot.clear(&self.inner.store.total),
            }
            answers
        });
        purged.unwrap_or(0)
    }

    /// Forgets everything whose answer named `tag` in Surrogate-Key or Cache-Tag; a soft purge makes
    /// it stale instead. Costs the same however much that is, and counts from the next lookup on.
    pub fn purge_tag(&self, tag: &str, is_soft: bool) {
        self.note_purge("tag", tag.to_owned(), is_soft);
        self.inner.tags.purge(tag, is_soft, self.inner.clock.elapsed());
        self.shelve_purge(Purge::Tag(tag.to_owned()));
    }

    /// Forgets every address (`host/path?query`) that `pattern` matches, where `*` stands for
    /// anything; a soft ban makes them stale instead.
    pub fn ban(&self, pattern: &str, is_soft: bool) {
        self.note_purge("pattern", pattern.to_owned(), is_soft);
        self.inner.tags.ban(pattern, is_soft, self.inner.clock.elapsed());
        self.shelve_purge(Purge::Pattern(pattern.to_owned()));
    }

    /// Forgets everything; a soft purge makes it stale instead.
    pub fn purge_all(&self, is_soft: bool) {
        self.note_purge("all", String::new(), is_soft);
        self.inner.tags.purge_all(is_soft, self.inner.clock.elapsed());
        self.shelve_purge(Purge::All);
    }

    /// Bytes that are stored, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.inner.store.total.load(Ordering::Relaxed)
    }

    /// How many addresses are known, those that may not be stored among them.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.inner.store.len()
    }

    /// How requests fared by the first part of their path, those with most requests first.
    #[must_use]
    pub fn fared(&self) -> Vec<Fared> {
        self.inner.fares.fared()
    }

    /// The last 256 purges, newest first; not those by which an unsafe request takes its own address.
    #[must_use]
    pub fn purged(&self) -> Vec<Purged> {
        self.inner.fares.purged()
    }

    /// The group in which requests for `path` are counted.
    pub(crate) fn group(&self, path: &str) -> Arc<Group> {
        self.inner.fares.group(path)
    }

    fn note_purge(&self, kind: &'static str, what: String, is_soft: bool) {
        let time_ms = self.inner.clock.now_ms();
        self.inner.fares.note(Purged { time_ms, kind, what, is_soft });
    }

    /// The addresses (`host/path?query`) in memory that were answered from here most often, with how
    /// often, most first.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<(String, u64)> {
        let top = self.inner.store.top(most);
        top.into_iter().map(|(key, hits)| (key.as_str().to_owned(), hits)).collect()
    }

    fn error_window_ms(&self, terms: &Terms) -> u64 {
        match terms.error_ms > 0 && self.inner.is_read_only.load(Ordering::Relaxed) {
            true => terms.error_ms.max(self.inner.policy.read_only_ms),
            false => terms.error_ms,
        }
    }
}
