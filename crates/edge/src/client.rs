//! How much one client may ask: requests a second with a burst, and requests at a time.
//!
//! Clients are told apart by a keyed hash of their address into a table of fixed size, so a million
//! of them cost as much as none. Each client has two places and is held to the emptier one (a
//! count-min sketch with conservative update), so another client's requests count for it only where
//! both places are shared.

use std::{
    hash::BuildHasher,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{body::Ending, config::ClientLimits};

/// What the clients have asked lately.
#[derive(Debug)]
pub(crate) struct Clients {
    limits: ClientLimits,
    /// Drawn for each process: nobody can aim at the place of another.
    key: foldhash::quality::RandomState,
    /// When each place has been idle for long enough to start anew, in microseconds of the clock.
    due: Box<[AtomicU64]>,
    working_on: Arc<[AtomicU32]>,
}

/// Why a client has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMuch {
    /// It may ask again after this time.
    Rate(Duration),
    /// It waits for too many answers already.
    Concurrency,
}

/// One request of a client, until its answer is over.
#[derive(Debug)]
pub(crate) struct Pass(Option<(Arc<[AtomicU32]>, [usize; 2])>);

impl Clients {
    pub(crate) fn new(limits: ClientLimits) -> Self {
        let places = |is_needed| if is_needed { PLACES } else { 0 };
        let due = (0..places(limits.requests_per_s > 0)).map(|_| AtomicU64::new(0));
        let working_on = (0..places(limits.requests_at_a_time > 0)).map(|_| AtomicU32::new(0));
        Self {
            limits,
            key: foldhash::quality::RandomState::default(),
            due: due.collect(),
            working_on: working_on.collect(),
        }
    }

    /// Lets a request of `client` pass, or says why it has to wait.
    pub(crate) fn enter(&self, client: IpAddr, now: Duration) -> Result<Pass, TooMuch> {
        let hash = self.key.hash_one(network(client));
        let first = hash as usize % PLACES;
        let second = first ^ (1 + (hash >> 32) as usize % (PLACES - 1));
        let pass = self.hold([first, second])?;
        self.charge([first, second], u64::try_from(now.as_micros()).unwrap_or(u64::MAX))?;
        Ok(pass)
    }

    fn hold(&self, places: [usize; 2]) -> Result<Pass, TooMuch> {
        if self.working_on.is_empty() {
            return Ok(Pass(None));
        }
        let before = places.map(|place| self.working_on[place].fetch_add(1, Ordering::Relaxed));
        let pass = Pass(Some((Arc::clone(&self.working_on), places)));
        let [first, second] = before;
        match first.min(second) < self.limits.requests_at_a_time {
            true => Ok(pass),
            false => Err(TooMuch::Concurrency),
        }
    }

    /// The generic cell rate algorithm: a place is due one interval later for every request, and may
    /// be ahead of the clock by a burst.
    fn charge(&self, places: [usize; 2], now_us: u64) -> Result<(), TooMuch> {
        if self.due.is_empty() {
            return Ok(());
        }
        let interval_us = (1_000_000 / u64::from(self.limits.requests_per_s)).max(1);
        let burst_us = interval_us.saturating_mul(u64::from(self.limits.burst.max(1)));
        let [first, second] = places.map(|place| self.due[place].load(Ordering::Relaxed));
        let next = first.min(second).max(now_us).saturating_add(interval_us);
        let latest = now_us.saturating_add(burst_us);
        if next > latest {
            return Err(TooMuch::Rate(Duration::from_micros(next - latest)));
        }
        for place in places {
            self.due[place].fetch_max(next, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Pass {
    /// Whether it counts for as long as it lives.
    pub(crate) fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

impl Ending for Pass {
    fn ended(self: Box<Self>, _bytes: u64, _is_whole: bool) {}
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((working_on, places)) = self.0.take() {
            for place in places {
                working_on[place].fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// One household has a /64 of IPv6 addresses to ask from.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

const PLACES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_client_has_a_burst_and_then_its_rate_and_others_have_their_own() {
        let limits = ClientLimits { requests_per_s: 10, burst: 5, ..ClientLimits::default() };
        let clients = Clients::new(limits);
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let admitted = |who, now| (0..100).take_while(|_| clients.enter(who, now).is_ok()).count();
        assert_eq!(admitted(one, ms(1_000)), 5);
        assert!(
            matches!(clients.enter(one, ms(1_000)), Err(TooMuch::Rate(wait)) if wait == ms(100))
        );
        assert_eq!(admitted(other, ms(1_000)), 5, "another client has its own");
        assert_eq!(admitted(one, ms(1_100)), 1, "one more for each tenth of a second");
        assert_eq!(admitted(one, ms(9_000)), 5, "never more than a burst");
    }

    #[test]
    fn ten_thousand_busy_clients_hardly_get_in_each_others_way() {
        let limits = ClientLimits { requests_per_s: 1, burst: 3, ..ClientLimits::default() };
        let clients = Clients::new(limits);
        let all: Vec<IpAddr> =
            (0..10_000_u32).map(|n| std::net::Ipv4Addr::from(n).into()).collect();
        let mut refused = 0;
        for _ in 0..3 {
            refused += all.iter().filter(|who| clients.enter(**who, ms(0)).is_err()).count();
        }
        assert!(refused < 900, "{refused} of 30,000 that were within their limits");
        assert!(all.iter().all(|who| clients.enter(*who, ms(0)).is_err()), "and nobody gets more");
    }

    #[test]
    fn a_client_waits_for_no_more_answers_than_it_may() {
        let limits = ClientLimits { requests_at_a_time: 3, ..ClientLimits::default() };
        let clients = Clients::new(limits);
        let enter = |who: &str| clients.enter(ip(who), ms(0));
        let held: Vec<Pass> = (0..100).map_while(|_| enter("2001:db8::1").ok()).collect();
        assert_eq!(held.len(), 3);
        assert!(matches!(enter("2001:db8::ffff"), Err(TooMuch::Concurrency)), "the same household");
        assert!(enter("2001:db8:0:1::1").is_ok());
        drop(held);
        assert!(clients.working_on.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn no_limit_is_no_table() {
        let clients = Clients::new(ClientLimits::default());
        assert!(clients.due.is_empty() && clients.working_on.is_empty());
        assert!((0..10_000).all(|_| clients.enter(ip("::1"), ms(0)).is_ok()));
    }
}
