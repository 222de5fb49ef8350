//! Rates: which of the claimed tasks may start now, which in a moment, and which are given back.
//!
//! A task under a limit takes a turn before it starts. What has one within two seconds waits here
//! for it, beside the places of the others; the rest goes back to the engine until its turn comes,
//! so that it holds no place, no memory, and nobody up.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::FutureExt as _;

use super::{Event, Rounds};
use crate::{
    Message, Policy, Rate, Result, backoff,
    engine::{Claimed, Lease, Limit, Turn, Verdict},
    metrics,
    rate::{self, Bucket},
};

/// Tells a message's key under [`Policy::key_rate`].
pub(in crate::worker) type KeyOf = Arc<dyn Fn(&Message) -> Option<String> + Send + Sync>;

/// What is under a limit and has not started.
#[derive(Debug, Default)]
pub(in crate::worker) struct Pace {
    /// This worker's own limits, by task.
    buckets: HashMap<String, Bucket>,
    /// Have a turn, and wait for its time.
    soon: Vec<Paced>,
    /// Have one here, and need one of all workers; the engine is asked next.
    asking: Vec<(Paced, Vec<Limit>)>,
    /// The engine is being asked.
    asked: VecDeque<Paced>,
    /// Whose time has come, and when that was.
    due: HashMap<Lease, Duration>,
    /// Counts the timers; the last one set is the one that counts.
    timers: u64,
    next_timer: Option<Duration>,
}

#[derive(Debug)]
struct Paced {
    at: Duration,
    claimed_at: Duration,
    claimed: Claimed,
}

impl Pace {
    /// What is held here, beside what is ready or runs.
    pub(in crate::worker) fn held(&self) -> impl Iterator<Item = &Claimed> {
        let asking = self.asking.iter().map(|(paced, _)| paced);
        let all = self.soon.iter().chain(asking).chain(&self.asked);
        all.map(|paced| &paced.claimed)
    }

    /// How many of these the engine is asked about: while it does not answer, they take room.
    pub(super) fn in_question(&self) -> usize {
        self.asking.len() + self.asked.len()
    }

    pub(super) fn prolonged(&mut self, now: Duration) {
        let asking = self.asking.iter_mut().map(|(paced, _)| paced);
        for paced in self.soon.iter_mut().chain(asking).chain(&mut self.asked) {
            paced.claimed_at = now;
        }
    }

    pub(super) fn forget(&mut self, lease: &Lease) {
        self.due.remove(lease);
        self.soon.retain(|paced| paced.claimed.lease != *lease);
        self.asking.retain(|(paced, _)| paced.claimed.lease != *lease);
    }

    /// A new limit begins anew.
    pub(in crate::worker) fn reset(&mut self, name: &str) {
        self.buckets.remove(name);
    }
}

impl Rounds {
    /// The task, if it may start now; else it is held here or given back.
    pub(super) fn in_turn(
        &mut self,
        claimed_at: Duration,
        claimed: Claimed,
        policy: &Policy,
    ) -> Option<Claimed> {
        let now = self.clock.elapsed();
        if let Some(at) = self.pace.due.remove(&claimed.lease)
            && now.saturating_sub(at) <= STALE
        {
            return Some(claimed);
        }
        let at = match policy.rate.map(|rate| self.own_turn(claimed.message.name(), rate, now)) {
            None => now,
            Some(Ok(at)) => at,
            Some(Err(later)) => {
                let wait_ms = i64::try_from((later - now).as_millis()).unwrap_or(i64::MAX);
                self.put_off(claimed, self.clock.now_ms().saturating_add(wait_ms));
                return None;
            }
        };
        let limits = self.shared_limits(&claimed.message, policy);
        if limits.is_empty() && at <= now {
            return Some(claimed);
        }
        let paced = Paced { at, claimed_at, claimed };
        if limits.is_empty() {
            self.pace.soon.push(paced);
            self.watch_turns();
        } else {
            self.pace.asking.push((paced, limits));
        }
        None
    }

