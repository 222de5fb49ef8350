//! RabbitMQ: Celery's messages in kombu's queues, on one node or on several that are no cluster.
//!
//! A broker hands tasks out and keeps no books. So what a site wants to know or to change of a
//! task is in its database, the *ledger*: rows of the same tables as in the database engine, for
//! every task but those that ignore their result and can run at once. Those, the *light* ones,
//! are with the broker alone until something happens to them, and a worker holds them by the
//! delivery that is not yet acknowledged.
//!
//! What has a row is acknowledged as soon as the row says who holds it: from then on the row is the
//! lease. Its messages are only tickets, of which there may be too many (one was published twice,
//! or came again after a cut), never too few.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use lapin::{Channel, message::Delivery, uri::AMQPUri};
use throng_core::{Clock, EngineUrl};
use throng_db::{Db, Tx};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::{
    address::{addresses, read_weights},
    carrier::Carrier,
    claim::Wanted,
    envelope::Outgoing,
    glance::Last,
    light::{Answer, Late},
    node::{Link, Node},
    orphans::Recent,
    receipt::Receipt,
    router::Router,
    store::Store,
};
use super::{
    Batch, Claim, Ended, Engine, Fire, Lease, Limit, Part, Tended, Turn, database::Database,
    gather::Gather, lasting::lasting,
};
use crate::{Count, Error, Filter, Message, Record, Result, State, TaskId};

mod address;
mod broker;
mod carrier;
mod claim;
mod doubt;
mod envelope;
mod glance;
mod intake;
mod light;
mod node;
mod orphans;
mod receipt;
mod results;
mod router;
mod settle;
mod store;
mod taps;

/// Tasks that RabbitMQ hands out, with the site's database as the ledger.
pub struct Rabbitmq {
    /// What is begun with it ends, also when whoever began it leaves.
    broker: Arc<Broker>,
    /// What keeps the connections; stops with the engine.
    _keepers: JoinSet<()>,
}

/// The nodes and the ledger.
struct Broker {
    carrier: Arc<Carrier>,
    clock: Clock,
    store: Arc<Store>,
    /// Held during a claim: the taps have one bound.
    taking: tokio::sync::Mutex<()>,
    held: Mutex<HashMap<Lease, Held>>,
    /// Where the results of tasks that are held are awaited, and under which name.
    replies: Mutex<HashMap<Lease, (String, String)>>,
    /// Tasks on their way into the ledger, and what was kept there on its way to a node.
    keeps: Arc<Gather<Arc<Message>, TaskId>>,
    sends: Arc<Gather<Arc<Message>, ()>>,
    /// Light tasks on their way to a node.
    lights: Arc<Gather<Arc<Outgoing>, Answer>>,
    last: Last,
    /// What ran a moment ago and had no row.
    recent: Recent,
    /// The rows of what ran on when its node was lost.
    adopted: Mutex<HashMap<Lease, Lease>>,
    holder: String,
    /// Where Celery's remote control is heard.
    uris: Vec<AMQPUri>,
    /// Pushes that were acknowledged before their node confirmed them.
    late: mpsc::Sender<Late>,
    /// When a worker here last asked for tasks, while there are taps.
    claimed_at: Mutex<Option<Instant>>,
}

/// A task that a delivery holds.
struct Held {
    queue: String,
    delivery: Delivery,
    receipt: Receipt,
    /// Closes when nothing holds it any more.
    _channel: Channel,
    link: Arc<Link>,
    worker: Arc<str>,
    /// On the clock: a worker here that no longer prolongs it is gone.
    until: Duration,
}

impl Held {
    fn message(&self) -> Result<Message> {
        envelope::read(&self.delivery.properties, &self.delivery.data, &self.queue).0
    }
}

