//! Claiming: what the taps brought, sorted into what runs, what waits and what is not wanted.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Broker, Held, LIGHT, envelope, failed,
    glance::Glance,
    is_light,
    node::Link,
    receipt::{Receipt, acknowledge},
    store::Taken,
    taps::{give_back_all, left},
};
use crate::{
    Error, Message, Result, TaskId,
    engine::{Batch, Claim, Claimed, Engine as _, Lease, database::afloat::Arrived},
};

/// What one claim makes of what came.
#[derive(Default)]
struct Sorted {
    /// In the order in which it came: what is held by its delivery, and ids of what has a row.
    order: Vec<Place>,
    rows: Vec<Arrived>,
    later: Vec<Message>,
    /// Acknowledged once the ledger has them.
    written: Vec<Receipt>,
    unwanted: Vec<Receipt>,
}

/// A [`Claim`] that outlives its worker.
pub(super) struct Wanted {
    worker: String,
    queues: Vec<String>,
    names: Option<Vec<String>>,
    limit: usize,
    takes_suspect: bool,
    lease: Duration,
}

impl Wanted {
    pub(super) fn of(claim: &Claim<'_>) -> Self {
        let Claim { limit, takes_suspect, lease, .. } = *claim;
        let (worker, queues) = (claim.worker.to_owned(), claim.queues.to_vec());
        let names = claim.names.map(<[String]>::to_vec);
        Self { worker, queues, names, limit, takes_suspect, lease }
    }

    pub(super) fn claim(&self) -> Claim<'_> {
        let Self { worker, queues, names, limit, takes_suspect, lease } = self;
        let (limit, takes_suspect, lease) = (*limit, *takes_suspect, *lease);
        Claim { worker, queues, names: names.as_deref(), limit, takes_suspect, lease }
    }
}

enum Place {
    Light(Claimed),
    Row(TaskId),
}

impl Broker {
    pub(super) async fn claim_tasks(&self, claim: &Claim<'_>) -> Result<Batch> {
        let _one = self.taking.lock().await;
        let Glance { paused, next_due_ms, is_new, .. } = self.glance(claim.queues).await?;
        let queues: Vec<String> =
            claim.queues.iter().filter(|queue| !paused.contains(queue)).cloned().collect();
        let claim = Claim { queues: &queues, ..*claim };
        let mut tasks = Vec::new();
        let token: Arc<str> = TaskId::random().as_str().into();
        if claim.limit > 0 && !queues.is_empty() {
            tasks = self.claim_delivered(&claim, &token).await?;
        }
        if is_new && claim.takes_suspect && tasks.len() < claim.limit {
            tasks.extend(self.carrier.ledger.take_suspect(&claim, &token).await?);
        }
        Ok(Batch { tasks, next_due_ms })
    }

    async fn claim_delivered(&self, claim: &Claim<'_>, token: &Arc<str>) -> Result<Vec<Claimed>> {
        let links = self.carrier.router.links();
        if links.is_empty() {
            return Err(Error::Engine {
                engine: super::NAME,
                doing: "claim tasks",
                source: "none of its nodes can be reached".into(),
            });
        }
        self.mind_the_lost().await?;
        let doubts: Vec<bool> = links.iter().map(|link| link.doubt.is_raised()).collect();
        let limit = claim.limit;
        let mut gathered = self.gather(&links, claim, limit).await;
        // Before a worker is told that there is no more, what was not confirmed in time is sent again.
        if gathered.len() < limit && self.carrier.is_late.load(Ordering::SeqCst) {
            self.carrier.carry().await?;
        }
        if gathered.len() < limit && self.carrier.must_look.load(Ordering::SeqCst) {
            gathered.extend(self.gather(&links, claim, limit - gathered.len()).await);
        }
        let sorted = self.sort(claim, token, &links, &doubts, gathered);
        self.take(claim, token, sorted).await
    }

