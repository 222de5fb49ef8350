//! lapin and nothing else, with messages like ours: the ceiling of our figures on RabbitMQ.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use throng_queue::TaskId;

use super::meter::Meter;

/// A queue, and a channel that confirms what is published to it.
pub(crate) struct Bare {
    url: String,
    queue: String,
    /// Open for as long as its channel is used.
    _connection: Connection,
    channel: Channel,
    properties: BasicProperties,
}

impl Bare {
    pub(crate) async fn open(url: &str, queue: String) -> anyhow::Result<Self> {
        // To lapin a path of `/` is a virtual host without a name.
        let url = url.trim_end_matches('/').to_owned();
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let durable = QueueDeclareOptions::durable();
        channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
        Ok(Self { url, queue, _connection: connection, channel, properties: properties() })
    }

    /// Messages a second that are confirmed, `at_once` of them on their way, and what each costs.
    pub(crate) async fn publish(
        &self,
        messages: usize,
        at_once: usize,
    ) -> anyhow::Result<[f64; 2]> {
        let meter = Meter::start();
        let confirmed = stream::iter(0..messages).map(|_| self.send()).buffer_unordered(at_once);
        let confirmed: Vec<()> = confirmed.try_collect().await?;
        Ok(meter.stop(confirmed.len()))
    }

    /// Messages a second that are taken and acknowledged, many by one word, and what each costs.
    pub(crate) async fn take(&self, messages: usize) -> anyhow::Result<[f64; 2]> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let intake = connection.create_channel().await?;
        intake.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let meter = Meter::start();
        let (queue, options) = (self.queue.as_str().into(), BasicConsumeOptions::default());
        let consumer = intake.basic_consume(queue, "".into(), options, FieldTable::default());
        let mut consumer = consumer.await?;
        for taken in 1..=messages {
            let one = consumer.next().await;
            let one = one.ok_or_else(|| anyhow::anyhow!("the consumer was cancelled"))??;
            if taken % WORD == 0 || taken == messages {
                one.acker.ack(BasicAckOptions { multiple: true }).await?;
            }
        }
        Ok(meter.stop(messages))
    }

    /// From the publication to the delivery in this process, in milliseconds and in order, nothing
    /// else being under way.
    pub(crate) async fn deliver(&self, messages: usize) -> anyhow::Result<Vec<f64>> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let intake = connection.create_channel().await?;
        let (queue, options) = (self.queue.as_str().into(), BasicConsumeOptions::default());
        let consumer = intake.basic_consume(queue, "".into(), options, FieldTable::default());
        let mut consumer = consumer.await?;
        let mut took = Vec::new();
        for _ in 0..messages {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let begun = Instant::now();
            let come = async {
                let one = consumer.next().await;
                let after = begun.elapsed();
                let one = one.ok_or_else(|| anyhow::anyhow!("the consumer was cancelled"))??;
                one.acker.ack(BasicAckOptions::default()).await?;
                Ok(after)
            };
            let ((), after) = tokio::try_join!(self.send(), come)?;
            took.push(after.as_secs_f64() * 1000.0);
        }
        took.sort_by(f64::total_cmp);
        Ok(took)
    }

    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let queue = self.queue.as_str().into();
        self.channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
        Ok(())
    }

    async fn send(&self) -> anyhow::Result<()> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (to, properties) = (self.queue.as_str().into(), self.properties.clone());
        let sent = self.channel.basic_publish("".into(), to, options, BODY, properties);
        sent.await?.await?;
        Ok(())
    }
}

fn properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    let id = TaskId::random();
    for (name, value) in
        [("lang", "py"), ("task", "noop"), ("id", id.as_str()), ("root_id", id.as_str())]
    {
        headers.insert(name.into(), text(value));
    }
    headers.insert("retries".into(), AMQPValue::LongInt(0));
    headers.insert("ignore_result".into(), AMQPValue::Boolean(true));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(0)
        .with_correlation_id(id.as_str().into())
}

pub(crate) const BODY: &[u8] =
    br#"[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]"#;
/// Deliveries that one word acknowledges.
pub(crate) const WORD: usize = 100;
pub(crate) const PREFETCH: u16 = 1000;
