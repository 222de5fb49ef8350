//! The servers of one cluster: who is the primary, who may serve a read, and how far each has got.

mod history;
mod node;
mod watch;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use throng_core::Clock;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};

use self::history::History;
pub(crate) use self::node::Node;
use crate::{
    config::Config,
    engine::{Connector, is_same_run},
    error,
    pool::{Lease, Pool},
    session::{Session, Want},
};

/// How far a server has got: a place in the log of one timeline. A timeline of 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) timeline: u32,
    pub(crate) at: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:X}", self.timeline, self.at)
    }
}

/// What one look at a server told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) is_primary: bool,
    pub(crate) position: Position,
    /// Whether a standby receives from its primary; true for a primary.
    pub(crate) is_connected: bool,
}

/// A cluster of servers, watched by tasks of its own that end with it.
pub(crate) struct Fleet {
    nodes: Vec<Arc<Node>>,
    /// Index of the primary, [`NOBODY`] while there is none.
    primary: AtomicUsize,
    /// The cluster's number, from the first server that told one.
    cluster: AtomicU64,
    /// The latest timeline that a primary has shown. One of an earlier timeline is not followed.
    timeline: AtomicU32,
    /// When the primary was lost last and when it was found last, in milliseconds since 1970 UTC.
    lost_ms: AtomicI64,
    found_ms: AtomicI64,
    turn: AtomicUsize,
    /// Plain reads that the primary takes at once while every replica is out.
    fallback: Arc<Semaphore>,
    history: Mutex<History>,
    /// Rung when a replica has got further or a primary was found.
    moved: Notify,
    tickets: AtomicU64,
    taken: AsyncMutex<Taken>,
    watchers: Mutex<Vec<AbortHandle>>,
    /// Every server has been looked at once.
    is_open: AtomicBool,
    max_lag: Duration,
    replica_wait: Duration,
    pin: Duration,
    is_read_only: bool,
    clock: Clock,
}

/// A position taken from the primary, and the highest ticket that it covers.
#[derive(Default)]
struct Taken {
    covers: u64,
    position: Position,
}

/// A server and what it is for.
pub(crate) struct Seat {
    pub(crate) name: String,
    pub(crate) connector: Connector,
    pub(crate) probe: Connector,
    pub(crate) is_reporting: bool,
}

/// Where a read was sent.
pub(crate) struct Placed {
    pub(crate) lease: Lease,
    pub(crate) node: usize,
    pub(crate) why: Why,
}

/// Why a read went where it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A replica was fresh enough.
    Fresh,
    /// It was asked for.
    Asked,
    /// The visitor has just written, and the position is not known yet.
    Wrote,
    /// No replica has got as far as this visitor's writes and reads.
    Behind,
    /// No replica is well.
    NoReplica,
    /// The visitor's token is of another cluster or timeline.
    Foreign,
    /// The primary has shown this visitor more than a replica may.
    Stays,
    /// The engine has no positions, so the clock decides.
    Pinned,
    /// It reads for a report.
    Report,
    /// It writes, or may write.
    Writes,
}

impl Fleet {
    /// Connects to the servers and starts to watch them. Waits until each has been seen once or has
    /// failed to answer.
    pub(crate) async fn open(seats: Vec<Seat>, config: &Config) -> Result<Arc<Self>, sqlx::Error> {
        let mut nodes = Vec::new();
        let mut probes = Vec::new();
        for seat in seats {
            let pool = Pool::new(seat.name, seat.connector, config.connections, config);
            nodes.push(Arc::new(Node::new(pool, seat.is_reporting)));
            probes.push(seat.probe);
        }
        let fleet = Arc::new(Self {
            nodes,
            primary: AtomicUsize::new(NOBODY),
            cluster: AtomicU64::new(0),
            timeline: AtomicU32::new(0),
            lost_ms: AtomicI64::new(0),
            found_ms: AtomicI64::new(config.clock.now_ms()),
            turn: AtomicUsize::new(0),
            fallback: Arc::new(Semaphore::new(config.connections.div_ceil(2).max(1) as usize)),
            history: Mutex::default(),
            moved: Notify::new(),
            tickets: AtomicU64::new(0),
            taken: AsyncMutex::default(),
            watchers: Mutex::default(),
            is_open: AtomicBool::new(false),
            max_lag: Duration::from_millis(config.max_lag_ms),
            replica_wait: Duration::from_millis(config.replica_wait_ms),
            pin: Duration::from_millis(config.max_lag_ms * 2),
            is_read_only: config.read_only,
            clock: config.clock.clone(),
        });
        watch::start(&fleet, probes, config).await?;
        fleet.is_open.store(true, Ordering::Release);
        Ok(fleet)
    }

