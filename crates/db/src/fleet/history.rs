//! Where the primary was when: from it, how old what a replica shows is.
//!
//! A heartbeat row would tell the same with a write every quarter of a second. Here the looks at
//! the primary are the heartbeat: a replica lags since the first look that found the primary ahead
//! of where the replica is now. One clock is involved, this process's; an idle primary ages nobody,
//! and a replica that was cut off or paused ages from the first change that it misses.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::sight::Position;

/// The last looks at the primary, oldest first, each with a higher position than the one before.
#[derive(Debug, Default)]
pub(super) struct History {
    timeline: u32,
    looks: VecDeque<(Instant, u64)>,
    /// Older looks were dropped, so the oldest is not where it began.
    has_forgotten: bool,
    last: Option<(Instant, Position)>,
}

impl History {
    /// Notes that the primary was seen at `position`.
    pub(super) fn note(&mut self, now: Instant, position: Position) {
        if position.timeline != self.timeline {
            self.timeline = position.timeline;
            self.looks.clear();
            self.has_forgotten = false;
        }
        self.last = Some((now, position));
        if self.looks.back().is_none_or(|(_, at)| *at < position.at) {
            self.looks.push_back((now, position.at));
        }
        // What is older than the longest interesting lag only has to be known as older.
        while self.looks.len() > MAX_LOOKS {
            self.looks.pop_front();
            self.has_forgotten = true;
        }
    }

    /// Whether it is known how old what `position` shows is. Nobody knows how long a replica has
    /// been where the primary was no more when it was looked at first.
    pub(super) fn tells_lag_of(&self, position: Position) -> bool {
        let at = if position.timeline == self.timeline { position.at } else { 0 };
        self.has_forgotten || self.looks.front().is_none_or(|(_, first)| *first <= at)
    }

    /// Whether a server that stood at `position` at `seen` is no replica of this primary, which had
    /// not got as far at a later look.
    pub(super) fn excludes(&self, seen: Instant, position: Position) -> bool {
        self.last.is_some_and(|(looked, primary)| {
            looked > seen && primary.timeline == position.timeline && primary.at < position.at
        })
    }

    /// How long ago the primary went ahead of `position`; zero if it has not.
    pub(super) fn lag(&self, now: Instant, position: Position) -> Duration {
        let at = if position.timeline == self.timeline { position.at } else { 0 };
        let ahead = self.looks.partition_point(|(_, seen)| *seen <= at);
        match self.looks.get(ahead) {
            Some((since, _)) => now.saturating_duration_since(*since),
            None => Duration::ZERO,
        }
    }

    /// Bytes, or transactions, between `position` and the last look at the primary.
    pub(super) fn behind(&self, position: Position) -> u64 {
        let last = self.looks.back().map_or(0, |(_, at)| *at);
        last.saturating_sub(position.at)
    }
}

/// A minute and a half of looks every 20 ms.
const MAX_LOOKS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: u64) -> Position {
        Position { timeline: 1, at }
    }

    #[test]
    fn a_replica_lags_since_the_first_change_that_it_misses() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut history = History::default();
        assert_eq!(history.lag(start, at(0)), Duration::ZERO);
        history.note(after(0), at(10));
        history.note(after(100), at(10));
        history.note(after(200), at(20));
        history.note(after(300), at(30));
        assert_eq!(history.lag(after(5_000), at(30)), Duration::ZERO, "idle is not late");
        assert_eq!(history.lag(after(5_000), at(29)), Duration::from_millis(4_700));
        assert_eq!(history.lag(after(5_000), at(10)), Duration::from_millis(4_800));
        assert_eq!(history.behind(at(12)), 18);
        assert!(history.tells_lag_of(at(10)) && !history.tells_lag_of(at(9)));
        history.note(after(400), Position { timeline: 2, at: 25 });
        assert_eq!(history.lag(after(500), at(30)), Duration::from_millis(100), "another timeline");
    }

    #[test]
    fn who_was_ahead_of_a_later_look_at_the_primary_is_no_replica_of_it() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut history = History::default();
        assert!(!history.excludes(start, at(7)));
        history.note(after(10), at(10));
        assert!(!history.excludes(after(11), at(12)), "the primary may have got there since");
        history.note(after(20), at(11));
        assert!(history.excludes(after(11), at(12)));
        assert!(!history.excludes(after(11), at(11)));
        assert!(!history.excludes(after(11), Position { timeline: 2, at: 12 }), "not comparable");
    }
}
