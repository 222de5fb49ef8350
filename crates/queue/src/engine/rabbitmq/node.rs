//! One node: its connections, made anew whenever they are lost, and what was declared on them.

use std::{
    borrow::Borrow,
    collections::HashSet,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties, Error, Event,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
    uri::AMQPUri,
};
use tokio::{sync::watch, time::timeout};

use super::{
    doubt::Doubt,
    envelope::{Outgoing, Told},
    intake::Intake,
};

/// A node of RabbitMQ.
#[derive(Debug)]
pub(super) struct Node {
    uri: AMQPUri,
    pub(super) weight: u32,
    link: watch::Sender<Option<Arc<Link>>>,
    trouble: Mutex<Trouble>,
    /// `x-max-priority` of the queues that we declare.
    max_priority: Option<u8>,
    pub(super) doubt: Arc<Doubt>,
}

/// What became of a message that was to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The node keeps it.
    Kept,
    /// No node has it.
    Unsent,
    /// The node may have it.
    Unknown,
}

/// A publication under way.
type Sending<'a> = Pin<Box<dyn Future<Output = Fate> + Send + 'a>>;

/// The circuit breaker: a node that does not confirm in time is left alone for a while.
#[derive(Debug, Default)]
struct Trouble {
    times: u32,
    until: Option<Instant>,
}

/// What is there while a node can be reached. Whoever holds it may see it fail at any time.
#[derive(Debug)]
pub(super) struct Link {
    /// Two, so that a broker that stops those who publish does not stop those who work.
    publisher: Connection,
    pub(super) consumer: Connection,
    publish: Channel,
    /// Held while a message is numbered and queued: by that order its confirmation is known.
    numbering: Mutex<()>,
    pub(super) intake: tokio::sync::Mutex<Option<Intake>>,
    declared: Mutex<HashSet<String>>,
    max_priority: Option<u8>,
    pub(super) doubt: Arc<Doubt>,
}

impl Node {
    pub(super) fn new(uri: AMQPUri, weight: u32, max_priority: Option<u8>) -> Self {
        let (link, trouble) = (watch::channel(None).0, Mutex::default());
        Self { uri, weight, link, trouble, max_priority, doubt: Arc::default() }
    }

