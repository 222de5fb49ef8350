//! Purging by tag, by pattern and of everything, without looking at what is stored.
//!
//! Every purge takes the next number of one sequence, and every fetch remembers the number that
//! was last when it began. An entry is gone when anything about it was purged after that, which a
//! lookup sees by comparing numbers. So a purge costs the same for one page and for a million, and
//! also counts for answers that are on their way.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use throng_core::stars;

/// One tag, shared by the entries that carry it.
#[derive(Debug, Default)]
pub(super) struct Tag {
    purged: AtomicU64,
    softened: AtomicU64,
    /// When it was last purged, in milliseconds of the clock that never steps back.
    at_ms: AtomicU64,
}

/// What purges make of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Valid,
    /// Soft purged: to be served only where a stale one may be.
    Soft,
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Tags {
    sequence: AtomicU64,
    all: Tag,
    known: Mutex<Known>,
    bans: Mutex<Vec<Ban>>,
    last_ban: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    tags: HashMap<Box<str>, Arc<Tag>>,
    swept_at: usize,
}

#[derive(Debug)]
struct Ban {
    number: u64,
    pattern: Box<str>,
    is_soft: bool,
}

impl Tags {
    /// The number to remember when a fetch begins.
    pub(super) fn now(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// The tags that a response names, as things to compare with.
    pub(super) fn named<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        now: Duration,
    ) -> Vec<Arc<Tag>> {
        let mut known = self.lock();
        let mut tags = Vec::new();
        for name in names {
            let tag = known.tags.entry(name.into()).or_default();
            if !tags.iter().any(|other| Arc::ptr_eq(other, tag)) {
                tags.push(Arc::clone(tag));
            }
        }
        known.sweep(now);
        tags
    }

    pub(super) fn purge(&self, name: &str, is_soft: bool, now: Duration) {
        let tag = Arc::clone(self.lock().tags.entry(name.into()).or_default());
        self.mark(&tag, is_soft, now);
        self.lock().sweep(now);
    }

    pub(super) fn purge_all(&self, is_soft: bool, now: Duration) {
        self.mark(&self.all, is_soft, now);
    }

    /// Purges every address (`host/path?query`) that `pattern` matches. When there are too many
    /// patterns, everything that is older than the oldest of them goes.
    pub(super) fn ban(&self, pattern: &str, is_soft: bool, now: Duration) {
        let mut bans = self.bans.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.sequence.fetch_add(1, Ordering::AcqRel) + 1;
        bans.push(Ban { number, pattern: pattern.into(), is_soft });
        if bans.len() > MAX_BANS {
            let oldest = bans.remove(0);
            self.all.purged.fetch_max(oldest.number, Ordering::AcqRel);
            self.all.at_ms.store(ms(now), Ordering::Relaxed);
        }
        self.last_ban.store(number, Ordering::Release);
    }

    fn mark(&self, tag: &Tag, is_soft: bool, now: Duration) {
        let number = self.sequence.fetch_add(1, Ordering::AcqRel) + 1;
        tag.at_ms.store(ms(now), Ordering::Relaxed);
        let which = if is_soft { &tag.softened } else { &tag.purged };
        which.fetch_max(number, Ordering::AcqRel);
    }

    /// What purges since `number` make of an entry. `checked` remembers the last ban that did not
    /// match, so that a pattern is tried once for each entry.
    pub(super) fn standing(
        &self,
        address: &str,
        tags: &[Arc<Tag>],
        number: u64,
        checked: &AtomicU64,
    ) -> Standing {
        let mut standing = self.all.standing(number);
        for tag in tags {
            standing = standing.max(tag.standing(number));
        }
        let last_ban = self.last_ban.load(Ordering::Acquire);
        if last_ban > number && last_ban > checked.load(Ordering::Relaxed) {
            standing = standing.max(self.banned(address, number, checked, last_ban));
        }
        standing
    }

    fn banned(&self, address: &str, number: u64, checked: &AtomicU64, last: u64) -> Standing {
        let since = number.max(checked.load(Ordering::Relaxed));
        let bans = self.bans.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = bans
            .iter()
            .rev()
            .take_while(|ban| ban.number > since)
            .filter(|ban| stars::matches(&ban.pattern, address))
            .map(|ban| if ban.is_soft { Standing::Soft } else { Standing::Gone })
            .max()
            .unwrap_or(Standing::Valid);
        if standing == Standing::Valid {
            checked.store(last, Ordering::Relaxed);
        }
        standing
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tag {
    fn standing(&self, number: u64) -> Standing {
        if self.purged.load(Ordering::Acquire) > number {
            Standing::Gone
        } else if self.softened.load(Ordering::Acquire) > number {
            Standing::Soft
        } else {
            Standing::Valid
        }
    }
}

impl Known {
    /// Forgets tags that no entry carries, once there are twice as many as after the last time.
    fn sweep(&mut self, now: Duration) {
        if self.tags.len() < (self.swept_at * 2).max(1024) {
            return;
        }
        let now_ms = ms(now);
        self.tags.retain(|_, tag| {
            let is_recent =
                tag.purged.load(Ordering::Relaxed).max(tag.softened.load(Ordering::Relaxed)) > 0
                    && now_ms.saturating_sub(tag.at_ms.load(Ordering::Relaxed)) < REMEMBER_MS;
            Arc::strong_count(tag) > 1 || is_recent
        });
        self.swept_at = self.tags.len();
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const MAX_BANS: usize = 256;
/// A purged tag that nobody carries is remembered for longer than any fetch may take, because an
/// answer on its way may carry it.
const REMEMBER_MS: u64 = 15 * 60_000;
