//! RabbitMQ: what apalis-amqp 1.0.0 leaves to whoever uses it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use apalis::prelude::*;
use apalis_amqp::{AmqpBackend, Config};
use apalis_core::task::{builder::TaskBuilder, metadata::MetadataStore};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{BATCH, CALLERS, LIMIT, tell, used};

/// A durable queue; for each push it opens a channel and declares the queue anew.
pub(crate) fn open(url: &str, queue: &str) -> Result<AmqpBackend<u64>> {
    let config = Config::default().queue(queue).prefetch_count(u16::try_from(BATCH)?);
    Ok(AmqpBackend::new_from_addr(bare(url))?.with_config(config))
}

/// A task that survives the broker, which is not what it makes by itself.
pub(crate) fn persistent(number: u64) -> Task<u64> {
    let mode = HashMap::from([("delivery_mode".to_owned(), "2".to_owned())]);
    TaskBuilder::new(number).with_metadata(MetadataStore::from_map(mode)).build()
}

/// Until the queue says that it has them all: nothing that apalis pushes is confirmed.
pub(crate) async fn landed(url: &str, queue: &str, count: usize) -> Result<()> {
    let connection = Connection::connect(bare(url), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let begun = Instant::now();
    loop {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue = channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
        if queue.message_count() as usize >= count {
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "{} of {count} tasks came", queue.message_count());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Confirmed pushes by hand, because its own can not be: the channel is its own. What its worker
/// would run, published by lapin over a channel that confirms, `CALLERS` at once.
pub(crate) async fn publish(url: &str, queue: &str, count: usize) -> Result<()> {
    let connection = Connection::connect(bare(url), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let durable = QueueDeclareOptions::durable();
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await?;
    let (begun, used_before) = (Instant::now(), used());
    let sent = stream::iter(0..count).map(|number| {
        let channel = &channel;
        async move {
            let options = BasicPublishOptions::default();
            let (body, as_is) = (number.to_string(), BasicProperties::default());
            let kept = as_is.with_delivery_mode(2);
            let sent =
                channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), kept);
            match sent.await?.await? {
                Confirmation::Ack(None) => Ok(()),
                other => Err(anyhow!("not confirmed: {other:?}")),
            }
        }
    });
    let sent: Vec<()> = sent.buffer_unordered(CALLERS).try_collect().await?;
    tell(begun, used_before, sent.len());
    Ok(())
}

/// To lapin a path of `/` is a virtual host without a name.
fn bare(url: &str) -> &str {
    url.trim_end_matches('/')
}
