//! How requests fare by the first part of their path, and what was purged last.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

use super::Outcome;

/// The requests of all paths that begin alike, such as `/events/*`.
#[derive(Debug, Default)]
pub(crate) struct Group {
    stored: AtomicU64,
    fetched: AtomicU64,
    passed: AtomicU64,
    sent_bytes: AtomicU64,
}

/// Groups by the first part of a path, and the last purges.
#[derive(Debug, Default)]
pub(crate) struct Fares {
    groups: RwLock<BTreeMap<Box<str>, Arc<Group>>>,
    purged: Mutex<VecDeque<Purged>>,
}

/// How the requests of a pattern fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fared {
    /// Paths, such as `/events/*`; `*` stands for all that are too many to tell apart.
    pub pattern: String,
    /// Answered from memory, without waiting for the back end.
    pub stored: u64,
    /// Fetched, or waited for while somebody else fetched.
    pub fetched: u64,
    /// Not for the cache.
    pub passed: u64,
    /// Bytes of bodies sent.
    pub sent_bytes: u64,
}

/// A purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Purged {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// `address`, `tag`, `pattern` or `all`.
    pub kind: &'static str,
    /// Which.
    pub what: String,
    /// Whether it was made stale rather than forgotten.
    pub is_soft: bool,
}

impl Group {
    pub(crate) fn count(&self, outcome: Outcome, bytes: u64) {
        let figure = match outcome {
            Outcome::Hit | Outcome::Stale => &self.stored,
            Outcome::Pass => &self.passed,
            _ => &self.fetched,
        };
        figure.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Fares {
    /// The group of a path.
    pub(crate) fn group(&self, path: &str) -> Arc<Group> {
        let name = first_part(path);
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(name) {
            return Arc::clone(group);
        }
        drop(groups);
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let name = if groups.len() < MOST_GROUPS { name } else { "" };
        Arc::clone(groups.entry(name.into()).or_default())
    }

    /// All groups, those with most requests first.
    pub(crate) fn fared(&self) -> Vec<Fared> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let mut all: Vec<Fared> = groups
            .iter()
            .map(|(pattern, group)| Fared {
                pattern: match pattern.ends_with('/') && pattern.len() > 1 || pattern.is_empty() {
                    true => format!("{pattern}*"),
                    false => pattern.to_string(),
                },
                stored: of(&group.stored),
                fetched: of(&group.fetched),
                passed: of(&group.passed),
                sent_bytes: of(&group.sent_bytes),
            })
            .collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.stored + one.fetched + one.passed));
        all
    }

    pub(crate) fn note(&self, purged: Purged) {
        let mut all = self.purged.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == MOST_PURGES {
            all.pop_front();
        }
        all.push_back(purged);
    }

    /// The last purges, newest first.
    pub(crate) fn purged(&self) -> Vec<Purged> {
        self.purged.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

/// `/events/` of `/events/7`, and a path of one part as it is.
fn first_part(path: &str) -> &str {
    let end = path.get(1..).and_then(|rest| rest.find('/'));
    end.map_or(path, |end| &path[..end + 2])
}

/// Names of strangers' choice: the first to come are told apart.
const MOST_GROUPS: usize = 100;
const MOST_PURGES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_begin_alike_are_one_group_and_strangers_cannot_make_too_many() {
        let fares = Fares::default();
        for path in ["/", "/events", "/events/7", "/events/8/live", "/about"] {
            fares.group(path).count(Outcome::Hit, 10);
        }
        fares.group("/events/9").count(Outcome::Pass, 10);
        let fared = fares.fared();
        assert_eq!(
            (fared[0].pattern.as_str(), fared[0].stored, fared[0].passed),
            ("/events/*", 2, 1)
        );
        assert_eq!(fared.len(), 4);
        for number in 0..1_000 {
            fares.group(&format!("/{number}")).count(Outcome::Miss, 0);
        }
        assert!(fares.fared().len() <= MOST_GROUPS + 1);
        assert_eq!(fares.fared()[0].pattern, "*");
    }
}
