//! What one visitor has written and read, so that no replica shows him less.

use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    fleet::{Fleet, Position, Why},
    token::{Stand, Token},
};

/// The causal state of a request, or of the process for a handle that belongs to no request.
#[derive(Debug, Default)]
pub(crate) struct Session {
    state: Mutex<State>,
    /// Follows reads too, so that time never runs backwards from one replica to another.
    is_monotonic: bool,
}

#[derive(Debug, Default)]
struct State {
    /// What a replica must have got past.
    floor: Position,
    /// The cluster of the floor, 0 for none.
    cluster: u64,
    /// The first and the last write whose position is not known.
    wrote: Option<(Instant, Instant)>,
    /// Until when the clock keeps the reads on the primary, in milliseconds since 1970 UTC.
    pinned_until_ms: i64,
    /// The replica that has served a read.
    seen: Option<usize>,
    /// The primary has served a read, and no position of it is in the floor.
    is_above_floor: bool,
    /// Where statements went and why, for people.
    routes: Vec<(usize, Why, u32)>,
}

/// Where a read may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Any server that has got past the position.
    Past(Position),
    /// The primary.
    Primary(Why),
    /// Take the primary's position, then see.
    Refresh,
}

impl Session {
    /// For handles that belong to nobody: they see their own writes, and read from any replica.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// For one visitor, from what his last request left.
    pub(crate) fn of(token: Option<Token>) -> Self {
        let mut state = State::default();
        match token.map(|token| token.0) {
            Some(Stand::Position { cluster, position }) => {
                state.cluster = cluster;
                state.floor = position;
            }
            Some(Stand::Clock { until_ms }) => state.pinned_until_ms = until_ms,
            None => {}
        }
        Self { state: Mutex::new(state), is_monotonic: true }
    }

    pub(crate) fn want(&self, fleet: &Fleet) -> Want {
        let state = self.state();
        if let Some((first, _)) = state.wrote {
            let is_long_ago = first.elapsed() > SETTLE;
            return if is_long_ago { Want::Refresh } else { Want::Primary(Why::Wrote) };
        }
        if state.pinned_until_ms > 0 && state.pinned_until_ms > fleet.now_ms() {
            return Want::Primary(Why::Pinned);
        }
        if state.is_above_floor {
            return Want::Primary(Why::Stays);
        }
        if state.is_foreign(fleet) {
            return Want::Primary(Why::Foreign);
        }
        Want::Past(state.floor)
    }

    /// Notes that something was, or may have been, written.
    pub(crate) fn wrote(&self) {
        let now = Instant::now();
        let mut state = self.state();
        state.wrote = Some((state.wrote.map_or(now, |(first, _)| first), now));
    }

    /// Notes which server has served a statement.
    pub(crate) fn went_to(&self, at: usize, is_primary: bool, why: Why) {
        if !self.is_monotonic {
            return;
        }
        let mut state = self.state();
        if is_primary {
            state.is_above_floor = true;
        } else {
            state.seen = Some(at);
        }
        match state.routes.iter_mut().find(|route| (route.0, route.1) == (at, why)) {
            Some(route) => route.2 += 1,
            None => state.routes.push((at, why, 1)),
        }
    }

    /// The replica to stay with.
    pub(crate) fn seen(&self) -> Option<usize> {
        self.state().seen
    }

    /// Takes the primary's position, which was asked for after `began`, as the floor.
    pub(crate) fn settle(&self, fleet: &Fleet, position: Position, began: Instant) {
        let mut state = self.state();
        // A write that ended after the question was sent may be missing in the answer.
        state.wrote = state.wrote.filter(|(_, last)| *last > began).map(|(_, last)| (last, last));
        state.is_above_floor = false;
        if position.timeline == 0 {
            state.pin(fleet);
        } else {
            state.raise(fleet.cluster(), position);
            // The primary that answered has all that the clock stood for, and a token holds only
            // one of the two: when the clock ran out, nothing would keep him from a late replica.
            state.pinned_until_ms = 0;
        }
    }

    /// The token that lets the visitor's next request see what this one has written and read.
    pub(crate) async fn token(&self, fleet: &Fleet) -> Option<Token> {
        let (must_ask_primary, seen) = {
            let state = self.state();
            let is_changed = state.wrote.is_some() || state.is_above_floor;
            (is_changed || state.is_foreign(fleet), state.seen)
        };
        if must_ask_primary {
            // The primary is never behind what a replica has shown.
            let began = Instant::now();
            match fleet.take_position().await {
                Ok(position) => self.settle(fleet, position, began),
                Err(_) => self.state().pin(fleet),
            }
        } else if let Some(at) = seen
            && fleet.has_several_replicas()
        {
            match fleet.take_position_of(at).await {
                Ok(position) => self.state().raise(fleet.cluster(), position),
                // Nobody can tell what the visitor has seen, except that the primary has it.
                Err(_) => self.state().pin(fleet),
            }
        }
        let state = self.state();
        if state.pinned_until_ms > fleet.now_ms() {
            return Some(Token(Stand::Clock { until_ms: state.pinned_until_ms }));
        }
        let position = state.floor;
        (position.timeline != 0)
            .then_some(Token(Stand::Position { cluster: state.cluster, position }))
    }

    /// `replica-1 fresh 5, primary wrote 2`.
    pub(crate) fn routes(&self, fleet: &Fleet) -> String {
        let state = self.state();
        let mut text = String::new();
        for (at, why, count) in &state.routes {
            let comma = if text.is_empty() { "" } else { ", " };
            let name = fleet.nodes()[*at].name();
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{name} {why} {count}");
        }
        text
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn raise(&mut self, cluster: u64, position: Position) {
        if (self.cluster, self.floor.timeline) != (cluster, position.timeline)
            || self.floor.at < position.at
        {
            self.floor = position;
            self.cluster = cluster;
        }
    }

    fn pin(&mut self, fleet: &Fleet) {
        let pin_ms = i64::try_from(fleet.pin().as_millis()).unwrap_or(i64::MAX);
        self.pinned_until_ms = fleet.now_ms().saturating_add(pin_ms);
    }

    /// Whether the floor cannot be compared with where our servers are.
    fn is_foreign(&self, fleet: &Fleet) -> bool {
        if self.floor.timeline == 0 {
            return false;
        }
        let primary = fleet.primary().map(|(_, node)| node.position().timeline);
        self.cluster != fleet.cluster() || primary.is_some_and(|now| now != self.floor.timeline)
    }
}

/// How long after a write reads stay on the primary before a position is asked for. A request is
/// over by then; a long-lived handle gets back to the replicas.
const SETTLE: Duration = Duration::from_millis(20);