    async fn gather(&self, links: &[Arc<Link>], claim: &Claim<'_>, limit: usize) -> Vec<Taken> {
        if claim.names.is_some() {
            return look_through(links, claim.queues, limit).await;
        }
        let queues = claim.queues;
        *self.lock_claimed_at() = Some(Instant::now());
        let mut must_look = self.carrier.must_look.swap(false, Ordering::SeqCst);
        let room = self.lock_held().len() + limit;
        let mut channels = Vec::with_capacity(links.len());
        for (at, link) in links.iter().enumerate() {
            let signals = self.carrier.ledger.signals();
            channels.push(match link.tap(at, queues, room, &self.store, signals).await {
                Ok((channel, is_news)) => {
                    must_look |= is_news;
                    Some(channel)
                }
                Err(error) => {
                    tracing::warn!(error = ?error, "cannot take tasks from RabbitMQ: {error}");
                    None
                }
            });
        }
        let mut gathered = self.store.take(queues, limit, &channels);
        // An answer may overtake what is under way, but no answer to a question asked after it.
        let (mut empty, mut progress) = (0, Instant::now());
        while must_look && gathered.len() < limit && empty < 2 && progress.elapsed() < PATIENCE {
            let left = left(&channels, queues).await;
            let more = self.store.take(queues, limit - gathered.len(), &channels);
            empty = if left == 0 { empty + 1 } else { 0 };
            match more.is_empty() {
                true if left > 0 => tokio::time::sleep(LOOK_AGAIN).await,
                true => {}
                false => progress = Instant::now(),
            }
            gathered.extend(more);
        }
        if empty > 0 {
            links.iter().for_each(|link| link.doubt.settle());
        }
        gathered
    }

    /// `doubts` says of each link whether there is doubt about its node.
    fn sort(
        &self,
        claim: &Claim<'_>,
        token: &Arc<str>,
        links: &[Arc<Link>],
        doubts: &[bool],
        gathered: Vec<Taken>,
    ) -> Sorted {
        let now_ms = self.clock.now_ms();
        let mut sorted = Sorted::default();
        for Taken { queue, link, delivery, receipt, channel } in gathered {
            let (properties, data) = (&delivery.properties, &delivery.data);
            let (read, ledger) = envelope::read(properties, data, &queue);
            let message = read.unwrap_or_else(|error| {
                let quarantined = Message::new(crate::MALFORMED, [envelope::raw(properties, data)]);
                let quarantined = quarantined.expect("text has a JSON form").queue(&queue);
                let id = quarantined.id();
                tracing::warn!(task.id = %id, "put a malformed message aside as task {id}: {error}");
                quarantined
            });
            let is_named = |names: &[String]| names.iter().any(|name| name == message.name());
            if claim.names.is_some_and(|names| !is_named(names))
                || sorted.order.len() >= claim.limit
            {
                sorted.unwanted.push(receipt);
                continue;
            }
            let is_kept = ledger.as_deref() == Some(&*self.carrier.ledger_id);
            if !is_kept && message.due_ms(now_ms).is_some_and(|due_ms| due_ms > now_ms) {
                sorted.later.push(message);
                sorted.written.push(receipt);
                continue;
            }
            let is_light = is_light(&message, now_ms);
            if !is_kept && is_light && !delivery.redelivered && !doubts[link] {
                let held = Held {
                    queue,
                    delivery,
                    receipt,
                    _channel: channel,
                    link: links[link].clone(),
                    worker: claim.worker.into(),
                    until: self.clock.elapsed().saturating_add(claim.lease),
                };
                sorted.order.push(Place::Light(self.hold(token, message, held)));
                continue;
            }
            sorted.order.push(Place::Row(message.id()));
            // A light task that comes again has been with a worker that is gone.
            let crashes = u32::from(is_light && delivery.redelivered);
            sorted.rows.push(Arrived { message, is_kept, crashes });
            sorted.written.push(receipt);
        }
        sorted
    }