impl Rabbitmq {
    /// Connects to the nodes that `url` names, `amqp://user:password@one,two/vhost`, and keeps
    /// books in `db`, in which [`MIGRATIONS`](crate::MIGRATIONS) must have run. A node that does
    /// not answer is tried again for as long as the engine is there.
    ///
    /// Options: `weights` (such as `3,1`: the shares of the nodes), `max_priority` (Celery's
    /// `task_queue_max_priority`; without it RabbitMQ knows no priorities), `confirm` (how long a
    /// push waits for a node to confirm it before its task goes another way: 150ms unless set, and
    /// 4s at most), `spool` (how many tasks are kept while no node answers, 100,000 unless set) and
    /// `keep_s` (how long records of finished tasks stay, an hour unless set).
    ///
    /// # Errors
    /// [`Error::Url`] for a URL that is wrong, [`Error::Engine`] when the database does not answer.
    pub async fn open(url: &EngineUrl, db: Db, clock: Clock) -> Result<Self> {
        let mut options = url.options();
        let keep_s: Option<u64> = options.take("keep_s")?;
        let spool: u64 = options.take("spool")?.unwrap_or(100_000);
        let max_priority: Option<u16> = options.take("max_priority")?;
        let weights: Option<String> = options.take("weights")?;
        let confirm: Duration = options.take("confirm")?.unwrap_or(router::CONFIRM);
        options.finish()?;
        if !(Duration::from_millis(1)..=Duration::from_secs(4)).contains(&confirm) {
            return Err(url.fault("confirm", "it is from 1ms to 4s, and 150ms will do").into());
        }
        let weights = read_weights(url, weights.as_deref())?;
        let max_priority = max_priority.map(u8::try_from).transpose();
        let max_priority = max_priority
            .map_err(|_| url.fault("max_priority", "it is at most 255, and 10 will do"))?;
        let mut ledger = Database::new(db, clock.clone());
        if let Some(keep_s) = keep_s {
            ledger = ledger.keep(Duration::from_secs(keep_s));
        }
        let uris = addresses(url)?;
        let nodes = uris.clone().into_iter().zip(weights);
        let nodes: Vec<Arc<Node>> =
            nodes.map(|(uri, weight)| Arc::new(Node::new(uri, weight, max_priority))).collect();
        let ledger_id = ledger.ledger_id().await?;
        let mut keepers = JoinSet::new();
        for node in &nodes {
            keepers.spawn(node.clone().keep());
            keepers.spawn(results::keep(node.clone(), ledger.clone(), ledger_id.clone()));
        }
        let router = Router::new(nodes, confirm);
        // Whoever opens a queue wants to use it; but a broker that is away stops nobody.
        router.wait_for_one(FIRST_LINK).await;
        let carrier = Arc::new(Carrier::new(ledger, ledger_id, router, clock.clone(), spool));
        keepers.spawn(carrier.clone().keep());
        let (late, lates) = mpsc::channel(MOST_LATE);
        keepers.spawn(light::keep(carrier.clone(), lates));
        let holder = TaskId::random().to_string();
        let (store, taking, held, replies) = Default::default();
        let (recent, adopted, last) = Default::default();
        let keeps = Gather::new(1, carrier::MANY as usize);
        let sends = Gather::new(FLIGHTS, router::WINDOW);
        let lights = Gather::new(FLIGHTS, router::WINDOW);
        let claimed_at = Mutex::new(None);
        let broker = Arc::new(Broker {
            carrier,
            clock,
            store,
            taking,
            held,
            replies,
            keeps,
            sends,
            lights,
            last,
            recent,
            adopted,
            holder,
            uris,
            late,
            claimed_at,
        });
        keepers.spawn(broker::keep(Arc::downgrade(&broker)));
        Ok(Self { broker, _keepers: keepers })
    }
}

impl fmt::Debug for Rabbitmq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rabbitmq").field("nodes", &self.broker.carrier.router.nodes.len()).finish()
    }
}

#[async_trait]
impl Engine for Rabbitmq {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wakes(&self) -> watch::Receiver<u64> {
        self.broker.carrier.ledger.wakes()
    }

    fn finishes(&self) -> watch::Receiver<u64> {
        self.broker.carrier.ledger.finishes()
    }

