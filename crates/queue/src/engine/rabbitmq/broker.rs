//! What the engine's calls share: pushing, and letting go of what workers left behind.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Broker, Held, failed, is_light, taps};
use crate::{
    Message, Result, State, TaskId,
    engine::{Engine as _, Lease, lasting::lasting},
};

impl Broker {
    pub(super) fn lock_held(&self) -> MutexGuard<'_, HashMap<Lease, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_replies(&self) -> MutexGuard<'_, HashMap<Lease, (String, String)>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_claimed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.claimed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what was brought and nobody claimed. Whoever calls holds `taking`.
    pub(super) async fn give_back(&self) {
        let holds = !self.lock_held().is_empty();
        *self.lock_claimed_at() = None;
        taps::give_back(&self.carrier.router.links(), &self.store, holds).await;
        self.carrier.must_look.store(true, Ordering::SeqCst);
    }

    /// Lets go of what no worker here prolongs any more, and of what none has asked for lately.
    pub(super) async fn let_go_of_late(&self) {
        let now = self.clock.elapsed();
        let late: Vec<Lease> = {
            let all = self.lock_held();
            let late = all.iter().filter(|(_, held)| held.until < now);
            late.map(|(lease, _)| lease.clone()).collect()
        };
        for lease in late {
            self.let_go(&lease).await;
        }
        let is_idle = self.lock_claimed_at().is_some_and(|at| at.elapsed() > IDLE);
        if is_idle || self.store.is_stale() {
            let _one = self.taking.lock().await;
            self.give_back().await;
        }
    }

    pub(super) async fn purge_tasks(&self, queue: &str, state: State) -> Result<u64> {
        let mut purged = self.carrier.ledger.purge(queue, state).await?;
        if state == State::Queued {
            let _one = self.taking.lock().await;
            self.give_back().await;
            let mut messages = 0;
            for link in self.carrier.router.links() {
                messages += link.purge(queue).await.map_err(failed("purge tasks"))?;
            }
            purged = purged.max(messages);
        }
        Ok(purged)
    }

    pub(super) async fn pause_queue(&self, queue: &str, is_paused: bool) -> Result<()> {
        self.carrier.ledger.pause(queue, is_paused).await?;
        self.last.forget();
        if is_paused {
            // What was brought here already is for others, if they are not told to pause.
            let _one = self.taking.lock().await;
            self.give_back().await;
        }
        Ok(())
    }

    pub(super) async fn push_all(&self, messages: &[Message], now_ms: i64) -> Result<Vec<TaskId>> {
        let (light, kept): (Vec<&Message>, Vec<&Message>) =
            messages.iter().partition(|message| is_light(message, now_ms));
        if !light.is_empty() {
            self.push_light(&light).await?;
        }
        if kept.is_empty() {
            return Ok(messages.iter().map(Message::id).collect());
        }
        let mut kept = Box::pin(self.push_kept(&kept, now_ms)).await?.into_iter();
        let id = |message: &Message| match is_light(message, now_ms) {
            true => message.id(),
            false => kept.next().unwrap_or_else(|| message.id()),
        };
        Ok(messages.iter().map(id).collect())
    }

    pub(super) async fn push_kept(
        &self,
        messages: &[&Message],
        now_ms: i64,
    ) -> Result<Vec<TaskId>> {
        let messages: Vec<Arc<Message>> =
            messages.iter().map(|message| Arc::new((*message).clone())).collect();
        let keep = |all: Vec<Arc<Message>>| async move { self.carrier.keep_rows(&all).await };
        let ids = self.keeps.push(messages.clone(), keep).await?;
        self.last.forget();
        let is_due = |message: &Message| message.due_ms(now_ms).is_none_or(|at_ms| at_ms <= now_ms);
        // One whose unique key another holds was not kept.
        let kept = messages.into_iter().zip(&ids).filter(|(message, id)| message.id() == **id);
        let due: Vec<Arc<Message>> =
            kept.map(|(message, _)| message).filter(|message| is_due(message)).collect();
        if !due.is_empty() {
            self.sends.push_once(due, |all| self.carrier.clone().send_pushed(all)).await;
        }
        Ok(ids)
    }
}

/// Lets go of what workers left behind, also when no worker is there any more to see to it.
pub(super) async fn keep(broker: Weak<Broker>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(broker) = broker.upgrade() else { return };
        lasting(async move { broker.let_go_of_late().await }).await;
    }
}

const LOOK: Duration = Duration::from_secs(1);
/// A worker that has room asks far more often.
const IDLE: Duration = Duration::from_secs(3);
