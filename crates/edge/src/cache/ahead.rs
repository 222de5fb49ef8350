//! When a page is fetched anew before it has run out. Pages that came together (a site has just started,
//! a purge took them all) would run out together, and be asked for all at once, for ever after; with a
//! moment of its own for each they drift apart.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{policy::Policy, terms::Terms};

/// From which age on, in milliseconds, one stored answer is to be fetched anew.
#[derive(Debug)]
pub(super) struct Ahead(AtomicU64);

impl Ahead {
    /// For an answer on these terms; `luck` is any number, another one for each answer.
    pub(super) fn new(policy: &Policy, terms: &Terms, luck: u64) -> Self {
        // An older cache's page may be near its end when it comes, and would come no younger.
        let left_ms = terms.lifetime_ms.saturating_sub(terms.initial_age_ms);
        let window_ms = left_ms.saturating_mul(u64::from(policy.ahead_percent.min(100))) / 100;
        let due_ms = match left_ms < LEAST_MS || window_ms == 0 {
            true => u64::MAX,
            false => terms.lifetime_ms - luck % window_ms,
        };
        Self(AtomicU64::new(due_ms))
    }

    /// Whether somebody should see to it.
    pub(super) fn is_due(&self, age_ms: u64) -> bool {
        age_ms >= self.0.load(Ordering::Relaxed)
    }

    /// Whether the caller is the one who sees to it. Nobody else is for a moment, in which there may be
    /// no room for it.
    pub(super) fn take(&self, age_ms: u64) -> bool {
        let due_ms = self.0.load(Ordering::Relaxed);
        let again_ms = age_ms.saturating_add(PAUSE_MS);
        age_ms >= due_ms
            && self
                .0
                .compare_exchange(due_ms, again_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl Clone for Ahead {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// What runs out sooner is fetched anew only when it has: it would cost the back end more.
const LEAST_MS: u64 = 10_000;
const PAUSE_MS: u64 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(lifetime_ms: u64, initial_age_ms: u64, luck: u64) -> Ahead {
        let terms = Terms { lifetime_ms, initial_age_ms, ..Terms::none() };
        Ahead::new(&Policy::talks(), &terms, luck)
    }

    #[test]
    fn pages_that_came_together_are_due_apart_in_the_last_quarter_of_their_time() {
        let due = |luck: u64| (0..=60_000).find(|age_ms| ahead(60_000, 0, luck).is_due(*age_ms));
        let all: Vec<u64> = (0..50).filter_map(|luck| due(luck * 1_009)).collect();
        assert_eq!(all.len(), 50);
        assert!(all.iter().all(|age_ms| (45_000..=60_000).contains(age_ms)));
        assert!(all.iter().any(|age_ms| *age_ms < 48_000));
        assert!(all.iter().any(|age_ms| *age_ms > 57_000));
    }

    #[test]
    fn one_at_a_time_sees_to_it() {
        let ahead = ahead(60_000, 0, 0);
        assert!(!ahead.take(59_999));
        assert!(ahead.take(60_000));
        assert!(!ahead.take(60_000), "somebody has just seen to it");
        assert!(ahead.take(60_000 + PAUSE_MS));
    }

    #[test]
    fn what_will_soon_run_out_is_left_until_it_has() {
        assert!(!ahead(9_999, 0, 7).is_due(9_998));
        assert!(!ahead(60_000, 55_000, 7).is_due(59_999), "it would come no younger");
        assert!(ahead(60_000, 30_000, 29_999).is_due(59_999));
    }
}
