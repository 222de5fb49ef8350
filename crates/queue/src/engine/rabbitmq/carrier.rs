//! Carries rows of the ledger to the broker: what was pushed in a transaction, what became due,
//! what waited for a broker to return.

use std::{
    borrow::Borrow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::select_all;
use throng_core::Clock;
use tokio::{
    sync::{Notify, RwLock},
    time::timeout,
};

use super::{
    NAME,
    envelope::Outgoing,
    is_light,
    node::Fate,
    router::{CARRY, Router},
};
use crate::{
    Error, Message, Result, TaskId,
    engine::{
        database::{Database, afloat::Unsent},
        lasting::lasting,
    },
};

#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) ledger: Database,
    pub(super) ledger_id: String,
    pub(super) router: Router,
    pub(super) clock: Clock,
    /// How many tasks the ledger takes while no node can be reached.
    spool: u64,
    /// Held by all whose rows are on their way, so that whoever carries does not send them as well.
    sending: RwLock<()>,
    pub(super) asked: Notify,
    /// Whether the broker may have more than the taps have brought.
    pub(super) must_look: AtomicBool,
    /// Whether something that was pushed here was not confirmed in time.
    pub(super) is_late: AtomicBool,
}

impl Carrier {
    pub(super) fn new(
        ledger: Database,
        ledger_id: String,
        router: Router,
        clock: Clock,
        spool: u64,
    ) -> Self {
        let (sending, asked, must_look, is_late) = Default::default();
        Self { ledger, ledger_id, router, clock, spool, sending, asked, must_look, is_late }
    }

    /// Carries whatever it is asked to, and all that waited when a node returns.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut links: Vec<_> = self.router.nodes.iter().map(|node| node.links()).collect();
        loop {
            let changed = select_all(links.iter_mut().map(|link| Box::pin(link.changed())));
            tokio::select! {
                () = self.asked.notified() => {}
                _ = changed => {}
            }
            while let Err(error) = self.carry().await {
                tracing::warn!(error = ?error, "cannot send tasks to RabbitMQ: {error}");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Has what could not be sent carried as soon as possible.
    pub(super) fn asks_for_help(&self) {
        self.is_late.store(true, Ordering::SeqCst);
        self.asked.notify_one();
    }

    /// Refuses what would make the spool larger than it may be.
    pub(super) async fn admit(&self, count: usize) -> Result<()> {
        if self.router.is_usable() {
            return Ok(());
        }
        let waiting = self.ledger.count_unsent().await?;
        if waiting.saturating_add(count as u64) > self.spool {
            let source = format!("no node answers, and {waiting} tasks wait for one already");
            let (engine, doing) = (NAME, "push a task");
            return Err(Error::Engine { engine, doing, source: source.into() });
        }
        Ok(())
    }

    /// Keeps messages as rows.
    pub(super) async fn keep_rows(&self, messages: &[Arc<Message>]) -> Result<Vec<TaskId>> {
        self.admit(messages.len()).await?;
        self.ledger.push_gathered(messages).await
    }

    /// Sends what was just kept. Its rows are there: what is not confirmed in time is left to
    /// whoever carries, who has the time to wait.
    pub(super) async fn send_pushed(self: Arc<Self>, messages: Vec<Arc<Message>>) -> Vec<()> {
        let begun = Instant::now();
        let sent = async {
            if !self.router.is_usable() {
                return Ok(false);
            }
            let Ok(_sending) = timeout(TURN, self.sending.read()).await else { return Ok(false) };
            let patience = self.router.confirm.saturating_sub(begun.elapsed());
            self.send_kept(messages.iter().map(|message| (&**message, None)), patience).await
        };
        match sent.await {
            Ok(true) => {}
            Ok(false) => self.asks_for_help(),
            Err(error) => {
                tracing::warn!(error = ?error, "cannot note what was sent to RabbitMQ: {error}");
                self.asks_for_help();
            }
        }
        vec![(); messages.len()]
    }

    /// Sends all rows that no broker has, in their order. It goes on without whoever asked for it:
    /// what was sent and not noted would run twice.
    pub(super) async fn carry(self: &Arc<Self>) -> Result<()> {
        let carrier = self.clone();
        lasting(async move { carrier.carry_rows().await }).await
    }

    async fn carry_rows(&self) -> Result<()> {
        let _sending = self.sending.write().await;
        self.ledger.promote_due().await?;
        loop {
            if self.router.links().is_empty() {
                return Ok(());
            }
            let unsent = self.ledger.unsent(MANY).await?;
            let (light, kept): (Vec<&Unsent>, Vec<&Unsent>) = unsent
                .iter()
                .partition(|unsent| unsent.is_fresh && is_light(&unsent.message, i64::MAX));
            let kept = kept.iter().map(|unsent| (&unsent.message, unsent.started_ms));
            let all = self.send_kept(kept, CARRY).await? & self.send_light(&light).await?;
            if !all {
                return Ok(());
            }
            if unsent.len() < MANY as usize {
                self.is_late.store(false, Ordering::SeqCst);
                return Ok(());
            }
        }
    }

    async fn send_kept<'m>(
        &self,
        messages: impl Iterator<Item = (&'m Message, Option<i64>)>,
        patience: Duration,
    ) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        let (looks, outgoing): (Vec<(TaskId, Option<i64>)>, Vec<Outgoing>) = messages
            .map(|(message, started_ms)| {
                let outgoing = Outgoing::of(message, Some(&self.ledger_id), now_ms);
                ((message.id(), started_ms), outgoing)
            })
            .unzip();
        let sent = self.send(&outgoing, patience, patience > self.router.confirm).await;
        let confirmed = looks.into_iter().zip(&sent).filter(|(_, fate)| **fate == Fate::Kept);
        self.ledger.mark_afloat(&confirmed.map(|(look, _)| look).collect::<Vec<_>>()).await?;
        Ok(sent.into_iter().all(|fate| fate == Fate::Kept))
    }

    async fn send_light(&self, unsent: &[&Unsent]) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        let outgoing: Vec<Outgoing> =
            unsent.iter().map(|unsent| Outgoing::of(&unsent.message, None, now_ms)).collect();
        let sent = self.send(&outgoing, CARRY, true).await;
        let of = |fate: Fate| unsent.iter().zip(&sent).filter(move |(_, of)| **of == fate);
        let confirmed: Vec<i64> = of(Fate::Kept).map(|(unsent, _)| unsent.row).collect();
        self.ledger.forget_unsent(&confirmed).await?;
        let doubtful: Vec<TaskId> =
            of(Fate::Unknown).map(|(unsent, _)| unsent.message.id()).collect();
        self.ledger.doubt(&doubtful).await?;
        Ok(confirmed.len() == unsent.len())
    }

    /// Publishes; a worker here looks again.
    pub(super) async fn send(
        &self,
        outgoing: &[impl Borrow<Outgoing> + Sync],
        patience: Duration,
        tries_resting: bool,
    ) -> Vec<Fate> {
        if outgoing.is_empty() {
            return Vec::new();
        }
        let sent = self.router.send(outgoing, patience, tries_resting).await;
        self.must_look.store(true, Ordering::SeqCst);
        self.ledger.signals().ready();
        sent
    }
}

/// Rows that are carried at once.
pub(super) const MANY: u64 = 500;
/// How long a push waits for its turn to send.
const TURN: Duration = Duration::from_millis(75);
const AGAIN: Duration = Duration::from_secs(1);