    pub(crate) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    pub(crate) fn cluster(&self) -> u64 {
        self.cluster.load(Ordering::Relaxed)
    }

    pub(crate) fn primary(&self) -> Option<(usize, &Arc<Node>)> {
        let at = self.primary.load(Ordering::Acquire);
        self.nodes.get(at).map(|node| (at, node))
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only || self.primary().is_none()
    }

    /// A connection that may write.
    pub(crate) async fn lease_writer(&self) -> Result<(Lease, usize), DbErr> {
        if self.is_read_only {
            return Err(read_only("the site is set to read-only"));
        }
        let (at, lease) = self.lease_primary().await?;
        Ok((lease, at))
    }

    pub(crate) async fn lease_primary(&self) -> Result<(usize, Lease), DbErr> {
        for _ in 0..MAX_DOUBTS {
            let (at, node) = self.primary().ok_or_else(|| read_only("the primary is gone"))?;
            match self.lease_of(at, node.run()).await {
                Ok(Some(lease)) => return Ok((at, lease)),
                // Its watcher finds out within a few milliseconds whether it still is the primary.
                Ok(None) => tokio::time::sleep(DOUBT).await,
                Err(error) => {
                    self.suspect(at, &error);
                    return Err(error);
                }
            }
        }
        Err(read_only("the primary's address leads to another server"))
    }

