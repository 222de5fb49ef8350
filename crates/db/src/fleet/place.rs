//! Where a read goes: to a replica that is well and far enough, else to the primary.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use sea_orm::{ConnAcquireErr, DbErr};
use tokio::sync::OwnedSemaphorePermit;

use super::{Fleet, node::Node, read_only, why::Why};
use crate::{
    engine::is_same_run,
    lease::Lease,
    session::{Session, Want},
    sight::Position,
};

/// Where a read was sent.
pub(crate) struct Placed {
    pub(crate) lease: Lease,
    pub(crate) node: usize,
    pub(crate) why: Why,
}

impl Fleet {
    /// A connection to this run of a server; None when there is another run, or another server, at
    /// its address now. What is known of the one says nothing about the other.
    pub(super) async fn lease_of(&self, at: usize, run: u64) -> Result<Option<Lease>, DbErr> {
        let node = &self.nodes[at];
        let lease = Lease::of(&node.pool).await?;
        let identity = lease.identity();
        if is_same_run(identity.run, run) && identity.cluster == self.cluster() {
            return Ok(Some(lease));
        }
        if !is_same_run(identity.run, node.run()) || identity.cluster != self.cluster() {
            tracing::info!("another run of a server answers at {}", node.name());
            node.doubt();
        }
        Ok(None)
    }

    /// A connection for a read that must see what `session` has written and read.
    pub(crate) async fn lease_reader(
        &self,
        session: &Session,
        tried: &mut Tried,
    ) -> Result<Placed, DbErr> {
        let mut want = session.want(self);
        let mut why;
        let mut is_settled = false;
        loop {
            why = match want {
                Want::Primary(why) => why,
                Want::Refresh => Why::Wrote,
                Want::Past(floor) => match self.lease_replica(session, floor, tried).await {
                    Ok(placed) => return Ok(placed),
                    Err(why) => why,
                },
            };
            // Who has read from a replica does not simply go on at the primary, which may show less
            // for a moment; any replica that is past where the primary is now shows him as much.
            let comes_from_replica = session.seen().is_some()
                || (session.is_shown() && want == Want::Primary(Why::Wrote));
            if is_settled || (want != Want::Refresh && !comes_from_replica) {
                break;
            }
            is_settled = true;
            let began = Instant::now();
            let Ok(position) = self.take_position().await else { break };
            session.settle(self, position, began);
            want = session.want(self);
        }
        self.lease_fallback(session, floor_of(want), why, tried).await
    }

    /// A connection of the reporting pool, which visitors never use.
    pub(crate) async fn lease_report(&self, tried: &mut Tried) -> Result<Placed, DbErr> {
        let at = self
            .pick(|node| node.is_reporting, *tried)
            .ok_or_else(|| read_only("no reporting replica answers"))?;
        tried.add(at);
        let lease = Lease::of(&self.nodes[at].pool).await?;
        Ok(Placed { lease, node: at, why: Why::Report })
    }

