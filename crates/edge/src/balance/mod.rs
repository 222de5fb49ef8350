//! Which back end gets the next request. No I/O and no clock of its own.
//!
//! By default two are drawn, and the one with the lower expected delay is taken: a moving average of
//! answer times that rises at once and falls slowly (peak EWMA), times the requests that it works
//! on. See [`Balance`] for the others.

mod budget;
pub(crate) mod consistent;
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

/// How the back end for a request is chosen among those that are well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// Two are drawn, and the one that will have answered first gets it, by its answer times and by
    /// what it works on (peak EWMA). The best where nothing speaks for another.
    #[default]
    PeakEwma,
    /// The one that works on the fewest requests for its weight: for long answers such as downloads
    /// and streams, whose time says nothing about the server.
    LeastConnections,
    /// The same address always goes to the same back end: for back ends that keep things in memory.
    /// When one leaves, only its addresses move (weighted rendezvous hashing); when one is full, the
    /// next in line helps out. Edges before the same back ends agree.
    Consistent,
}

/// What there is to know about a request when its back end is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) balance: Balance,
    pub(crate) health: &'a Health,
    pub(crate) now: Duration,
    /// What one back end may work on at a time.
    pub(crate) max_requests: usize,
    /// Those that had the request already.
    pub(crate) tried: &'a [usize],
    pub(crate) random: u64,
    /// Hash of the address that is asked for; see [`Balance::Consistent`].
    pub(crate) address: u64,
}

