//! The watchers: one task a server looks at it many times a second over a connection of its own.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::timeout};

use super::{
    Fleet,
    node::{Judgement, Node},
};
use crate::{
    config::Config,
    engine::{Conn, Connector},
    error,
    sight::{Position, Sight},
};

/// What a watcher keeps about its server.
struct Watcher {
    fleet: Weak<Fleet>,
    at: usize,
    probe: Connector,
    conn: Option<Conn>,
    interval: Duration,
    /// Longest wait for an answer.
    patience: Duration,
    late: u32,
    disconnected_since: Option<Instant>,
    /// Where the server stood at the last look, as a standby.
    stood: Option<(Instant, Position)>,
    /// The trouble that was logged last, so that it is logged once.
    told: Option<Trouble>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Lost,
    Rival,
    Stranger,
}

/// Starts the watchers and waits for the first word from each. The server that the URL names first
/// says which cluster it is, or the next that answers: else a stranger that is quick could.
pub(super) async fn start(
    fleet: &Arc<Fleet>,
    probes: Vec<Connector>,
    config: &Config,
) -> Result<(), sqlx::Error> {
    let (first, mut words) = mpsc::channel(probes.len().max(1));
    let mut worst = None;
    for (at, probe) in probes.into_iter().enumerate() {
        let watcher = Watcher {
            fleet: Arc::downgrade(fleet),
            at,
            patience: if probe.is_pooled() { POOLED_LOOK_TIMEOUT } else { LOOK_TIMEOUT },
            probe,
            conn: None,
            interval: Duration::from_millis(config.poll_ms.max(1)),
            late: 0,
            disconnected_since: None,
            stood: None,
            told: None,
        };
        let task = tokio::spawn(watcher.run(first.clone()));
        fleet.watch_by(task.abort_handle());
        if fleet.cluster() == 0
            && let Some(Err(error)) = words.recv().await
        {
            worst = Some(error);
        }
    }
    drop(first);
    while let Some(word) = words.recv().await {
        if let Err(error) = word {
            worst = Some(error);
        }
    }
    // One that answers is enough to start: the others are found when they come.
    match worst {
        Some(error) if fleet.nodes.iter().all(|node| !node.is_up()) => Err(error),
        _ => Ok(()),
    }
}

impl Watcher {
    async fn run(mut self, first: mpsc::Sender<Result<(), sqlx::Error>>) {
        let mut first = Some(first);
        loop {
            let looked = self.look().await;
            let Some(fleet) = self.fleet.upgrade() else { return };
            let word = match looked {
                Ok((sight, new_run)) => {
                    self.late = 0;
                    self.note(&fleet, sight, new_run);
                    Ok(())
                }
                Err(error) => {
                    self.miss(&fleet, &error);
                    Err(error)
                }
            };
            if let Some(first) = first.take() {
                let _ = first.send(word).await;
            }
            drop(fleet);
            let is_lost = self.told == Some(Trouble::Lost);
            tokio::time::sleep(if is_lost { LOST_INTERVAL } else { self.interval }).await;
        }
    }

    /// One look; says too which run of the server it was when that is news.
    async fn look(&mut self) -> Result<(Sight, Option<u64>), sqlx::Error> {
        let new_run = self.identify().await?;
        let Some(conn) = &mut self.conn else { return Err(sqlx::Error::PoolClosed) };
        match timeout(self.patience, conn.look()).await {
            Ok(Ok(Some(sight))) => Ok((sight, new_run)),
            Ok(Ok(None)) => Err(sqlx::Error::PoolClosed),
            Ok(Err(error)) => {
                self.conn = None;
                Err(error)
            }
            Err(_) => {
                // The answer may still come, and would then be taken for the next one's.
                self.conn = None;
                Err(late())
            }
        }
    }

