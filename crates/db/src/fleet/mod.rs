//! The servers of one cluster: who is the primary, who may serve a read, and how far each has got.

mod history;
mod node;
mod place;
mod watch;
pub(crate) mod why;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::{DbErr, RuntimeErr};
use throng_core::Clock;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, Semaphore},
    task::AbortHandle,
};

use self::history::History;
pub(crate) use self::{node::Node, place::Tried, why::Why};
use crate::{config::Config, engine::Connector, error, lease::Lease, pool::Pool, sight::Position};

/// A cluster of servers, watched by tasks of its own that end with it.
pub(crate) struct Fleet {
    nodes: Vec<Arc<Node>>,
    /// Index of the primary, [`NOBODY`] while there is none.
    primary: AtomicUsize,
    /// The cluster's number, from the first server of the URL that answered when we opened.
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

    /// Notes that a connection to a node could not be had or broke. Where nobody listens there is no
    /// server. A connection that broke may be the only one that did: an administrator has ended it,
    /// or a firewall. Whether the server is gone its watcher knows within a few milliseconds, and
    /// what others do on their connections goes on until then.
    pub(crate) fn suspect(&self, at: usize, error: &DbErr) {
        if error::is_refused_connection(error) {
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

    fn watch_by(&self, watcher: AbortHandle) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
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

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.nodes).finish()
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
/// Time for a watcher to find out who answers at an address.
const DOUBT: Duration = Duration::from_millis(20);
const MAX_DOUBTS: u32 = 50;
