//! Which back end gets the next request: the one that will have answered it first.
//!
//! Two back ends are drawn, and the one with the lower expected delay is taken: a moving average of
//! answer times that rises at once and falls slowly (peak EWMA), times the requests that it works
//! on. No I/O and no clock of its own.

mod budget;
mod health;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

pub(crate) use budget::Budget;
use health::Record;

use crate::config::Health;

/// What is known about one back end.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) working_on: AtomicUsize,
    weight: AtomicU32,
    record: Mutex<Record>,
}

/// How a back end stands at a moment, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It gets requests.
    Up,
    /// Its checks fail.
    Down,
    /// Too many requests to it failed in a row; it gets none for a while.
    Ejected,
    /// Somebody takes it out of service.
    Draining,
}

impl Standing {
    pub(crate) fn new() -> Self {
        Self {
            working_on: AtomicUsize::new(0),
            weight: AtomicU32::new(WEIGHT),
            record: Mutex::new(Record::default()),
        }
    }

    /// An answer, or its failure, after `took`. Returns whether this one ejected it.
    pub(crate) fn answered(
        &self,
        health: &Health,
        now: Duration,
        took: Duration,
        is_good: bool,
    ) -> bool {
        self.record().answered(health, now, took, is_good)
    }

    /// A check has passed or failed. Returns whether it went down or came up by it.
    pub(crate) fn checked(&self, health: &Health, now: Duration, is_passed: bool) -> bool {
        self.record().checked(health, now, is_passed)
    }

    pub(crate) fn status(&self, now: Duration) -> Status {
        self.record().status(now)
    }

    pub(crate) fn drain(&self, is_draining: bool) {
        self.record().is_draining = is_draining;
    }

    /// In percent of the usual share; zero is nothing.
    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    /// Expected delay in microseconds if it got one more, weighted.
    fn cost(&self, health: &Health, now: Duration) -> f64 {
        let (delay_us, share) = self.record().expected(health, now);
        let share = share * f64::from(self.weight.load(Ordering::Relaxed)) / f64::from(WEIGHT);
        let waiting = self.working_on.load(Ordering::Relaxed) as f64 + 1.0;
        delay_us * waiting / share.max(f64::MIN_POSITIVE)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`pick`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picked {
    /// This one.
    Server(usize),
    /// All that could take it work on as much as they may.
    Busy,
    /// There is none that was not tried.
    None,
}

/// Picks one of `servers` for a request that was at `tried` already.
pub(crate) fn pick(
    servers: &[&Standing],
    health: &Health,
    now: Duration,
    (max_requests, tried): (usize, &[usize]),
    random: u64,
) -> Picked {
    let in_service = |index: &usize| {
        servers[*index].status(now) != Status::Draining
            && servers[*index].weight.load(Ordering::Relaxed) > 0
    };
    let is_up = |index: &usize| servers[*index].status(now) == Status::Up;
    let all: Vec<usize> = (0..servers.len()).filter(in_service).collect();
    let up: Vec<usize> = all.iter().copied().filter(is_up).collect();
    let is_panic = up.len() * 100 < all.len() * health.panic_percent as usize;
    let mut candidates = if up.is_empty() || is_panic { all } else { up };
    candidates.retain(|index| !tried.contains(index));
    if candidates.is_empty() {
        return Picked::None;
    }
    let has_room =
        |index: &usize| servers[*index].working_on.load(Ordering::Relaxed) < max_requests;
    candidates.retain(has_room);
    let count = candidates.len() as u64;
    match count {
        0 => Picked::Busy,
        1 => Picked::Server(candidates[0]),
        _ => {
            let first = random % count;
            let second = (first + 1 + (random >> 32) % (count - 1)) % count;
            let (first, second) = (candidates[first as usize], candidates[second as usize]);
            let is_first = servers[first].cost(health, now) <= servers[second].cost(health, now);
            Picked::Server(if is_first { first } else { second })
        }
    }
}

/// The usual share.
const WEIGHT: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn shares(servers: &[&Standing], now: Duration) -> Vec<usize> {
        let mut counts = vec![0; servers.len()];
        let mut random = 1_u64;
        for _ in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mixed = random ^ (random >> 33);
            match pick(servers, &Health::default(), now, (100, &[]), mixed) {
                Picked::Server(index) => counts[index] += 1,
                other => panic!("{other:?}"),
            }
        }
        counts
    }