    /// Connects where need be, and asks who is there. A pooler keeps our connection while the server
    /// behind it starts again, so it is asked each time.
    async fn identify(&mut self) -> Result<Option<u64>, sqlx::Error> {
        let fleet = self.fleet.upgrade().ok_or(sqlx::Error::PoolClosed)?;
        if fleet.nodes[self.at].take_doubt() {
            self.conn = None;
        }
        let known = self.conn.as_ref().map(|conn| conn.identity);
        if known.is_some() && !self.probe.is_pooled() {
            return Ok(None);
        }
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => timeout(self.connect_timeout(), self.probe.connect())
                .await
                .map_err(|_| late())??,
        };
        let identity = timeout(self.patience, conn.identify()).await.map_err(|_| late())??;
        let (unset, cluster) = (0, identity.cluster);
        let first =
            fleet.cluster.compare_exchange(unset, cluster, Ordering::AcqRel, Ordering::Acquire);
        if first.is_err_and(|known| known != cluster) {
            let reason = "the server is of another cluster than the first that answered";
            return Err(sqlx::Error::Configuration(reason.into()));
        }
        self.conn = Some(conn);
        Ok(known.is_none_or(|known| known != identity).then_some(identity.run))
    }

    /// A server that has just failed to answer is hardly there: what waits for it waits no longer
    /// than it must.
    fn connect_timeout(&self) -> Duration {
        let is_doubtful = self.late > 0 && self.told != Some(Trouble::Lost);
        if is_doubtful && !self.probe.is_pooled() { SECOND_TRY_TIMEOUT } else { CONNECT_TIMEOUT }
    }

    fn miss(&mut self, fleet: &Fleet, error: &sqlx::Error) {
        self.late += 1;
        // One late answer is a hiccup; a refused or closed connection is not.
        let is_hiccup =
            matches!(error, sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut);
        if is_hiccup && self.late < 2 {
            return;
        }
        if self.told.replace(Trouble::Lost) != Some(Trouble::Lost) {
            tracing::warn!(%error, "cannot look at database server {}", fleet.nodes[self.at].name());
        }
        fleet.lose(self.at);
    }

    fn note(&mut self, fleet: &Fleet, sight: Sight, new_run: Option<u64>) {
        let now = Instant::now();
        let node = &fleet.nodes[self.at];
        if new_run.is_some() && self.told == Some(Trouble::Stranger) {
            self.told = None; // It may have been made a replica of ours meanwhile.
            self.stood = None;
        }
        node.saw(!sight.is_primary, sight.position, new_run);
        if self.told == Some(Trouble::Lost) {
            self.told = None;
            tracing::info!("found database server {} again", node.name());
        }
        if sight.is_primary {
            self.note_primary(fleet, sight, now);
            return;
        }
        if fleet.demote(self.at) {
            tracing::warn!("database server {} has stepped down", node.name());
        }
        let judgement = self.judge(fleet, node, sight, now);
        match node.judge(judgement, LOOKS_TO_RETURN) {
            Some(true) => tracing::info!("database server {} serves reads", node.name()),
            Some(false) => tracing::warn!(
                db.lag_ms = node.lag().as_millis() as u64,
                "database server {} lags too much and serves no reads",
                node.name()
            ),
            None => {}
        }
        fleet.moved.notify_waiters();
    }

    /// What the look at a standby says about serving reads.
    fn judge(&mut self, fleet: &Fleet, node: &Node, sight: Sight, now: Instant) -> Judgement {
        let position = sight.position;
        let history = fleet.history();
        let lag = history.lag(now, position);
        node.set_lag(lag, history.behind(position));
        let stood = self.stood.replace((now, position));
        if fleet.primary().is_none() {
            self.disconnected_since = None;
            // Late or not, it is the best there is, unless it was never one of ours.
            let is_stranger = self.told == Some(Trouble::Stranger);
            return if is_stranger { Judgement::Ill } else { Judgement::Well };
        }
        // Servers that have a number of their cluster were asked for it.
        let has_number = fleet.cluster() != 0;
        let is_stranger = self.told == Some(Trouble::Stranger)
            || stood.is_some_and(|(seen, position)| history.excludes(seen, position));
        if is_stranger && !has_number {
            if self.told.replace(Trouble::Stranger) != Some(Trouble::Stranger) {
                let name = node.name();
                tracing::error!(
                    "database server {name} has what the primary lacks: it is no replica of it"
                );
            }
            return Judgement::Ill;
        }
        if sight.is_connected {
            self.disconnected_since = None;
        } else {
            self.disconnected_since.get_or_insert(now);
        }
        let away = self.disconnected_since.map_or(Duration::ZERO, |since| now - since);
        let worst = lag.max(away);
        if worst > fleet.max_lag {
            Judgement::Ill
        } else if worst > fleet.max_lag / 2 || !history.tells_lag_of(position) {
            Judgement::Between
        } else {
            Judgement::Well
        }
    }

    fn note_primary(&mut self, fleet: &Fleet, sight: Sight, now: Instant) {
        let node = &fleet.nodes[self.at];
        node.judge(Judgement::Ill, 0); // A primary is no replica.
        let latest = fleet.timeline.load(Ordering::Acquire);
        let current = fleet.primary();
        let is_current = current.is_some_and(|(at, _)| at == self.at);
        // Two that say so: the later timeline was promoted last. One of an earlier timeline is the
        // primary of yesterday, and what it takes would be lost.
        let is_later = sight.position.timeline > latest;
        // Of two that nothing tells apart the URL's first is meant, whichever answered first.
        let is_first = !fleet.is_open.load(Ordering::Acquire)
            && sight.position.timeline == latest
            && current.is_some_and(|(at, _)| self.at < at);
        if !is_current
            && !is_later
            && !is_first
            && (current.is_some() || sight.position.timeline < latest)
        {
            if self.told.replace(Trouble::Rival) != Some(Trouble::Rival) {
                let name = node.name();
                tracing::error!("database server {name} says it is the primary, but another is");
            }
            return;
        }
        self.told = None;
        if !is_current {
            fleet.timeline.fetch_max(sight.position.timeline, Ordering::AcqRel);
            fleet.crown(self.at);
            tracing::info!("database server {} is the primary", node.name());
        }
        node.set_lag(Duration::ZERO, 0);
        fleet.history().note(now, sight.position);
        fleet.moved.notify_waiters();
    }
}

fn late() -> sqlx::Error {
    error::late("the server did not answer a look in time")
}

/// A look takes well under a millisecond; a server that takes this long is not there.
const LOOK_TIMEOUT: Duration = Duration::from_millis(300);
/// Behind a pooler a look waits for a connection like every statement.
const POOLED_LOOK_TIMEOUT: Duration = Duration::from_millis(3_000);
/// Between two looks at a server that does not answer.
const LOST_INTERVAL: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(2_000);
/// With the look before it, a server that hangs is given up within a second.
const SECOND_TRY_TIMEOUT: Duration = Duration::from_millis(600);
/// Good looks in a row before a standby serves again.
const LOOKS_TO_RETURN: u32 = 3;
