//! What came from the queues and nobody has claimed yet.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lapin::{Channel, message::Delivery};

use super::receipt::Receipt;

/// What has come and nobody has claimed.
#[derive(Debug, Default)]
pub(super) struct Store {
    queues: Mutex<HashMap<String, VecDeque<Stored>>>,
}

#[derive(Debug)]
struct Stored {
    since: Instant,
    /// The place of its connection among those that were tapped.
    link: usize,
    delivery: Delivery,
    receipt: Receipt,
}

/// A message that was given to us, with the channel that must stay open until it is acknowledged.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) queue: String,
    /// The place of its connection among those that were asked.
    pub(super) link: usize,
    pub(super) delivery: Delivery,
    pub(super) receipt: Receipt,
    pub(super) channel: Channel,
}

impl Store {
    /// Takes at most `limit` of what came from these queues, `channels` being those of the links.
    pub(super) fn take(
        &self,
        queues: &[String],
        limit: usize,
        channels: &[Option<Channel>],
    ) -> Vec<Taken> {
        let mut all = self.lock();
        let mut taken = Vec::new();
        for queue in queues {
            let Some(waiting) = all.get_mut(queue) else { continue };
            while taken.len() < limit {
                let Some(stored) = waiting.pop_front() else { break };
                let Stored { link, delivery, receipt, .. } = stored;
                // Where the connection is gone, the broker gives it out again.
                if let Some(Some(channel)) = channels.get(link)
                    && !receipt.is_void()
                {
                    let (queue, channel) = (queue.clone(), channel.clone());
                    taken.push(Taken { queue, link, delivery, receipt, channel });
                }
            }
        }
        taken
    }

    pub(super) fn count(&self, queue: &str) -> u64 {
        self.lock().get(queue).map_or(0, |waiting| waiting.len() as u64)
    }

    /// Whether something has waited longer than anybody who wants it would let it.
    pub(super) fn is_stale(&self) -> bool {
        let all = self.lock();
        let mut firsts = all.values().filter_map(VecDeque::front);
        firsts.any(|first| first.since.elapsed() > STALE)
    }

    pub(super) fn put(&self, queue: &str, link: usize, delivery: Delivery, receipt: Receipt) {
        let stored = Stored { since: Instant::now(), link, delivery, receipt };
        let mut all = self.lock();
        match all.get_mut(queue) {
            Some(waiting) => waiting.push_back(stored),
            None => drop(all.insert(queue.to_owned(), VecDeque::from([stored]))),
        }
    }

    pub(super) fn drain(&self) -> Vec<Receipt> {
        self.lock().drain().flat_map(|(_, waiting)| waiting).map(|stored| stored.receipt).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Stored>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const STALE: Duration = Duration::from_secs(2);
