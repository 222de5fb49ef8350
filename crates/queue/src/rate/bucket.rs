//! The bucket of a limit, as two times: the next free turn, and where the line of those ends that
//! were put off.
//!
//! A task whose turn is at most [`HOLD`] away gets it for good and waits for it with its worker.
//! Whatever is further away than that is put off: it joins a line whose places are as far apart as
//! turns are, and comes back a little before its place. So of a thousand tasks that come at once
//! each is put off once, not a thousand times, and the rate is kept without anybody looking after it.
//!
//! Times are microseconds of any one clock. The Redis engine does the same in Lua; a test compares.

use super::Rate;

/// One limit that a task is under, known by name to all workers that share an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose turns are counted together; at most 191 characters.
    pub name: String,
    /// How many.
    pub rate: Rate,
}

impl Limit {
    /// Of all tasks called `task`, or of those with this key.
    pub(crate) fn of(task: &str, key: Option<&str>, rate: Rate) -> Self {
        let mut name = task.to_owned();
        if let Some(key) = key {
            name = format!("{name}\u{1f}{key}");
        }
        if name.chars().count() > LONGEST {
            let start: String = name.chars().take(LONGEST - 17).collect();
            name = format!("{start}\u{1f}{:016x}", hash(&name));
        }
        Self { name, rate }
    }
}

/// FNV-1a: the same in every version of every worker.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// When a task may start, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Then, and the turn is taken.
    At(i64),
    /// Not soon: it had better ask again then.
    Later(i64),
}

/// The state of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) next: i64,
    pub(crate) line: i64,
}

impl Default for Bucket {
    /// As after a long pause.
    fn default() -> Self {
        Self { next: LONG_AGO, line: LONG_AGO }
    }
}

impl Bucket {
    /// No turn is further away than this can be, however clocks and rates have changed.
    fn sane(self, rate: Rate, now: i64) -> Self {
        let next = self.next.min(now + HOLD + rate.interval());
        Self { next, line: self.line.min(now + HORIZON + rate.interval()) }
    }

    fn free(self, rate: Rate, now: i64) -> i64 {
        self.next.max(now - rate.slack())
    }

    fn take(&mut self, rate: Rate, at: i64, now: i64) {
        // Nobody came for a while: those in the line are not coming.
        let is_idle = self.next < now - HOLD;
        self.next = self.next.max(at - rate.slack()) + rate.interval();
        if is_idle {
            self.line = self.next;
        }
    }

    fn join_line(&mut self, rate: Rate, now: i64) -> i64 {
        let place = self.line.max(self.next);
        if place <= now + HORIZON {
            self.line = place + rate.interval();
        }
        place - AHEAD
    }
}

/// A turn under all the limits or under none: in the first case its time, in the second the time to
/// ask again.
pub(crate) fn take(buckets: &mut [(Rate, Bucket)], now: i64) -> Result<i64, i64> {
    for (rate, bucket) in &mut *buckets {
        *bucket = bucket.sane(*rate, now);
    }
    let free = buckets.iter().map(|(rate, bucket)| bucket.free(*rate, now));
    let at = free.max().unwrap_or(now).max(now);
    if at <= now + HOLD {
        for (rate, bucket) in buckets {
            bucket.take(*rate, at, now);
        }
        return Ok(at);
    }
    let full = buckets.iter_mut().filter(|(rate, bucket)| bucket.free(*rate, now) > now + HOLD);
    let later = full.map(|(rate, bucket)| bucket.join_line(*rate, now)).max();
    Err(later.unwrap_or(at))
}

