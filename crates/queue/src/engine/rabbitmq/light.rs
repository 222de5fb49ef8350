//! Pushing light tasks: to a node alone, and where it does not confirm in time, to the ledger until
//! it is known what became of them.
//!
//! Pushes that meet share a publication: one window, one wait, and in a storm one write.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::timeout};

use super::{Broker, NAME, carrier::Carrier, envelope::Outgoing, node::Fate, router};
use crate::{Error, Message, Result, TaskId, engine::Engine as _};

/// A publication that goes on after its push was acknowledged.
pub(super) struct Late {
    ids: Vec<TaskId>,
    sending: BoxFuture<'static, Vec<Fate>>,
}

/// What one of those that share a publication is told.
pub(super) type Answer = Result<(), Arc<Error>>;

impl Broker {
    pub(super) async fn push_light(&self, messages: &[&Message]) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let outgoing =
            messages.iter().map(|message| Arc::new(Outgoing::of(message, None, now_ms))).collect();
        let (carrier, late) = (self.carrier.clone(), self.late.clone());
        // In a box: whoever pushes makes room for it, and few lead.
        let publish = |all| publish(carrier, late, all).boxed();
        let answers = self.lights.push_once(outgoing, publish).await;
        let failed = |source| Error::Engine { engine: NAME, doing: "push a task", source };
        let answers = answers.ok_or_else(|| failed("it was stopped".into()))?;
        answers.into_iter().collect::<Answer>().map_err(|error| failed(error.into()))
    }
}

/// Publishes all, and answers for each.
async fn publish(
    carrier: Arc<Carrier>,
    late: mpsc::Sender<Late>,
    all: Vec<Arc<Outgoing>>,
) -> Vec<Answer> {
    let (sender, outgoing) = (carrier.clone(), all.clone());
    let mut sending = async move { sender.send(&outgoing, router::CARRY, false).await }.boxed();
    let windows = u32::try_from(all.len().div_ceil(router::WINDOW)).unwrap_or(u32::MAX);
    let fates = timeout(carrier.router.confirm * windows, &mut sending).await;
    let is_left = |at: usize| fates.as_ref().map_or(true, |fates| fates[at] != Fate::Kept);
    let (mut unsent, mut doubtful) = (Vec::new(), Vec::new());
    for (at, out) in all.iter().enumerate().filter(|(at, _)| is_left(*at)) {
        let message = out.message.clone();
        match &fates {
            Ok(fates) if fates[at] == Fate::Unsent => unsent.push(message),
            _ => doubtful.push(message),
        }
    }
    let kept = match unsent.is_empty() && doubtful.is_empty() {
        true => Ok(()),
        false => keep_rows(&carrier, &unsent, &doubtful, fates.is_err()).await,
    };
    if let Err(error) = kept {
        let error = Arc::new(error);
        return (0..all.len())
            .map(|at| if is_left(at) { Err(error.clone()) } else { Ok(()) })
            .collect();
    }
    if fates.is_err() {
        let ids = doubtful.iter().map(Message::id).collect();
        // Where too many are late already, it is sent again for sure.
        let _ = late.try_send(Late { ids, sending });
    }
    vec![Ok(()); all.len()]
}

/// Keeps what no node has confirmed. With `is_late`, it is known later what became of it.
async fn keep_rows(
    carrier: &Carrier,
    unsent: &[Message],
    doubtful: &[Message],
    is_late: bool,
) -> Result<()> {
    carrier.admit(unsent.len() + doubtful.len()).await?;
    if !unsent.is_empty() {
        carrier.ledger.push(unsent).await?;
    }
    let wait = if is_late { PATIENCE } else { Duration::ZERO };
    if !doubtful.is_empty() {
        carrier.ledger.push_doubtful(doubtful, wait).await?;
    }
    if !is_late {
        carrier.asks_for_help();
    }
    Ok(())
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
