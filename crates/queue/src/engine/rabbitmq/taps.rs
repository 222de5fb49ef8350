//! What the nodes give out: a tap on each queue, which pours into a bounded store.
//!
//! A tap is a consumer. All taps of a connection share one bound on what they may bring that is
//! not yet acknowledged, and it is as large as what the worker has room for. So a worker that is
//! busy with long tasks holds back none that another could run; and what it no longer wants goes
//! back.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use lapin::{
    Channel, ConsumerDelegate, Error,
    message::DeliveryResult,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicGetOptions},
    types::FieldTable,
};

use super::{
    intake::{Intake, Tap},
    node::{Link, ready},
    receipt::{Open, Receipt},
    store::{Store, Taken},
};
use crate::engine::Signals;

/// Where a tap pours to.
struct Spout {
    queue: String,
    link: usize,
    store: Arc<Store>,
    signals: Arc<Signals>,
    open: Arc<Open>,
    is_open: Arc<AtomicBool>,
}

impl ConsumerDelegate for Spout {
    /// Called by the connection itself, in the order of what the broker says; so whatever came
    /// before an answer of the broker is in the store before the answer is here.
    fn on_new_delivery(
        &self,
        delivery: DeliveryResult,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match delivery {
            Ok(Some(delivery)) => {
                let receipt = Receipt::of(&delivery, &self.open);
                self.store.put(&self.queue, self.link, delivery, receipt);
                self.signals.ready();
            }
            Ok(None) | Err(_) => self.is_open.store(false, Ordering::SeqCst),
        }
        Box::pin(std::future::ready(()))
    }
}

impl Link {
    /// Taps these queues, for at most `wanted` that are not acknowledged: the channel, and whether
    /// the broker may bring something now that it could not before. `at` is the link's place.
    pub(super) async fn tap(
        &self,
        at: usize,
        queues: &[String],
        wanted: usize,
        store: &Arc<Store>,
        signals: &Arc<Signals>,
    ) -> Result<(Channel, bool), Error> {
        let mut place = self.intake.lock().await;
        let is_open = |intake: &Intake| intake.channel.status().connected();
        let mut intake = match place.take().filter(is_open) {
            Some(intake) => intake,
            None => {
                let channel = self.consumer.create_channel().await?;
                Intake { channel, open: Arc::default(), taps: HashMap::new(), prefetch: 0 }
            }
        };
        let tapped = async {
            let mut is_news = intake.bound(wanted).await?;
            intake.taps.retain(|_, tap| tap.is_open.load(Ordering::SeqCst));
            for queue in queues {
                if !intake.taps.contains_key(queue) {
                    self.declare(queue).await?;
                    let is_open = Arc::new(AtomicBool::new(true));
                    let spout = Spout {
                        queue: queue.clone(),
                        link: at,
                        store: store.clone(),
                        signals: signals.clone(),
                        open: intake.open.clone(),
                        is_open: is_open.clone(),
                    };
                    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
                    let name = queue.as_str().into();
                    let consumer = intake.channel.basic_consume(name, "".into(), options, none);
                    let consumer = consumer.await?;
                    consumer.set_delegate(spout);
                    intake.taps.insert(queue.clone(), Tap { consumer, is_open });
                    is_news = true;
                }
            }
            Ok(is_news)
        };
        let tapped = tapped.await;
        let channel = intake.channel.clone();
        *place = Some(intake);
        tapped.map(|is_news| (channel, is_news))
    }

    /// Closes the taps, and gives back what they brought and nobody claimed. `holds` says whether
    /// there may be tasks that deliveries of this link hold: then its channel stays until they
    /// are acknowledged.
    async fn close_taps(&self, holds: bool, store: &Store) {
        let Some(mut intake) = self.intake.lock().await.take() else { return };
        let closed = async {
            if !holds {
                // The broker takes back all of it by itself.
                return intake.channel.close(200, "done".into()).await;
            }
            // Nothing more may be under way when a tap closes: what comes then is lost to all until
            // the channel closes. Two questions, because the first may overtake what is under way.
            intake.bound(1).await?;
            intake.prefetch = 0;
            intake.bound(1).await?;
            give_back_all(store.drain()).await;
            for tap in intake.taps.values() {
                let tag = tap.consumer.tag();
                intake.channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
            }
            Ok(())
        };
        if let Err(error) = closed.await {
            tracing::debug!(error = ?error, "cannot close taps: {error}");
        }
    }

    /// Takes at most `limit` messages of a queue without tapping it, by asking for one after
    /// another. They go back when the channel closes, if not before.
    pub(super) async fn look_through(
        &self,
        at: usize,
        queue: &str,
        limit: usize,
    ) -> Result<Vec<Taken>, Error> {
        self.declare(queue).await?;
        let channel = self.consumer.create_channel().await?;
        let (open, mut taken) = (Arc::default(), Vec::new());
        while taken.len() < limit {
            let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await?;
            let Some(got) = got else { break };
            let (queue, channel) = (queue.to_owned(), channel.clone());
            let receipt = Receipt::of(&got.delivery, &open);
            taken.push(Taken { queue, link: at, delivery: got.delivery, receipt, channel });
        }
        Ok(taken)
    }
}

/// How many messages the queues still have for whoever taps them.
pub(super) async fn left(channels: &[Option<Channel>], queues: &[String]) -> u64 {
    let mut left = 0;
    for channel in channels.iter().flatten() {
        for queue in queues {
            left += ready(channel, queue).await.unwrap_or(0);
        }
    }
    left
}

/// Closes the taps of all connections and gives back what nobody claimed.
pub(super) async fn give_back(links: &[Arc<Link>], store: &Store, holds: bool) {
    for link in links {
        link.close_taps(holds, store).await;
    }
    // What came until the last tap was closed.
    give_back_all(store.drain()).await;
}

/// Gives messages back, the last first, so that the broker has them in their order again.
pub(super) async fn give_back_all(receipts: Vec<Receipt>) {
    for receipt in receipts.into_iter().rev() {
        receipt.give_back().await;
    }
}