    async fn take(
        &self,
        claim: &Claim<'_>,
        token: &Arc<str>,
        sorted: Sorted,
    ) -> Result<Vec<Claimed>> {
        let Sorted { order, rows, later, written, unwanted } = sorted;
        give_back_all(unwanted).await;
        let taken = async {
            if !later.is_empty() {
                self.carrier.ledger.push(&later).await?;
            }
            match rows.is_empty() {
                true => Ok(Vec::new()),
                false => self.carrier.ledger.take_rows(claim, token, &rows).await,
            }
        };
        let taken = match taken.await {
            Ok(taken) => taken,
            Err(error) => {
                give_back_all(written).await;
                for place in order {
                    if let Place::Light(claimed) = place {
                        self.let_go(&claimed.lease).await;
                    }
                }
                return Err(error);
            }
        };
        // What the broker was not told of comes again, and finds its row taken.
        acknowledge(&written.iter().collect::<Vec<_>>()).await;
        let mut taken: HashMap<TaskId, Claimed> =
            taken.into_iter().map(|claimed| (claimed.lease.id.clone(), claimed)).collect();
        let claimed = order.into_iter().filter_map(|place| match place {
            Place::Light(claimed) => Some(claimed),
            Place::Row(id) => taken.remove(&id),
        });
        let claimed: Vec<Claimed> = claimed.collect();
        self.note_replies(&claimed);
        Ok(claimed)
    }

    /// Holds a task by its delivery alone: the broker gives it out again if this process dies.
    fn hold(&self, token: &Arc<str>, message: Message, held: Held) -> Claimed {
        let mut lease = Lease { id: message.id(), row: LIGHT, token: token.clone() };
        let mut all = self.lock_held();
        if all.contains_key(&lease) {
            // The same task twice in one claim: each delivery is held by a lease of its own.
            lease.token = TaskId::random().as_str().into();
        }
        all.insert(lease.clone(), held);
        Claimed { lease, message, crashes: 0 }
    }

    /// Remembers where results are awaited.
    fn note_replies(&self, claimed: &[Claimed]) {
        let ours = envelope::results(&self.carrier.ledger_id);
        let mut replies = self.lock_replies();
        for Claimed { lease, message, .. } in claimed {
            if let Some((to, correlation_id)) = message.reply_to()
                && to != ours
                && !message.ignores_result()
            {
                replies.insert(lease.clone(), (to.to_owned(), correlation_id.to_owned()));
            }
        }
    }

    /// Gives back what is held by its delivery.
    pub(super) async fn let_go(&self, lease: &Lease) {
        let held = self.lock_held().remove(lease);
        if let Some(held) = held {
            self.carrier.must_look.store(true, Ordering::SeqCst);
            held.receipt.give_back().await;
        }
    }

    /// How many messages a queue has on all nodes, those that were brought here included.
    pub(super) async fn count_messages(&self, queue: &str) -> Result<u64> {
        let mut count = self.store.count(queue);
        for link in self.carrier.router.links() {
            count += link.count(queue).await.map_err(failed("count tasks"))?;
        }
        Ok(count)
    }
}

/// What the queues have, in their order, for a worker that wants only tasks of some names. No tap
/// can choose, so that each is looked at, and those that are not wanted go back.
async fn look_through(links: &[Arc<Link>], queues: &[String], limit: usize) -> Vec<Taken> {
    let limit = limit.max(LOOKED_THROUGH);
    let mut taken = Vec::new();
    for (at, link) in links.iter().enumerate() {
        for queue in queues {
            match link.look_through(at, queue, limit).await {
                Ok(more) => taken.extend(more),
                Err(error) => {
                    tracing::warn!(error = ?error, "cannot look through queue {queue}: {error}");
                }
            }
        }
    }
    taken
}

/// Tasks that are looked through for those of some names.
const LOOKED_THROUGH: usize = 200;
/// How long the broker may take to bring what it says it has. It is long only when the machine is
/// very busy, or others take it.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
