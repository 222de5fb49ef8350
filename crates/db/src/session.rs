//! What one visitor has written and read, so that no replica shows him less.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    fleet::{Fleet, Why},
    sight::Position,
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
    /// The floor is what a replica showed. With synchronous standbys the primary may show as much a
    /// moment later than they do, so another replica is waited for before it is asked.
    is_shown: bool,
    /// The cluster of the floor, 0 for none.
    cluster: u64,
    /// The first and the last write whose position is not known.
    wrote: Option<(Instant, Instant)>,
    /// Until when the clock keeps the reads on the primary, in milliseconds since 1970 UTC.
    pinned_until_ms: i64,
    /// Statements and raw connections that may be writing at this moment.
    writing: u32,
    /// The replica that has served a read, and the run of it.
    seen: Option<(usize, u64)>,
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

    /// For one visitor, from what his last requests left: he sees what any of them has seen.
    pub(crate) fn of(tokens: impl IntoIterator<Item = Token>) -> Self {
        let mut state = State::default();
        for token in tokens {
            match token.0 {
                Stand::Clock { until_ms } => {
                    state.pinned_until_ms = state.pinned_until_ms.max(until_ms);
                }
                Stand::Position { cluster, position, is_shown } => {
                    let is_first = state.floor.timeline == 0;
                    if is_first
                        || (state.cluster, state.floor.timeline) == (cluster, position.timeline)
                    {
                        state.raise(cluster, position, is_shown);
                    } else {
                        // Two that cannot be compared: the primary has both.
                        state.is_above_floor = true;
                    }
                }
            }
        }
        Self { state: Mutex::new(state), is_monotonic: true }
    }

    pub(crate) fn want(&self, fleet: &Fleet) -> Want {
        let state = self.state();
        if state.writing > 0 {
            return Want::Primary(Why::Wrote);
        }
        if let Some((first, _)) = state.wrote {
            let is_long_ago = first.elapsed() > SETTLE;
            return if is_long_ago { Want::Refresh } else { Want::Primary(Why::Wrote) };
        }
        if fleet.is_pinned(state.pinned_until_ms) {
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

    /// Notes that something may be written until the guard is dropped.
    pub(crate) fn writing(self: &Arc<Self>) -> Writing {
        self.wrote();
        self.state().writing += 1;
        Writing(self.clone())
    }

    /// Notes which server has served a statement: the primary, or this run of a replica.
    pub(crate) fn went_to(&self, at: usize, run: Option<u64>, why: Why) {
        if !self.is_monotonic {
            return;
        }
        let mut state = self.state();
        match run {
            Some(run) => state.seen = Some((at, run)),
            None => {
                state.is_above_floor = true;
                state.is_shown &= why == Why::Writes;
            }
        }
        match state.routes.iter_mut().find(|route| (route.0, route.1) == (at, why)) {
            Some(route) => route.2 += 1,
            None => state.routes.push((at, why, 1)),
        }
    }

    /// Whether the floor is what a replica has shown.
    pub(crate) fn is_shown(&self) -> bool {
        self.state().is_shown
    }

    /// The replica to stay with, for as long as it runs.
    pub(crate) fn seen(&self) -> Option<(usize, u64)> {
        self.state().seen
    }

    /// Takes the primary's position, which was asked for after `began`, as the floor.
    pub(crate) fn settle(&self, fleet: &Fleet, position: Position, began: Instant) {
        let mut state = self.state();
        // A write that ended after the question was sent may be missing in the answer.
        state.wrote = state.wrote.filter(|(_, last)| *last > began).map(|(_, last)| (last, last));
        state.is_above_floor = false;
        // The log of the primary holds whatever a replica has shown.
        let is_shown = state.seen.take().is_some() || state.is_shown;
        if position.timeline == 0 {
            state.pin(fleet);
        } else {
            state.raise(fleet.cluster(), position, is_shown);
            // The primary that answered has all that the clock stood for, and a token holds only
            // one of the two: when the clock ran out, nothing would keep him from a late replica.
            state.pinned_until_ms = 0;
        }
    }

    /// The token that lets the visitor's next request see what this one has written and read.
    pub(crate) async fn token(&self, fleet: &Fleet) -> Option<Token> {
        let (is_changed, seen) = {
            let state = self.state();
            let is_changed = state.writing > 0 || state.wrote.is_some() || state.is_above_floor;
            (is_changed || state.is_foreign(fleet), state.seen)
        };
        let shown = match seen {
            Some((at, run)) if !is_changed => fleet.take_position_of(at, run).await.ok(),
            _ => None,
        };
        if let Some(position) = shown {
            // Where the engine has no positions, nobody is promised more than his own writes.
            if position.timeline != 0 {
                self.state().raise(fleet.cluster(), position, true);
            }
        } else if is_changed || seen.is_some() {
            // What a replica has shown is in the primary's log.
            let began = Instant::now();
            match fleet.take_position().await {
                Ok(position) => self.settle(fleet, position, began),
                Err(_) => self.state().pin(fleet),
            }
        }
        let mut state = self.state();
        if fleet.is_pinned(state.pinned_until_ms) {
            if state.pinned_until_ms <= fleet.now_ms() {
                state.pin(fleet);
            }
            return Some(Token(Stand::Clock { until_ms: state.pinned_until_ms }));
        }
        let position = state.floor;
        (position.timeline != 0).then_some(Token(Stand::Position {
            cluster: state.cluster,
            position,
            is_shown: state.is_shown,
        }))
    }

    /// `db2:5432 fresh 5, db1:5432 writes 2`.
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

/// Something may be written while this is there.
pub(crate) struct Writing(Arc<Session>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.state().writing -= 1;
        self.0.wrote();
    }
}

impl State {
    fn raise(&mut self, cluster: u64, position: Position, is_shown: bool) {
        if (self.cluster, self.floor.timeline) != (cluster, position.timeline)
            || self.floor.at < position.at
        {
            self.floor = position;
            self.cluster = cluster;
            self.is_shown = is_shown;
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