    async fn push(&self, messages: &[Message]) -> Result<Vec<TaskId>> {
        let now_ms = self.broker.clock.now_ms();
        let lights = messages.iter().filter(|message| is_light(message, now_ms)).count();
        if lights == 0 || lights == messages.len() {
            return self.broker.push_all(messages, now_ms).await;
        }
        let (broker, messages) = (self.broker.clone(), messages.to_vec());
        lasting(async move { broker.push_all(&messages, now_ms).await }).await
    }

    async fn push_in(&self, tx: &Tx, message: &Message) -> Result<TaskId> {
        let id = self.broker.carrier.ledger.push_in(tx, message).await?;
        self.broker.last.forget();
        let carrier = self.broker.carrier.clone();
        tx.after_commit(move || carrier.asked.notify_one());
        Ok(id)
    }

    async fn claim(&self, claim: &Claim<'_>) -> Result<Batch> {
        // What came to this process must not be forgotten because a worker leaves.
        let (broker, wanted) = (self.broker.clone(), Wanted::of(claim));
        lasting(async move { broker.claim_tasks(&wanted.claim()).await }).await
    }

    async fn extend(&self, leases: &[Lease], by: Duration) -> Result<Vec<Lease>> {
        let (broker, leases) = (self.broker.clone(), leases.to_vec());
        lasting(async move { broker.extend_leases(&leases, by).await }).await
    }

    async fn settle(&self, ended: &[Ended]) -> Result<Vec<bool>> {
        let (broker, ended) = (self.broker.clone(), ended.to_vec());
        lasting(async move {
            let recorded = broker.settle_ended(&ended).await;
            broker.last.forget_after(&ended);
            recorded
        })
        .await
    }

    async fn note_progress(&self, lease: &Lease, progress: &serde_json::Value) -> Result<()> {
        let lease = self.broker.known_as(lease);
        if lease.row == LIGHT {
            let what = "keep the progress of a task that ignores its result";
            return Err(Error::Unsupported { engine: NAME, what });
        }
        self.broker.carrier.ledger.note_progress(&lease, progress).await
    }

    async fn turns(&self, wanted: &[Vec<Limit>]) -> Result<Vec<Turn>> {
        self.broker.carrier.ledger.turns(wanted).await
    }

    async fn tend(&self, max_crashes: u32) -> Result<Tended> {
        let broker = self.broker.clone();
        lasting(async move {
            let tended = broker.tend_tasks(max_crashes).await;
            broker.last.forget();
            tended
        })
        .await
    }

    async fn unfollowed(&self) -> Result<Vec<Record>> {
        self.broker.carrier.ledger.unfollowed().await
    }

    async fn followed(&self, tasks: &[Record]) -> Result<()> {
        self.broker.carrier.ledger.followed(tasks).await
    }

    async fn unpark(&self, names: &[String]) -> Result<u64> {
        self.broker.last.forget();
        let unparked = self.broker.carrier.ledger.unpark(names).await?;
        if unparked > 0 {
            self.broker.carrier.carry().await?;
        }
        Ok(unparked)
    }