    /// A turn under this worker's own limit, or the time to ask again.
    fn own_turn(&mut self, name: &str, rate: Rate, now: Duration) -> Result<Duration, Duration> {
        let bucket = match self.pace.buckets.get_mut(name) {
            Some(bucket) => bucket,
            None => self.pace.buckets.entry(name.to_owned()).or_default(),
        };
        let mut limit = [(rate, *bucket)];
        let turn = rate::take(&mut limit, i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
        *bucket = limit[0].1;
        let time = |us: i64| now.max(Duration::from_micros(us.unsigned_abs()));
        turn.map(time).map_err(time)
    }

    fn shared_limits(&self, message: &Message, policy: &Policy) -> Vec<Limit> {
        let name = message.name();
        let fleet = policy.fleet_rate.map(|rate| Limit::of(name, None, rate));
        let key = policy.key_rate.and_then(|rate| {
            let key = self.handlers.get(name)?.key.as_ref()?(message)?;
            Some(Limit::of(name, Some(&key), rate))
        });
        fleet.into_iter().chain(key).collect()
    }

    /// Asks the engine for turns, once at a time.
    pub(super) fn ask_for_turns(&mut self) {
        if self.pace.asking.is_empty() || !self.pace.asked.is_empty() {
            return;
        }
        let (asked, wanted): (VecDeque<Paced>, Vec<Vec<Limit>>) =
            std::mem::take(&mut self.pace.asking).into_iter().unzip();
        self.pace.asked = asked;
        let engine = self.queue.engine().clone();
        let request = async move { Event::Turns(engine.turns(&wanted).await) };
        self.requests.push(request.boxed());
    }

    pub(super) fn told_turns(&mut self, turns: Result<Vec<Turn>>) {
        let asked = std::mem::take(&mut self.pace.asked);
        if self.is_draining {
            for paced in asked {
                self.end(paced.claimed.lease, Verdict::Release);
            }
            return;
        }
        let (now, now_ms) = (self.clock.elapsed(), self.clock.now_ms());
        let turns = turns.unwrap_or_else(|error| {
            tracing::warn!(error = ?error, "cannot ask whether tasks are over their rate: {error}");
            vec![Turn::Later(now_ms + ASK_AGAIN_MS); asked.len()]
        });
        for (mut paced, turn) in asked.into_iter().zip(turns) {
            match turn {
                Turn::At(ms) => {
                    let wait_ms = u64::try_from(ms - now_ms).unwrap_or(0);
                    paced.at = paced.at.max(now + Duration::from_millis(wait_ms));
                    self.pace.soon.push(paced);
                }
                Turn::Later(ms) => self.put_off(paced.claimed, ms),
            }
        }
        self.start_due();
    }

    /// What has its turn now is the next to start.
    pub(super) fn start_due(&mut self) {
        let now = self.clock.elapsed();
        let (mut due, soon): (Vec<Paced>, Vec<Paced>) =
            std::mem::take(&mut self.pace.soon).into_iter().partition(|paced| paced.at <= now);
        self.pace.soon = soon;
        due.sort_by_key(|paced| paced.at);
        for Paced { at, claimed_at, claimed } in due.into_iter().rev() {
            self.pace.due.insert(claimed.lease.clone(), at);
            self.ready.push_front((claimed_at, claimed));
        }
        self.watch_turns();
    }

    /// Whether this is the timer that was set last.
    pub(super) fn is_time(&mut self, timer: u64) -> bool {
        let is_last = timer == self.pace.timers;
        if is_last {
            self.pace.next_timer = None;
        }
        is_last
    }

    fn watch_turns(&mut self) {
        let Some(next) = self.pace.soon.iter().map(|paced| paced.at).min() else { return };
        if self.pace.next_timer.is_some_and(|at| at <= next) {
            return;
        }
        self.pace.next_timer = Some(next);
        self.pace.timers += 1;
        let wait = next.saturating_sub(self.clock.elapsed());
        self.after(wait, Event::Turn(self.pace.timers));
    }

    fn put_off(&mut self, claimed: Claimed, at_ms: i64) {
        let now_ms = self.clock.now_ms();
        let horizon_ms = rate::HORIZON / 1000;
        let at_ms = match at_ms - now_ms < horizon_ms {
            true => at_ms.max(now_ms + 1),
            // The line is longer than it has places: they look again one after the other.
            false => {
                let spread = backoff::dice() % (horizon_ms.unsigned_abs() / 2);
                now_ms + horizon_ms / 2 + i64::try_from(spread).unwrap_or(0)
            }
        };
        let (id, name) = (&claimed.lease.id, claimed.message.name());
        metrics::put_off(name);
        tracing::debug!(task.id = %id, task.name = name, "task {id} ({name}) is over its rate and put off");
        self.end(claimed.lease, Verdict::Later { at_ms });
    }

    /// Gives back what waits for a turn.
    pub(super) fn release_paced(&mut self) {
        let asking = std::mem::take(&mut self.pace.asking).into_iter().map(|(paced, _)| paced);
        let all: Vec<Paced> =
            std::mem::take(&mut self.pace.soon).into_iter().chain(asking).collect();
        for paced in all {
            self.end(paced.claimed.lease, Verdict::Release);
        }
    }
}

/// A turn that was not used for this long is lost: those that follow it have started meanwhile.
const STALE: Duration = Duration::from_secs(2);
const ASK_AGAIN_MS: i64 = 1000;