/// What is known about one back end.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Hash of its name.
    seed: u64,
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
    pub(crate) fn new(name: &str) -> Self {
        Self {
            seed: consistent::hash(&[name]),
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
        delay_us * self.load(share)
    }

    /// Requests that it would work on if it got one more, for its share.
    fn load(&self, share: f64) -> f64 {
        let waiting = self.working_on.load(Ordering::Relaxed) as f64 + 1.0;
        waiting / (share * self.weight()).max(f64::MIN_POSITIVE)
    }

    /// Its share of requests, in percent of the usual one.
    pub(crate) fn percent(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// 1 for the usual share.
    fn weight(&self) -> f64 {
        f64::from(self.weight.load(Ordering::Relaxed)) / f64::from(WEIGHT)
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

/// Picks one of `servers` for a request.
pub(crate) fn pick(servers: &[&Standing], choice: Choice<'_>) -> Picked {
    let Choice { health, now, max_requests, tried, .. } = choice;
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
    match *candidates {
        [] => Picked::Busy,
        [only] => Picked::Server(only),
        _ => Picked::Server(best(servers, &candidates, choice)),
    }
}

/// As [`pick`], where there is one server and it was not tried: it need not be well.
pub(crate) fn pick_only(server: &Standing, (now, max_requests): (Duration, usize)) -> Picked {
    if server.percent() == 0 || server.status(now) == Status::Draining {
        return Picked::None;
    }
    match server.working_on.load(Ordering::Relaxed) < max_requests {
        true => Picked::Server(0),
        false => Picked::Busy,
    }
}

/// The best of at least two candidates.
fn best(servers: &[&Standing], candidates: &[usize], choice: Choice<'_>) -> usize {
    let Choice { health, now, random, address, .. } = choice;
    let count = candidates.len() as u64;
    let first = random % count;
    let least = |cost: &dyn Fn(&Standing) -> f64, among: &mut dyn Iterator<Item = usize>| {
        let costs = among.map(|index| (cost(servers[index]), index));
        let least = costs.reduce(|best, other| if other.0 < best.0 { other } else { best });
        least.map_or(candidates[0], |(_, index)| index)
    };
    match choice.balance {
        Balance::PeakEwma => {
            let second = (first + 1 + (random >> 32) % (count - 1)) % count;
            let mut two = [first, second].into_iter().map(|at| candidates[at as usize]);
            least(&|server| server.cost(health, now), &mut two)
        }
        Balance::LeastConnections => {
            // Beginning anywhere, so that equals take turns.
            let mut all = candidates.iter().cycle().skip(first as usize).take(candidates.len());
            let load = |server: &Standing| server.load(server.record().expected(health, now).1);
            least(&load, &mut all.by_ref().copied())
        }
        Balance::Consistent => {
            let distance = |server: &Standing| consistent::distance(address, server);
            least(&distance, &mut candidates.iter().copied())
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

    fn choice(health: &Health, now: Duration) -> Choice<'_> {
        let balance = Balance::default();
        Choice { balance, health, now, max_requests: 100, tried: &[], random: 7, address: 0 }
    }

    fn shares(servers: &[&Standing], now: Duration) -> Vec<usize> {
        shares_by(servers, choice(&Health::default(), now))
    }

    fn shares_by(servers: &[&Standing], choice: Choice<'_>) -> Vec<usize> {
        let mut counts = vec![0; servers.len()];
        let mut random = 1_u64;
        for address in 0..10_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mixed = random ^ (random >> 33);
            let address = consistent::hash(&[&address.to_string()]);
            match pick(servers, Choice { random: mixed, address, ..choice }) {
                Picked::Server(index) => counts[index] += 1,
                other => panic!("{other:?}"),
            }
        }
        counts
    }

    #[test]
    fn the_slower_of_two_gets_less_and_the_sick_one_nothing() {
        let health = Health::default();
        let (quick, slow, sick) = (Standing::new("a"), Standing::new("b"), Standing::new("c"));
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
        let server = Standing::new("a");
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
        let server = Standing::new("a");
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
        let servers = [Standing::new("a"), Standing::new("b")];
        let both = [&servers[0], &servers[1]];
        let pick = |tried: &[usize], max_requests| {
            pick(&both, Choice { max_requests, tried, ..choice(&health, second(1)) })
        };
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
    fn when_too_few_are_well_it_is_the_checks_that_are_wrong() {
        let health = Health::default();
        let servers = ["a", "b", "c", "d"].map(Standing::new);
        let all: Vec<&Standing> = servers.iter().collect();
        let used = || shares(&all, second(1)).iter().filter(|share| **share > 0).count();
        for (down, still_used) in [(1, 3), (2, 2), (3, 4)] {
            for _ in 0..health.fall {
                servers[down].checked(&health, second(1), false);
            }
            assert_eq!(used(), still_used, "{down} are down");
        }
    }

    #[test]
    fn the_fewest_connections_for_the_weight_win_and_equals_take_turns() {
        let health = Health::default();
        let servers = [Standing::new("a"), Standing::new("b"), Standing::new("c")];
        let all = [&servers[0], &servers[1], &servers[2]];
        let balance = Balance::LeastConnections;
        let by = Choice { balance, ..choice(&health, second(1)) };
        assert!(shares_by(&all, by).iter().all(|count| (3_000..3_700).contains(count)));
        servers[0].working_on.store(2, Ordering::Relaxed);
        servers[1].working_on.store(5, Ordering::Relaxed);
        servers[1].set_weight(300);
        servers[2].working_on.store(3, Ordering::Relaxed);
        assert_eq!(shares_by(&all, by), [0, 10_000, 0], "six for three is less than three for one");
    }

    #[test]
    fn an_address_stays_where_it_is_until_its_back_end_leaves_or_is_full() {
        let health = Health::default();
        let servers = ["a:80", "b:80", "c:80", "d:80"].map(Standing::new);
        let all: Vec<&Standing> = servers.iter().collect();
        let by = Choice { balance: Balance::Consistent, ..choice(&health, second(1)) };
        let owners = |servers: &[&Standing]| -> Vec<Picked> {
            let addresses = (0..10_000_u32).map(|n| consistent::hash(&["host", &n.to_string()]));
            let owner = |address| pick(servers, Choice { address, random: address, ..by });
            addresses.map(owner).collect()
        };
        let before = owners(&all);
        let share = |at| before.iter().filter(|owner| **owner == Picked::Server(at)).count();
        assert!((0..4).all(|at| (2_300..2_700).contains(&share(at))), "each has its quarter");
        servers[2].drain(true);
        for (old, new) in before.iter().zip(owners(&all)) {
            match old {
                Picked::Server(2) => assert_ne!(new, Picked::Server(2)),
                old => assert_eq!(*old, new, "only what was at the third moves"),
            }
        }
        servers[2].drain(false);
        servers[2].working_on.store(100, Ordering::Relaxed);
        assert!(!owners(&all).contains(&Picked::Server(2)), "a full one is helped out");
        servers[2].working_on.store(0, Ordering::Relaxed);
        servers[0].set_weight(300);
        let heavy = owners(&all).iter().filter(|owner| **owner == Picked::Server(0)).count();
        assert!((4_800..5_200).contains(&heavy), "three of six: {heavy}");
    }

    #[test]
    fn one_that_came_back_gets_less_at_first() {
        let health = Health { slow_start_ms: 10_000, ..Health::default() };
        let (old, new) = (Standing::new("a"), Standing::new("b"));
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
