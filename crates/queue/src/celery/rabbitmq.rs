//! Broadcasts on RabbitMQ: kombu's exchanges, on every node of ours.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, future::join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
    uri::AMQPUri,
};
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use super::{ReplyTo, Request, Wire};
use crate::{Error, Result};

/// The nodes, with a connection of its own to each: what is told here waits for no task.
pub(crate) struct Exchanges {
    nodes: Vec<Node>,
}

struct Node {
    uri: AMQPUri,
    publish: Mutex<Publish>,
}

/// A way to publish, once there is one.
#[derive(Default)]
struct Publish {
    way: Option<(Connection, Channel)>,
    /// A node that did not answer is left alone until then.
    rests_until: Option<Instant>,
}

impl Exchanges {
    pub(crate) fn new(uris: &[AMQPUri]) -> Self {
        let node = |uri: &AMQPUri| Node { uri: uri.clone(), publish: Mutex::default() };
        Self { nodes: uris.iter().map(node).collect() }
    }
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanges").field("nodes", &self.nodes.len()).finish()
    }
}

#[async_trait]
impl Wire for Exchanges {
    async fn emit(&self, routing_key: &str, node: &str, event: &Value) -> Result<()> {
        let mut headers = FieldTable::default();
        headers.insert("hostname".into(), AMQPValue::LongString(node.into()));
        let told = self
            .nodes
            .iter()
            .map(|node| node.publish("celeryev", routing_key, headers.clone(), event));
        // A node that is away has no listeners.
        let mut told = join_all(told).await;
        told.sort_by_key(|told| told.is_err());
        told.swap_remove(0).map_err(failed("tell Celery's listeners"))
    }

    async fn listen(&self, name: &str, heard: mpsc::Sender<Request>) -> Result<()> {
        let nodes = self.nodes.iter().enumerate().map(|(at, node)| {
            let heard = heard.clone();
            async move {
                loop {
                    if let Err(error) = node.listen(at, name, &heard).await {
                        tracing::debug!(error = ?error, "no longer hears Celery's remote control: {error}");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        });
        join_all(nodes).await.into_iter().collect()
    }

    async fn reply(&self, to: &ReplyTo, ticket: &Value, clock: u64, body: &Value) -> Result<()> {
        let Some(node) = self.nodes.get(to.node) else { return Ok(()) };
        let mut headers = FieldTable::default();
        let ticket = ticket.as_str().unwrap_or_default();
        headers.insert("ticket".into(), AMQPValue::LongString(ticket.into()));
        let clock = i64::try_from(clock).unwrap_or(i64::MAX);
        headers.insert("clock".into(), AMQPValue::LongLongInt(clock));
        let told = node.publish(&to.exchange, &to.routing_key, headers, body).await;
        told.map_err(failed("answer Celery's remote control"))
    }
}

impl Node {
    async fn connect(&self) -> lapin::Result<(Connection, Channel)> {
        let opened = async {
            let properties = ConnectionProperties::default();
            let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
            let channel = connection.create_channel().await?;
            Ok((connection, channel))
        };
        let late = || lapin::Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        timeout(CONNECT, opened).await.unwrap_or_else(|_| Err(late()))
    }

    async fn way(&self) -> lapin::Result<Channel> {
        let resting = || lapin::Error::from(std::io::Error::from(std::io::ErrorKind::NotConnected));
        {
            let publish = self.publish.lock().unwrap_or_else(PoisonError::into_inner);
            match &publish.way {
                Some((_, channel)) if channel.status().connected() => return Ok(channel.clone()),
                _ if publish.rests_until.is_some_and(|until| until > Instant::now()) => {
                    return Err(resting());
                }
                _ => {}
            }
        }
        let opened = async {
            let (connection, channel) = self.connect().await?;
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
            channel.exchange_declare("celeryev".into(), kind, options, none).await?;
            Ok((connection, channel))
        };
        let opened = opened.await;
        let mut publish = self.publish.lock().unwrap_or_else(PoisonError::into_inner);
        match opened {
            Ok((connection, channel)) => {
                publish.way = Some((connection, channel.clone()));
                Ok(channel)
            }
            Err(error) => {
                publish.rests_until = Some(Instant::now() + REST);
                Err(error)
            }
        }
    }

    async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        headers: FieldTable,
        body: &Value,
    ) -> lapin::Result<()> {
        let channel = self.way().await?;
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_headers(headers)
            .with_delivery_mode(1);
        let (options, body) = (BasicPublishOptions::default(), body.to_string());
        let (exchange, key) = (exchange.into(), routing_key.into());
        channel.basic_publish(exchange, key, options, body.as_bytes(), properties).await.map(drop)
    }

    async fn listen(
        &self,
        at: usize,
        name: &str,
        heard: &mpsc::Sender<Request>,
    ) -> lapin::Result<()> {
        let (_connection, channel) = self.connect().await?;
        let none = FieldTable::default();
        let options = ExchangeDeclareOptions::default();
        let (exchange, kind) = ("celery.pidbox", ExchangeKind::Fanout);
        channel.exchange_declare(exchange.into(), kind, options, none.clone()).await?;
        let queue = format!("{name}.{exchange}");
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MS));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(TTL_MS));
        let options =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        channel.queue_declare(queue.as_str().into(), options, arguments).await?;
        let (to, key) = (exchange.into(), "".into());
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.as_str().into(), to, key, options, none.clone()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut consumer =
            channel.basic_consume(queue.as_str().into(), "".into(), options, none).await?;
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            let headers = delivery.properties.headers().as_ref();
            let clock = headers.and_then(|headers| headers.inner().get("clock"));
            let clock = match clock {
                Some(AMQPValue::LongInt(clock)) => u64::try_from(*clock).unwrap_or(0),
                Some(AMQPValue::LongLongInt(clock)) => u64::try_from(*clock).unwrap_or(0),
                _ => 0,
            };
            match serde_json::from_slice::<Request>(&delivery.data) {
                Ok(mut request) => {
                    request.clock = clock;
                    if let Some(to) = &mut request.reply_to {
                        to.node = at;
                    }
                    let _ = heard.try_send(request);
                }
                Err(error) => tracing::debug!("a control message that cannot be read: {error}"),
            }
        }
        Ok(())
    }
}

fn failed(doing: &'static str) -> impl FnOnce(lapin::Error) -> Error {
    move |source| Error::Engine { engine: "rabbitmq", doing, source: Box::new(source) }
}

/// As kombu declares a worker's mailbox.
const EXPIRES_MS: i32 = 10_000;
const TTL_MS: i32 = 300_000;
const CONNECT: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(10);