    /// A connection to this run of a server; None when there is another run, or another server, at
    /// its address now. What is known of the one says nothing about the other.
    async fn lease_of(&self, at: usize, run: u64) -> Result<Option<Lease>, DbErr> {
        let node = &self.nodes[at];
        let lease = node.pool.acquire().await?;
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
            if want != Want::Refresh && session.seen().is_none() {
                break;
            }
            let began = Instant::now();
            let Ok(position) = self.take_position().await else { break };
            session.settle(self, position, began);
            want = session.want(self);
            if want == Want::Refresh {
                break;
            }
        }
        self.lease_fallback(session, floor_of(want), why, tried).await
    }

    /// A connection of the reporting pool, which visitors never use.
    pub(crate) async fn lease_report(&self, tried: &mut Tried) -> Result<Placed, DbErr> {
        let at = self
            .pick(|node| node.is_reporting, *tried)
            .ok_or_else(|| read_only("no reporting replica answers"))?;
        tried.add(at);
        let lease = self.nodes[at].pool.acquire().await?;
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

    /// Where the primary stands now, that is after every commit that has returned before this call.
    /// One query serves all callers that asked before it was sent.
    pub(crate) async fn take_position(&self) -> Result<Position, DbErr> {
        let ticket = self.tickets.fetch_add(1, Ordering::AcqRel) + 1;
        let mut taken = self.taken.lock().await;
        if taken.covers >= ticket {
            return Ok(taken.position);
        }
        let covers = self.tickets.load(Ordering::Acquire);
        let (_, mut lease) = self.lease_primary().await?;
        let sight = lease.look().await?;
        if !sight.is_primary {
            return Err(read_only("the primary has stepped down"));
        }
        *taken = Taken { covers, position: sight.position };
        Ok(sight.position)
    }

    /// Where this run of a replica stands now: at least as far as any read has seen it that ended
    /// before.
    pub(crate) async fn take_position_of(&self, at: usize, run: u64) -> Result<Position, DbErr> {
        let lease = self.lease_of(at, run).await?;
        let mut lease = lease.ok_or_else(|| read_only("the replica has started again"))?;
        let position = lease.look().await?.position;
        self.nodes[at].raise(run, position);
        Ok(position)
    }

    /// How long a visitor stays with the primary where positions are not to be had.
    pub(crate) fn pin(&self) -> Duration {
        self.pin
    }

    /// Notes that a connection to a node could not be had or broke.
    pub(crate) fn suspect(&self, at: usize, error: &DbErr) {
        if error::is_lost(error) {
            self.lose(at);
        }
    }

    /// Notes that the primary refuses to write: it was demoted, and the next look tells.
    pub(crate) fn demote(&self, at: usize) -> bool {
        let was = self.primary.compare_exchange(at, NOBODY, Ordering::AcqRel, Ordering::Acquire);
        if was.is_ok() {
            self.lost_ms.store(self.now_ms(), Ordering::Release);
        }
        was.is_ok()
    }

    fn crown(&self, at: usize) {
        self.found_ms.store(self.now_ms(), Ordering::Release);
        self.primary.store(at, Ordering::Release);
    }

    /// Whether a pin that the clock ends at `until_ms` still holds. How late a replica is shows only
    /// by the primary, so a pin that held when it was lost holds until the next one has been seen
    /// for as long as a pin lasts.
    pub(crate) fn is_pinned(&self, until_ms: i64) -> bool {
        let now_ms = self.now_ms();
        if until_ms > now_ms {
            return true;
        }
        if until_ms == 0 || until_ms <= self.lost_ms.load(Ordering::Acquire) {
            return false;
        }
        let pin_ms = i64::try_from(self.pin.as_millis()).unwrap_or(i64::MAX);
        let end_ms = self.found_ms.load(Ordering::Acquire).saturating_add(pin_ms);
        self.primary().is_none() || now_ms < end_ms
    }

    fn lose(&self, at: usize) {
        if self.nodes[at].lose() {
            tracing::warn!(db.node = %self.nodes[at].name(), "lost database server {}", self.nodes[at].name());
        }
        self.demote(at);
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fallback_slot(&self) -> Result<OwnedSemaphorePermit, DbErr> {
        let late = DbErr::ConnectionAcquire(ConnAcquireErr::Timeout);
        let slot = tokio::time::timeout(FALLBACK_WAIT, self.fallback.clone().acquire_owned());
        slot.await.map_err(|_| late.clone())?.map_err(|_| late)
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(crate) async fn close(&self) {
        let watchers =
            std::mem::take(&mut *self.watchers.lock().unwrap_or_else(PoisonError::into_inner));
        watchers.iter().for_each(AbortHandle::abort);
        for node in &self.nodes {
            node.pool.close().await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let watchers = self.watchers.get_mut().unwrap_or_else(PoisonError::into_inner);
        watchers.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Asked => "asked",
            Self::Wrote => "wrote",
            Self::Behind => "behind",
            Self::NoReplica => "no-replica",
            Self::Foreign => "foreign-token",
            Self::Stays => "stays",
            Self::Pinned => "pinned",
            Self::Report => "report",
            Self::Writes => "writes",
        })
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.nodes).finish()
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

    pub(crate) fn count(self) -> u32 {
        self.0.count_ones()
    }
}

fn floor_of(want: Want) -> Option<Position> {
    match want {
        Want::Past(floor) => Some(floor),
        Want::Primary(_) | Want::Refresh => None,
    }
}

pub(crate) fn read_only(reason: &str) -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(format!("{READ_ONLY}: {reason}")))
}

/// Whether an error says that the database cannot be written right now.
#[must_use]
pub fn is_read_only(error: &DbErr) -> bool {
    match error {
        DbErr::Conn(RuntimeErr::Internal(reason)) => reason.starts_with(READ_ONLY),
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            error::is_read_only(error)
        }
        _ => false,
    }
}

const READ_ONLY: &str = "the database is read-only";
const NOBODY: usize = usize::MAX;
/// Longest wait for a replica that has got as far as another one that a visitor has read from.
const SHOWN_WAIT: Duration = Duration::from_millis(50);
/// Time for a watcher to find out who answers at an address.
const DOUBT: Duration = Duration::from_millis(20);
const MAX_DOUBTS: u32 = 50;
/// Longest wait for the primary to take a read in a replica's place.
const FALLBACK_WAIT: Duration = Duration::from_secs(2);