    async fn lease_replica(
        &self,
        session: &Session,
        floor: Position,
        tried: &mut Tried,
    ) -> Result<Placed, Why> {
        let patience = if session.is_shown() { SHOWN_WAIT } else { Duration::ZERO };
        let deadline = Instant::now() + self.replica_wait.max(patience);
        loop {
            let moved = self.moved.notified();
            match self.choose(session, floor, *tried) {
                Ok((at, run)) => {
                    tried.add(at);
                    match self.lease_of(at, run).await {
                        Ok(Some(lease)) => return Ok(Placed { lease, node: at, why: Why::Fresh }),
                        Ok(None) => {}
                        Err(error) => self.suspect(at, &error),
                    }
                    continue;
                }
                Err(Why::NoReplica) if !patience.is_zero() => {}
                Err(Why::Behind) => {}
                Err(why) => return Err(why),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || tokio::time::timeout(left, moved).await.is_err() {
                return self.choose(session, floor, *tried).map_or_else(Err, |_| Err(Why::Behind));
            }
        }
    }

    /// The replica for a read and the run of it, or why there is none.
    fn choose(
        &self,
        session: &Session,
        floor: Position,
        tried: Tried,
    ) -> Result<(usize, u64), Why> {
        let mut any_well = false;
        let seen = session.seen();
        let chosen = match seen {
            // Monotonic reads: stay with the replica, or go to the primary, never sideways.
            Some((at, _)) => {
                any_well = self.nodes[at].is_serving() && !tried.has(at);
                any_well.then_some(at)
            }
            None => self.pick(
                |node| {
                    let is_well = node.is_serving() && !node.is_reporting;
                    any_well |= is_well;
                    is_well && node.is_past(floor)
                },
                tried,
            ),
        };
        let why = if any_well { Why::Behind } else { Why::NoReplica };
        let at = chosen.ok_or(why)?;
        // The run first: a position that is read after it is of this run or of a later one.
        let run = self.nodes[at].run();
        if seen.is_some_and(|(_, seen)| !is_same_run(seen, run)) {
            return Err(Why::Stays);
        }
        if self.nodes[at].is_past(floor) { Ok((at, run)) } else { Err(why) }
    }

    /// Where a read would be sent now; None when nobody can take it.
    pub(crate) fn route_read(&self, session: &Session, is_report: bool) -> Option<(usize, Why)> {
        if is_report {
            let at = self.pick(|node| node.is_reporting, Tried::default())?;
            return Some((at, Why::Report));
        }
        let why = match session.want(self) {
            Want::Past(floor) => match self.choose(session, floor, Tried::default()) {
                Ok((at, _)) => return Some((at, Why::Fresh)),
                Err(why) => why,
            },
            Want::Primary(why) => why,
            Want::Refresh => Why::Wrote,
        };
        self.primary().map(|(at, _)| (at, why))
    }

    /// The primary for a read; without one, a replica that is fresh enough even if it lags.
    async fn lease_fallback(
        &self,
        session: &Session,
        floor: Option<Position>,
        why: Why,
        tried: &mut Tried,
    ) -> Result<Placed, DbErr> {
        let has_replicas = self.nodes.len() > 1;
        if self.primary().is_some() {
            // When all replicas fall out at once the primary must not fall over too.
            let is_flood = has_replicas && why == Why::NoReplica;
            let slot = if is_flood { Some(self.fallback_slot().await?) } else { None };
            match self.lease_primary().await {
                Ok((node, mut lease)) => {
                    lease.hold(slot);
                    return Ok(Placed { lease, node, why });
                }
                Err(error) if !matches!(error, DbErr::Conn(_)) => return Err(error),
                Err(_) => {}
            }
        }
        let Some(floor) = floor else { return Err(read_only("the primary is gone")) };
        let seen = session.seen();
        for (at, node) in self.nodes.iter().enumerate() {
            let run = node.run();
            let is_usable = !node.is_reporting && node.is_up() && node.is_standby();
            let is_seen = seen.is_none_or(|seen| seen.0 == at && is_same_run(seen.1, run));
            if tried.has(at) || !is_usable || !is_seen || !node.is_past(floor) {
                continue;
            }
            tried.add(at);
            if let Some(lease) = self.lease_of(at, run).await? {
                return Ok(Placed { lease, node: at, why });
            }
        }
        Err(read_only("the primary is gone and no replica is fresh enough"))
    }

    /// The node with the fewest statements in flight; among equals they take turns.
    fn pick(&self, mut may: impl FnMut(&Node) -> bool, tried: Tried) -> Option<usize> {
        let count = self.nodes.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut best = None;
        for step in 0..count {
            let at = first.wrapping_add(step) % count;
            let node = &self.nodes[at];
            if tried.has(at) || !may(node) {
                continue;
            }
            let lent = node.pool.lent();
            if best.is_none_or(|(fewest, _)| lent < fewest) {
                best = Some((lent, at));
            }
        }
        best.map(|(_, at)| at)
    }

    async fn fallback_slot(&self) -> Result<OwnedSemaphorePermit, DbErr> {
        let late = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        let slot = tokio::time::timeout(FALLBACK_WAIT, self.fallback.clone().acquire_owned());
        slot.await.map_err(|_| late.clone())?.map_err(|_| late)
    }
}

/// Nodes that one statement has been sent to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried(u64);

impl Tried {
    pub(crate) fn has(self, at: usize) -> bool {
        self.0 & (1 << (at % 64)) != 0
    }

    pub(crate) fn add(&mut self, at: usize) {
        self.0 |= 1 << (at % 64);
    }
}

fn floor_of(want: Want) -> Option<Position> {
    match want {
        Want::Past(floor) => Some(floor),
        Want::Primary(_) | Want::Refresh => None,
    }
}

/// Longest wait for a replica that has got as far as another one that a visitor has read from.
const SHOWN_WAIT: Duration = Duration::from_millis(50);
/// Longest wait for the primary to take a read in a replica's place.
const FALLBACK_WAIT: Duration = Duration::from_secs(2);
