//! Results of our tasks from workers that are Celery's, by its RPC backend.

use std::sync::Arc;

use futures_util::StreamExt as _;
use lapin::{
    Error,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use super::{
    envelope::results,
    node::{Link, Node},
};
use crate::engine::{celery, database::Database};

/// Notes what arrives in the queue of results, on whatever connection the node has.
pub(super) async fn keep(node: Arc<Node>, ledger: Database, ledger_id: String) {
    let queue = results(&ledger_id);
    let mut links = node.links();
    loop {
        let link = links.borrow_and_update().clone();
        if let Some(link) = link
            && let Err(error) = listen(&link, &queue, &ledger).await
        {
            tracing::debug!(error = ?error, "no longer hears of results: {error}");
        }
        if links.changed().await.is_err() {
            return;
        }
    }
}

async fn listen(link: &Link, queue: &str, ledger: &Database) -> Result<(), Error> {
    let channel = link.consumer.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(DAY_MS));
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    channel.basic_qos(AT_ONCE, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, none).await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let read = serde_json::from_slice::<Value>(&delivery.data);
        if let Err(error) = note(ledger, &read.unwrap_or_default()).await {
            tracing::warn!(error = ?error, "cannot note a result: {error}");
        }
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

async fn note(ledger: &Database, result: &Value) -> crate::Result<()> {
    let Some(id) = result["task_id"].as_str().map(crate::TaskId::from) else { return Ok(()) };
    match result["status"].as_str() {
        Some("SUCCESS") => ledger.end_afloat(&id, Ok(&result["result"])).await,
        Some("FAILURE" | "REVOKED") => {
            ledger.end_afloat(&id, Err(&celery::reason(&result["result"]))).await
        }
        _ => Ok(()),
    }
}

const AT_ONCE: u16 = 100;
const DAY_MS: i32 = 86_400_000;