    async fn find(&self, id: &TaskId) -> Result<Option<Record>> {
        self.broker.carrier.ledger.find(id).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Record>> {
        self.broker.carrier.ledger.list(filter).await
    }

    async fn counts(&self) -> Result<Vec<Count>> {
        let mut counts = self.broker.carrier.ledger.counts().await?;
        let links = self.broker.carrier.router.links();
        let mut queues: Vec<String> = links.iter().flat_map(|link| link.declared()).collect();
        queues.extend(counts.iter().map(|count| count.queue.clone()));
        queues.sort();
        queues.dedup();
        for queue in queues {
            let messages = self.broker.count_messages(&queue).await?;
            let is_it = |count: &&mut Count| count.queue == queue && count.state == State::Queued;
            // Those with a row have a message too; what is beyond them is light, or a stranger's.
            match counts.iter_mut().find(is_it) {
                Some(count) => count.tasks = count.tasks.max(messages),
                None if messages > 0 => {
                    counts.push(Count { queue, state: State::Queued, tasks: messages });
                }
                None => {}
            }
        }
        counts.sort_by(|a, b| (&a.queue, a.state).cmp(&(&b.queue, b.state)));
        Ok(counts)
    }

    async fn retry(&self, id: &TaskId, edited: Option<&Message>) -> Result<bool> {
        let is_retried = self.broker.carrier.ledger.retry(id, edited).await?;
        self.broker.last.forget();
        if is_retried {
            self.broker.carrier.carry().await?;
        }
        Ok(is_retried)
    }

    async fn cancel(&self, id: &TaskId) -> Result<bool> {
        self.broker.carrier.ledger.cancel(id).await
    }

    async fn keep_dead(&self, letter: &Record) -> Result<()> {
        self.broker.carrier.ledger.keep_dead(letter).await
    }

    async fn forget(&self, id: &TaskId) -> Result<bool> {
        self.broker.carrier.ledger.forget(id).await
    }

    async fn purge(&self, queue: &str, state: State) -> Result<u64> {
        let (broker, queue) = (self.broker.clone(), queue.to_owned());
        lasting(async move { broker.purge_tasks(&queue, state).await }).await
    }

    async fn pause(&self, queue: &str, is_paused: bool) -> Result<()> {
        let (broker, queue) = (self.broker.clone(), queue.to_owned());
        lasting(async move { broker.pause_queue(&queue, is_paused).await }).await
    }

    async fn paused(&self) -> Result<Vec<String>> {
        self.broker.carrier.ledger.paused().await
    }

    async fn lead(&self, role: &str, holder: &str, lease: Duration) -> Result<bool> {
        self.broker.carrier.ledger.lead(role, holder, lease).await
    }

    fn celery(&self) -> Option<Arc<dyn super::Wire>> {
        Some(Arc::new(crate::celery::rabbitmq::Exchanges::new(&self.broker.uris)))
    }

    async fn last_fire(&self, schedule: &str, now_ms: i64) -> Result<i64> {
        self.broker.carrier.ledger.last_fire(schedule, now_ms).await
    }

    async fn open_chord(&self, group: &str, parts: usize) -> Result<()> {
        self.broker.carrier.ledger.open_chord(group, parts).await
    }

    async fn join(&self, part: &Part<'_>) -> Result<Option<Vec<serde_json::Value>>> {
        self.broker.carrier.ledger.join(part).await
    }

    async fn close_chord(&self, part: &Part<'_>, failed: Option<(&TaskId, &str)>) -> Result<()> {
        self.broker.carrier.ledger.close_chord(part, failed).await
    }

    async fn fire(&self, fire: &Fire<'_>) -> Result<bool> {
        let has_fired = self.broker.carrier.ledger.fire(fire).await?;
        self.broker.last.forget();
        if has_fired && fire.message.is_some() {
            self.broker.carrier.carry().await?;
        }
        Ok(has_fired)
    }
}

/// Whether a task can be left to the broker alone. A chord must hear of each of its parts, also of
/// one that expires on its way.
fn is_light(message: &Message, now_ms: i64) -> bool {
    message.ignores_result()
        && message.unique_key().is_none()
        && !message.is_at_most_once()
        && message.due_ms(now_ms).is_none_or(|due_ms| due_ms <= now_ms)
        && !message.is_awaited()
}

fn failed(doing: &'static str) -> impl FnOnce(lapin::Error) -> Error {
    move |source| Error::Engine { engine: NAME, doing, source: Box::new(source) }
}

const NAME: &str = "rabbitmq";
/// The row of a lease that a delivery holds.
const LIGHT: i64 = -1;
/// Publications that are under way at once: while a node writes one down, the next is made.
const FLIGHTS: usize = 4;
/// More than these are sent again, whether they were confirmed or not.
const MOST_LATE: usize = 10_000;
const FIRST_LINK: Duration = Duration::from_secs(5);
