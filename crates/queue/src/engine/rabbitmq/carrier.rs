//! Carries rows of the ledger to the broker: what was pushed in a transaction, what became due,
//! what waited for a broker to return.

use std::{
    borrow::Borrow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::select_all;
use throng_core::Clock;
use tokio::sync::{Mutex, Notify};

use super::{
    envelope::Outgoing,
    is_light,
    node::Fate,
    router::{CARRY, PUSH, Router},
};
use crate::{
    Message, Result, TaskId,
    engine::database::{Database, afloat::Unsent},
};

#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) ledger: Database,
    pub(super) ledger_id: String,
    pub(super) router: Router,
    pub(super) clock: Clock,
    /// Held while rows are on their way, so that no other here sends them as well.
    sending: Mutex<()>,
    pub(super) asked: Notify,
    /// Whether the broker may have more than the taps have brought.
    pub(super) must_look: AtomicBool,
    /// Whether something that was pushed here was not confirmed in time.
    pub(super) is_late: AtomicBool,
}

impl Carrier {
    pub(super) fn new(ledger: Database, ledger_id: String, router: Router, clock: Clock) -> Self {
        let (sending, asked, must_look, is_late) = Default::default();
        Self { ledger, ledger_id, router, clock, sending, asked, must_look, is_late }
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

    /// Keeps messages as rows and sends those whose time has come.
    pub(super) async fn push(&self, messages: &[Arc<Message>]) -> Result<Vec<TaskId>> {
        // Whoever carries has the time to wait for a slow node; a push has not.
        let sending = tokio::time::timeout(TURN, self.sending.lock()).await.ok();
        let ids = self.ledger.push_gathered(messages).await?;
        let now_ms = self.clock.now_ms();
        let is_due = |message: &Message| message.due_ms(now_ms).is_none_or(|at_ms| at_ms <= now_ms);
        // One whose unique key another holds was not kept.
        let kept = messages.iter().zip(&ids).filter(|(message, id)| message.id() == **id);
        let due: Vec<&Message> =
            kept.map(|(message, _)| &**message).filter(|message| is_due(message)).collect();
        if sending.is_none() || !self.send_kept(due.into_iter(), PUSH).await? {
            // The rows are there; who carries them has the time to wait.
            self.asks_for_help();
        }
        Ok(ids)
    }

    /// Sends all rows that no broker has, in their order.
    pub(super) async fn carry(&self) -> Result<()> {
        let _sending = self.sending.lock().await;
        self.ledger.promote_due().await?;
        loop {
            if self.router.links().is_empty() {
                return Ok(());
            }
            let unsent = self.ledger.unsent(MANY).await?;
            let (light, kept): (Vec<&Unsent>, Vec<&Unsent>) = unsent
                .iter()
                .partition(|unsent| unsent.is_fresh && is_light(&unsent.message, i64::MAX));
            let kept = kept.iter().map(|unsent| &unsent.message);
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
        messages: impl Iterator<Item = &'m Message>,
        patience: Duration,
    ) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        let (ids, outgoing): (Vec<TaskId>, Vec<Outgoing>) = messages
            .map(|message| (message.id(), Outgoing::of(message, Some(&self.ledger_id), now_ms)))
            .unzip();
        let sent = self.send(&outgoing, patience).await;
        let confirmed = ids.into_iter().zip(&sent).filter(|(_, fate)| **fate == Fate::Kept);
        self.ledger.mark_afloat(&confirmed.map(|(id, _)| id).collect::<Vec<_>>()).await?;
        Ok(sent.into_iter().all(|fate| fate == Fate::Kept))
    }

    async fn send_light(&self, unsent: &[&Unsent]) -> Result<bool> {
        let now_ms = self.clock.now_ms();
        let outgoing: Vec<Outgoing> =
            unsent.iter().map(|unsent| Outgoing::of(&unsent.message, None, now_ms)).collect();
        let sent = self.send(&outgoing, CARRY).await;
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
    ) -> Vec<Fate> {
        if outgoing.is_empty() {
            return Vec::new();
        }
        let sent = self.router.send(outgoing, patience).await;
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