    #[test]
    fn the_slower_of_two_gets_less_and_the_sick_one_nothing() {
        let health = Health::default();
        let (quick, slow, sick) = (Standing::new(), Standing::new(), Standing::new());
        for _ in 0..10 {
            quick.answered(&health, second(1), Duration::from_millis(5), true);
            slow.answered(&health, second(1), Duration::from_millis(50), true);
        }
        for _ in 0..3 {
            sick.answered(&health, second(1), Duration::from_millis(1), false);
        }
        let counts = shares(&[&quick, &slow, &sick], second(1));
        assert_eq!(counts[1..], [0, 0], "the slow one is never the better of two");
        // Ten requests that wait make the quick one the slower.
        quick.working_on.store(10, Ordering::Relaxed);
        assert!(shares(&[&quick, &slow, &sick], second(1))[1] == 10_000);
    }

    #[test]
    fn an_ejected_one_comes_back_after_its_time_and_each_time_takes_longer() {
        let health = Health::default();
        let server = Standing::new();
        let fail = |now| (0..3).any(|_| server.answered(&health, now, second(0), false));
        assert!(fail(second(10)));
        assert_eq!(server.status(Duration::from_millis(10_999)), Status::Ejected);
        assert_eq!(server.status(second(11)), Status::Up);
        assert!(fail(second(11)));
        assert_eq!(server.status(Duration::from_millis(12_999)), Status::Ejected);
        assert_eq!(server.status(second(13)), Status::Up);
        server.answered(&health, second(13), second(0), true);
        assert!(fail(second(14)));
        assert_eq!(server.status(second(15)), Status::Up);
    }

    #[test]
    fn checks_take_out_after_fall_and_bring_back_after_rise() {
        let health = Health::default();
        let server = Standing::new();
        assert!(!server.checked(&health, second(1), false));
        assert!(server.checked(&health, second(1), false));
        assert_eq!(server.status(second(1)), Status::Down);
        assert!(!server.checked(&health, second(2), true));
        assert!(!server.checked(&health, second(2), false));
        assert!(!server.checked(&health, second(2), true));
        assert!(server.checked(&health, second(2), true));
        assert_eq!(server.status(second(2)), Status::Up);
    }

    #[test]
    fn when_none_is_well_all_are_tried_but_not_one_that_is_drained() {
        let health = Health::default();
        let servers = [Standing::new(), Standing::new()];
        let both = [&servers[0], &servers[1]];
        let pick = |tried: &[usize], max| pick(&both, &health, second(1), (max, tried), 7);
        for server in both {
            server.checked(&health, second(1), false);
            server.checked(&health, second(1), false);
        }
        assert!(matches!(pick(&[], 9), Picked::Server(_)));
        servers[0].drain(true);
        assert_eq!(pick(&[], 9), Picked::Server(1));
        assert_eq!(pick(&[1], 9), Picked::None);
        assert_eq!(pick(&[], 0), Picked::Busy);
        servers[1].set_weight(0);
        assert_eq!(pick(&[], 9), Picked::None);
    }

    #[test]
    fn one_that_came_back_gets_less_at_first() {
        let health = Health { slow_start_ms: 10_000, ..Health::default() };
        let (old, new) = (Standing::new(), Standing::new());
        for server in [&old, &new] {
            server.answered(&health, second(1), Duration::from_millis(10), true);
        }
        for is_passed in [false, false, true, true] {
            new.checked(&health, second(5), is_passed);
        }
        assert!(new.cost(&health, second(6)) > 5.0 * old.cost(&health, second(6)));
        assert!(new.cost(&health, second(15)) <= old.cost(&health, second(15)));
    }
}