/// A turn is given out this long ahead: longer than what is put off comes back late.
pub(crate) const HOLD: i64 = 2_000_000;
/// What is put off comes back this much before its place.
pub(crate) const AHEAD: i64 = HOLD / 2;
/// The line has no places beyond this: what waits longer looks again meanwhile, so that it hears
/// of a rate that was raised.
pub(crate) const HORIZON: i64 = 900_000_000;
const LONGEST: usize = 191;
const LONG_AGO: i64 = i64::MIN / 4;

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BinaryHeap};

    use proptest::prelude::*;

    use super::*;

    /// Runs tasks that come at these times through one bucket, each late by what `late` says when
    /// it comes back. When each started, and how often tasks were put off.
    fn simulate(rate: Rate, came: &[i64], late: &[i64]) -> (Vec<i64>, usize) {
        let mut bucket = [(rate, Bucket::default())];
        let mut coming: BinaryHeap<Reverse<i64>> = came.iter().copied().map(Reverse).collect();
        let (mut started, mut put_off) = (Vec::new(), 0);
        while let Some(Reverse(now)) = coming.pop() {
            match take(&mut bucket, now) {
                Ok(at) => started.push(at),
                Err(later) => {
                    assert!(later > now, "what is put off comes later");
                    coming.push(Reverse(later + late[put_off % late.len()]));
                    put_off += 1;
                }
            }
        }
        started.sort_unstable();
        (started, put_off)
    }

    #[test]
    fn of_a_thousand_at_once_each_is_put_off_once_and_the_rate_is_kept() {
        let rate = Rate::per_second(10);
        let (started, put_off) = simulate(rate, &[0; 1000], &[0]);
        let expected: Vec<i64> = (0..1000).map(|nth| nth * 100_000).collect();
        assert_eq!(started, expected);
        assert_eq!(put_off, 979);
    }

    #[test]
    fn a_fast_rate_takes_back_what_a_slow_one_had_given_out() {
        let mut bucket = [(Rate::per_hour(1), Bucket::default())];
        assert_eq!(take(&mut bucket, 0), Ok(0));
        assert!(take(&mut bucket, 0).is_err());
        bucket[0].0 = Rate::per_second(10);
        assert!(take(&mut bucket, 1_000_000).is_err());
        assert_eq!(take(&mut bucket, 2_000_000), Ok(3_100_000));
    }

    #[test]
    fn a_task_under_two_limits_takes_a_turn_of_both_or_of_none() {
        let (wide, narrow) = (Rate::per_second(10), Rate::per_minute(1));
        let mut both = [(wide, Bucket::default()), (narrow, Bucket::default())];
        assert_eq!(take(&mut both, 0), Ok(0));
        let before = both[0].1;
        assert!(take(&mut both, 0).is_err());
        assert_eq!(
            both[0].1, before,
            "the wide limit is not charged for what the narrow one refuses"
        );
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_starts_than_the_rate_allows(
            count in 1u32..2000,
            burst in 0u32..20,
            mut came in prop::collection::vec(0i64..20_000_000, 1..300),
            late in prop::collection::vec(0i64..900_000, 1..20),
        ) {
            came.sort_unstable();
            let rate = Rate::per_minute(count).burst(burst);
            let (started, _) = simulate(rate, &came, &late);
            prop_assert_eq!(started.len(), came.len(), "all start");
            let at_once = usize::try_from(rate.slack() / rate.interval()).unwrap() + 1;
            for (first, from) in started.iter().enumerate() {
                for (last, until) in started.iter().enumerate().skip(first) {
                    let allowed = usize::try_from((until - from) / rate.interval()).unwrap();
                    prop_assert!(last - first < allowed + at_once, "{first}..={last}");
                }
            }
        }

        #[test]
        fn little_is_wasted_and_little_is_put_off_twice(
            count in 30u32..2000,
            mut came in prop::collection::vec(0i64..5_000_000, 50..300),
            late in prop::collection::vec(0i64..900_000, 1..20),
        ) {
            came.sort_unstable();
            let rate = Rate::per_minute(count);
            let (started, put_off) = simulate(rate, &came, &late);
            let (first, last) = (started[0], started[started.len() - 1]);
            let ideal = rate.interval() * i64::try_from(came.len()).unwrap() + came[came.len() - 1];
            let lateness = 2 * HOLD + rate.interval();
            prop_assert!(last - first <= ideal * 11 / 10 + lateness, "{} of {ideal}", last - first);
            prop_assert!(put_off <= came.len() * 2, "{put_off} of {}", came.len());
        }
    }
}