    /// The connection, if there is one now.
    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.borrow().clone().filter(|link| link.is_alive())
    }

    pub(super) fn links(&self) -> watch::Receiver<Option<Arc<Link>>> {
        self.link.subscribe()
    }

    /// Whether it has failed lately and is left alone.
    pub(super) fn rests(&self) -> bool {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.until.is_some_and(|until| until > Instant::now())
    }

    pub(super) fn failed(&self) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.until = Some(Instant::now() + FIRST_REST * 2_u32.pow(trouble.times.min(4)));
        trouble.times += 1;
    }

    pub(super) fn succeeded(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Trouble::default();
    }

    /// Keeps a connection for as long as it is polled.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut wait = FIRST_WAIT;
        let mut is_reborn = false;
        let address = format!("{}:{}", self.uri.authority.host, self.uri.authority.port);
        loop {
            match timeout(CONNECT, Link::open(&self)).await {
                Ok(Ok(link)) => {
                    tracing::info!(node = %address, "connected to RabbitMQ at {address}");
                    wait = FIRST_WAIT;
                    let link = Arc::new(link);
                    self.succeeded();
                    if is_reborn {
                        self.doubt.raise();
                    }
                    is_reborn = true;
                    self.link.send_replace(Some(link.clone()));
                    link.lost().await;
                    self.link.send_replace(None);
                    tracing::warn!(node = %address, "lost RabbitMQ at {address}; what it had given out comes again");
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = ?error, node = %address, "cannot reach RabbitMQ at {address}: {error}");
                }
                Err(_) => {
                    tracing::warn!(node = %address, "RabbitMQ at {address} does not answer");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

impl Link {
    async fn open(node: &Node) -> Result<Self, Error> {
        let connect = || Connection::connect_uri(node.uri.clone(), ConnectionProperties::default());
        let (publisher, consumer) = futures_util::future::try_join(connect(), connect()).await?;
        let publish = publisher.create_channel().await?;
        publish.confirm_select(ConfirmSelectOptions::default()).await?;
        let (numbering, intake, declared) = Default::default();
        let (max_priority, doubt) = (node.max_priority, node.doubt.clone());
        Ok(Self { publisher, consumer, publish, numbering, intake, declared, max_priority, doubt })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.publisher.status().connected()
            && self.consumer.status().connected()
            && self.publish.status().connected()
    }

    /// Returns when one of the connections is gone.
    async fn lost(&self) {
        let mut events = futures_util::stream::select(
            self.publisher.events_listener(),
            self.consumer.events_listener(),
        );
        while self.is_alive() {
            // The events say it at once; looking finds what they do not say.
            match timeout(LOOK, events.next()).await {
                Ok(Some(Event::Error(error))) => {
                    tracing::debug!(error = ?error, "RabbitMQ: {error}");
                }
                Ok(Some(_)) | Err(_) => {}
                Ok(None) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Publishes all, and says of each what became of it in time. All are on their way at once.
    pub(super) async fn publish(
        &self,
        all: &[impl Borrow<Outgoing> + Sync],
        patience: Duration,
    ) -> Vec<Fate> {
        let mut fates = vec![Fate::Unsent; all.len()];
        let mut sends = Vec::with_capacity(all.len());
        let mut known = 0;
        let work = async {
            self.declare_for(all).await?;
            let begun = all.iter().map(Borrow::borrow).map_while(|out| self.send(out));
            sends.extend(begun);
            fates[..sends.len()].fill(Fate::Unknown);
            // Confirmations come in their order, so that one after another is waited for.
            while let Some(send) = sends.get_mut(known) {
                fates[known] = send.await;
                known += 1;
            }
            Ok::<(), Error>(())
        };
        if let Ok(Err(error)) = timeout(patience, work).await {
            tracing::debug!(error = ?error, "cannot publish: {error}");
        }
        // When time is up, the others may be there all the same.
        for (fate, send) in fates.iter_mut().zip(&mut sends).skip(known) {
            *fate = send.now_or_never().unwrap_or(Fate::Unknown);
        }
        fates
    }

    /// Has a message on its way; the future says what became of it. None when the link is gone.
    fn send<'a>(&'a self, out: &'a Outgoing) -> Option<Sending<'a>> {
        if !self.is_alive() {
            return None;
        }
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let (queue, body, properties) = (out.queue.clone(), &out.message.body, out.properties());
        let sent = self.publish.basic_publish("".into(), queue, options, body, properties);
        let mut sending = Box::pin(async move {
            let answer = match sent.await {
                Ok(confirm) => confirm.await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(Confirmation::Ack(None)) => Fate::Kept,
                Ok(Confirmation::Ack(Some(_))) => {
                    // Its queue was deleted behind our back; the next attempt makes it anew.
                    self.forget(out.queue.as_str());
                    Fate::Unsent
                }
                Ok(_) => Fate::Unsent,
                Err(_) => Fate::Unknown,
            }
        });
        match self.queued(&mut sending) {
            Poll::Ready(fate) => Some(Box::pin(std::future::ready(fate))),
            Poll::Pending => Some(sending),
        }
    }

    /// Polls a publication for the first time, by which it is numbered and queued. It is woken by
    /// who waits for it, and nobody does yet.
    fn queued<T>(&self, sending: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
        let _one = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
        sending.poll_unpin(&mut Context::from_waker(Waker::noop()))
    }

    /// Publishes to whoever is there to hear it, such as a result that someone waits for.
    pub(super) async fn tell(&self, told: &Told) {
        let (to, properties) = (told.to.clone(), told.properties.clone());
        let options = BasicPublishOptions::default();
        let sent = self.publish.basic_publish("".into(), to, options, &told.body, properties);
        let mut sent = Box::pin(sent);
        let answer = match self.queued(&mut sent) {
            Poll::Ready(answer) => answer,
            Poll::Pending => sent.await,
        };
        if let Err(error) = answer {
            tracing::debug!(error = ?error, "cannot send a result: {error}");
        }
    }

    /// Makes the queues that these go to.
    async fn declare_for(&self, all: &[impl Borrow<Outgoing> + Sync]) -> Result<(), Error> {
        let mut last = "";
        for out in all {
            let queue = out.borrow().queue.as_str();
            if queue != last {
                self.declare(queue).await?;
            }
            last = queue;
        }
        Ok(())
    }

    /// Makes the queue as kombu does: durable, and bound to a direct exchange of its name. One that
    /// is there with other arguments is used as it is.
    pub(super) async fn declare(&self, queue: &str) -> Result<(), Error> {
        if self.declared.lock().unwrap_or_else(PoisonError::into_inner).contains(queue) {
            return Ok(());
        }
        let mut arguments = FieldTable::default();
        if let Some(most) = self.max_priority {
            arguments.insert("x-max-priority".into(), AMQPValue::LongInt(i32::from(most)));
        }
        // A refusal closes the channel that asked, so that each asks on one of its own.
        let channel = self.publisher.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared = async {
            let (kind, none) = (lapin::ExchangeKind::Direct, FieldTable::default());
            channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
            channel.exchange_declare(queue.into(), kind, options, none.clone()).await?;
            let (to, key) = (queue.into(), queue.into());
            channel.queue_bind(queue.into(), to, key, QueueBindOptions::default(), none).await
        };
        match declared.await {
            Ok(()) => {
                let _ = channel.close(200, "done".into()).await;
            }
            Err(error) if is_refused(&error) => {
                tracing::debug!(queue, "queue {queue} is there with other arguments: {error}");
            }
            Err(error) => return Err(error),
        }
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).insert(queue.to_owned());
        Ok(())
    }

    pub(super) fn forget(&self, queue: &str) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }

    /// How many messages wait in a queue that was declared.
    pub(super) async fn count(&self, queue: &str) -> Result<u64, Error> {
        self.declare(queue).await?;
        let channel = self.publisher.create_channel().await?;
        ready(&channel, queue).await
    }

    pub(super) fn declared(&self) -> Vec<String> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(super) async fn purge(&self, queue: &str) -> Result<u64, Error> {
        self.declare(queue).await?;
        let purged = self.publish.queue_purge(queue.into(), Default::default()).await?;
        Ok(u64::from(purged))
    }
}

/// How many messages a queue has that are given to nobody.
pub(super) async fn ready(channel: &Channel, queue: &str) -> Result<u64, Error> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    Ok(u64::from(found.message_count()))
}

/// Whether the broker refused a declaration, rather than failed.
fn is_refused(error: &Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if error.get_id() == 406)
}

const CONNECT: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
const FIRST_REST: Duration = Duration::from_secs(1);
