//! Pushing light tasks: to a node alone, and where it does not confirm in time, to the ledger until
//! it is known what became of them.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::timeout};

use super::{Rabbitmq, carrier::Carrier, envelope::Outgoing, node::Fate, router};
use crate::{Message, Result, TaskId, engine::Engine as _};

/// A publication that goes on after its push was acknowledged.
pub(super) struct Late {
    ids: Vec<TaskId>,
    sending: BoxFuture<'static, Vec<Fate>>,
}

impl Rabbitmq {
    pub(super) async fn push_light(&self, messages: &[&Message]) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let outgoing: Vec<Outgoing> =
            messages.iter().map(|message| Outgoing::of(message, None, now_ms)).collect();
        let carrier = self.carrier.clone();
        let mut sending = async move { carrier.send(&outgoing, router::CARRY).await }.boxed();
        let Ok(fates) = timeout(router::PUSH, &mut sending).await else {
            self.admit(messages.len()).await?;
            let all: Vec<Message> = messages.iter().map(|message| (*message).clone()).collect();
            self.carrier.ledger.push_doubtful(&all, PATIENCE).await?;
            let ids = messages.iter().map(|message| message.id()).collect();
            // Where too many are late already, it is sent again for sure.
            let _ = self.late.try_send(Late { ids, sending });
            return Ok(());
        };
        let of = |fate: Fate| {
            let some = messages.iter().zip(&fates).filter(move |(_, of)| **of == fate);
            some.map(|(message, _)| (*message).clone()).collect::<Vec<Message>>()
        };
        let (unsent, doubtful) = (of(Fate::Unsent), of(Fate::Unknown));
        let left = unsent.len() + doubtful.len();
        if left == 0 {
            return Ok(());
        }
        self.admit(left).await?;
        if !unsent.is_empty() {
            self.carrier.ledger.push(&unsent).await?;
        }
        self.carrier.ledger.push_doubtful(&doubtful, Duration::ZERO).await?;
        self.carrier.asks_for_help();
        Ok(())
    }
}

/// Waits for what became of late publications.
pub(super) async fn keep(carrier: Arc<Carrier>, mut lates: mpsc::Receiver<Late>) {
    let mut sendings = FuturesUnordered::new();
    loop {
        tokio::select! {
            late = lates.recv() => {
                let Some(Late { ids, sending }) = late else { return };
                sendings.push(sending.map(|fates| (ids, fates)));
            }
            Some((ids, fates)) = sendings.next(), if !sendings.is_empty() => {
                if let Err(error) = confirm(&carrier, ids, &fates).await {
                    tracing::warn!(error = ?error, "cannot note what RabbitMQ confirmed: {error}");
                }
            }
        }
    }
}

async fn confirm(carrier: &Carrier, ids: Vec<TaskId>, fates: &[Fate]) -> Result<()> {
    let (kept, others): (Vec<_>, Vec<_>) =
        ids.into_iter().zip(fates).partition(|(_, fate)| **fate == Fate::Kept);
    let ids = |some: Vec<(TaskId, &Fate)>| some.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    carrier.ledger.confirm(&ids(kept), true).await?;
    if !others.is_empty() {
        carrier.ledger.confirm(&ids(others), false).await?;
        carrier.asks_for_help();
    }
    Ok(())
}

/// Longer than a publication is waited for.
const PATIENCE: Duration = Duration::from_secs(8);
