//! One server: its pool, its role, how far it has got, and whether it may serve.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::why::Why;
use crate::{engine::is_same_run, metrics::ServerMeters, pool::Pool, sight::Position};

/// A server of the cluster.
pub(crate) struct Node {
    pub(crate) pool: Arc<Pool>,
    pub(crate) is_reporting: bool,
    /// Held while the position or the run is changed.
    changing: Mutex<()>,
    /// 0 while `at` is being changed to another timeline.
    timeline: AtomicU32,
    at: AtomicU64,
    is_up: AtomicBool,
    is_doubted: AtomicBool,
    is_standby: AtomicBool,
    /// A standby that lags too much, or has not caught up for long enough, does not serve.
    is_serving: AtomicBool,
    good_looks: AtomicU32,
    lag_ms: AtomicU64,
    behind: AtomicU64,
    /// What was sent to it, in the order of [`Why::ALL`].
    routed: [AtomicU64; Why::ALL.len()],
    meters: ServerMeters,
}

impl Node {
    pub(crate) fn new(pool: Arc<Pool>, is_reporting: bool) -> Self {
        let meters = ServerMeters::new(pool.name());
        Self {
            pool,
            is_reporting,
            changing: Mutex::default(),
            timeline: AtomicU32::new(0),
            at: AtomicU64::new(0),
            is_up: AtomicBool::new(false),
            is_doubted: AtomicBool::new(false),
            is_standby: AtomicBool::new(false),
            is_serving: AtomicBool::new(false),
            good_looks: AtomicU32::new(0),
            lag_ms: AtomicU64::new(0),
            behind: AtomicU64::new(0),
            routed: Default::default(),
            meters,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.pool.name()
    }

    /// Whether the last look at it succeeded.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    pub(crate) fn is_standby(&self) -> bool {
        self.is_standby.load(Ordering::Acquire)
    }

    /// Whether it is a standby that is well enough for plain reads.
    pub(crate) fn is_serving(&self) -> bool {
        self.is_serving.load(Ordering::Acquire)
    }

    /// A lower bound of how far it has got, by the last look.
    pub(crate) fn position(&self) -> Position {
        loop {
            let timeline = self.timeline.load(Ordering::Acquire);
            let at = self.at.load(Ordering::Acquire);
            // Were it changed to another timeline in between, `at` could be of the other one.
            if self.timeline.load(Ordering::Acquire) == timeline {
                return Position { timeline, at };
            }
        }
    }

    /// The run of the server that the position is of.
    pub(crate) fn run(&self) -> u64 {
        self.pool.run()
    }

    /// Notes that a connection led to another server, or to another run of it, than is known. It
    /// serves no reads until its watcher has asked again.
    pub(super) fn doubt(&self) {
        self.judge(Judgement::Ill, 0);
        self.is_doubted.store(true, Ordering::Release);
    }

    /// Whether the watcher has to ask again who this is.
    pub(super) fn take_doubt(&self) -> bool {
        self.is_doubted.swap(false, Ordering::AcqRel)
    }

    /// Whether it has surely got past `floor`. A floor of timeline 0 asks for nothing.
    pub(crate) fn is_past(&self, floor: Position) -> bool {
        if floor.timeline == 0 {
            return true;
        }
        let position = self.position();
        position.timeline == floor.timeline && position.at >= floor.at
    }

    pub(crate) fn lag(&self) -> Duration {
        Duration::from_millis(self.lag_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn behind(&self) -> u64 {
        self.behind.load(Ordering::Relaxed)
    }

    /// How many statements and transactions this process has sent to it, by reason.
    pub(crate) fn routed(&self) -> impl Iterator<Item = (Why, u64)> {
        Why::ALL.into_iter().zip(self.routed.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Notes that something was sent to it.
    pub(crate) fn count(&self, why: Why) {
        self.routed[why as usize].fetch_add(1, Ordering::Relaxed);
        self.meters.routed[why as usize].increment(1);
    }

    /// Notes a look at it; the caller decides about serving.
    pub(super) fn saw(&self, is_standby: bool, position: Position, new_run: Option<u64>) {
        let changing = self.changing();
        let known = self.timeline.load(Ordering::Acquire);
        if new_run.is_some() || known != position.timeline {
            self.timeline.store(0, Ordering::Release);
            if let Some(run) = new_run {
                self.pool.set_run(run);
            }
            self.at.store(position.at, Ordering::Release);
            self.timeline.store(position.timeline, Ordering::Release);
        } else {
            // Looks may end out of order after a reconnect; a lower bound only rises.
            self.at.fetch_max(position.at, Ordering::AcqRel);
        }
        drop(changing);
        self.is_standby.store(is_standby, Ordering::Release);
        self.pool.revive();
        self.is_up.store(true, Ordering::Release);
    }

    /// Notes that this run of it was seen at `position` by somebody else than its watcher.
    pub(super) fn raise(&self, run: u64, position: Position) {
        let _changing = self.changing();
        let is_known = is_same_run(self.run(), run)
            && self.timeline.load(Ordering::Acquire) == position.timeline;
        if is_known {
            self.at.fetch_max(position.at, Ordering::AcqRel);
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_lag(&self, lag: Duration, behind: u64) {
        let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        self.lag_ms.store(lag_ms, Ordering::Relaxed);
        self.behind.store(behind, Ordering::Relaxed);
        self.meters.lag.set(lag.as_secs_f64());
    }

    /// Lets it serve after enough good looks, and stops it at once after a bad one. Gives the change.
    pub(super) fn judge(&self, verdict: Judgement, looks_needed: u32) -> Option<bool> {
        match verdict {
            Judgement::Well => {
                let good = self.good_looks.fetch_add(1, Ordering::Relaxed) + 1;
                let is_news = good >= looks_needed && !self.is_serving.swap(true, Ordering::AcqRel);
                is_news.then(|| self.meters.serves.set(1.0)).map(|()| true)
            }
            Judgement::Between => {
                self.good_looks.store(0, Ordering::Relaxed);
                None
            }
            Judgement::Ill => {
                self.good_looks.store(0, Ordering::Relaxed);
                let is_news = self.is_serving.swap(false, Ordering::AcqRel);
                is_news.then(|| self.meters.serves.set(0.0)).map(|()| false)
            }
        }
    }

    /// Notes that it does not answer; true if it did before. Everything that waits for it fails now.
    pub(super) fn lose(&self) -> bool {
        self.judge(Judgement::Ill, 0);
        self.pool.give_up();
        self.is_up.swap(false, Ordering::AcqRel)
    }
}

/// What a look says about serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Fresh enough to come back.
    Well,
    /// Fresh enough to stay, not to come back.
    Between,
    /// Too late.
    Ill,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_standby() { "standby" } else { "primary" };
        write!(f, "Node({}, {role}, up: {})", self.name(), self.is_up())
    }
}
