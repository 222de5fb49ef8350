//! Pushes that arrive while another is under way gather and share the next.
//!
//! A durable commit costs a wait for the disk and a request a trip over the network, however little
//! it holds. So whoever has the turn takes along everything that waits.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex as Turn, oneshot};

use crate::{Message, TaskId};

/// Pushes that wait for the commit that they will share.
#[derive(Debug, Default)]
pub(super) struct Gather {
    waiting: Mutex<Vec<Waiting>>,
    /// Held by the one whose commit is under way.
    turn: Turn<()>,
}

type Waiting = (Vec<Message>, oneshot::Sender<Vec<TaskId>>);

impl Gather {
    /// Pushes `messages`, alone or with others, by one call of `commit`, which answers with an id
    /// for each message that it is given.
    pub(super) async fn push<'a, E>(
        &self,
        messages: &[Message],
        commit: impl Fn(Arc<[Message]>) -> BoxFuture<'a, Result<Vec<TaskId>, E>> + Send + Sync,
    ) -> Result<Vec<TaskId>, E> {
        let (done, mut answer) = oneshot::channel();
        self.add(messages.to_vec(), done);
        let turn = tokio::select! {
            biased;
            Ok(ids) = &mut answer => return Ok(ids),
            turn = self.turn.lock() => turn,
        };
        // Whoever had the turn before may have pushed ours meanwhile.
        if let Ok(ids) = answer.try_recv() {
            return Ok(ids);
        }
        let gathered = self.take();
        let all = gathered.iter().flat_map(|(messages, _)| messages).cloned().collect();
        let pushed = commit(all).await;
        drop(turn);
        let Ok(mut ids) = pushed else {
            // The others try again by themselves when their answers never come, and each gets the
            // engine's own words. So do we.
            drop(gathered);
            return commit(messages.into()).await;
        };
        for (messages, done) in gathered {
            let rest = ids.split_off(messages.len());
            let _ = done.send(std::mem::replace(&mut ids, rest));
        }
        match answer.try_recv() {
            Ok(ids) => Ok(ids),
            // Whoever took ours was dropped before it could push. Pushing an id twice is harmless.
            Err(_) => commit(messages.into()).await,
        }
    }

    fn add(&self, messages: Vec<Message>, done: oneshot::Sender<Vec<TaskId>>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((messages, done));
    }

    fn take(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
