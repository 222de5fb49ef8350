//! The embedded engine: channels and groups in this process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use throng_core::Clock;
use tokio::sync::Notify;

use crate::{Config, Engine, Error, Result, Sent};

/// Keeps messages in memory. A channel exists while it holds messages, is waited on or is in a
/// group; what nobody asks for is swept once an expiry.
#[derive(Debug)]
pub struct Memory {
    clock: Clock,
    expiry: Duration,
    rooms: Mutex<Rooms>,
}

impl Memory {
    /// An engine that expires messages as `config` says.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let expiry = Duration::from_millis(config.expiry_ms);
        Self { clock: config.clock.clone(), expiry, rooms: Mutex::default() }
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, channel: &Channel, message: Bytes, capacity: usize, now: Duration) -> bool {
        let mut queue = channel.live(now);
        if queue.len() >= capacity {
            return false;
        }
        queue.push_back(Waiting { message, until: now + self.expiry });
        drop(queue);
        channel.arrived.notify_one();
        true
    }
}

#[async_trait]
impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn send(&self, channel: &str, message: Bytes, capacity: usize) -> Result<()> {
        let now = self.clock.elapsed();
        let found = {
            let mut rooms = self.rooms();
            rooms.sweep(now, self.expiry);
            rooms.channel(channel)
        };
        if self.push(&found, message, capacity, now) {
            return Ok(());
        }
        Err(Error::ChannelFull { channel: channel.to_owned(), capacity })
    }

    async fn receive(&self, channel: &str) -> Result<Bytes> {
        let found = self.rooms().channel(channel);
        // Gone when nothing waits in it or on it any more, however this future ends.
        let _forget = Forget { memory: self, name: channel, channel: &found };
        loop {
            // Registered before looking, so that a message between look and wait is not slept over.
            let arrived = found.arrived.notified();
            let first = found.live(self.clock.elapsed()).pop_front();
            if let Some(waiting) = first {
                return Ok(waiting.message);
            }
            arrived.await;
        }
    }

    async fn group_add(&self, group: &str, channel: &str, expiry_ms: Option<u64>) -> Result<()> {
        let until = expiry_ms.map(|ms| self.clock.elapsed() + Duration::from_millis(ms));
        let mut rooms = self.rooms();
        let member = Member { channel: rooms.channel(channel), until };
        rooms.groups.entry(group.to_owned()).or_default().insert(channel.to_owned(), member);
        Ok(())
    }

    async fn group_discard(&self, group: &str, channel: &str) -> Result<()> {
        self.rooms().discard(group, channel);
        Ok(())
    }

    async fn group_send(&self, group: &str, message: Bytes, config: &Config) -> Result<Sent> {
        let now = self.clock.elapsed();
        // Collected so that ten thousand deliveries do not hold up everybody else's sends.
        let members: Vec<(Arc<Channel>, usize)> = {
            let mut rooms = self.rooms();
            rooms.sweep(now, self.expiry);
            let Some(members) = rooms.groups.get_mut(group) else {
                return Ok(Sent::default());
            };
            members.retain(|_, member| member.until.is_none_or(|until| now < until));
            let capacity = |name: &String| config.capacity_of(name);
            members.iter().map(|(name, m)| (Arc::clone(&m.channel), capacity(name))).collect()
        };
        let mut sent = Sent::default();
        for (channel, capacity) in members {
            if self.push(&channel, message.clone(), capacity, now) {
                sent.delivered += 1;
            } else {
                sent.dropped += 1;
            }
        }
        Ok(sent)
    }

    fn leave(&self, group: &str, channel: &str) {
        let mut rooms = self.rooms();
        rooms.discard(group, channel);
        rooms.channels.remove(channel);
    }
}

#[derive(Debug, Default)]
struct Rooms {
    channels: HashMap<String, Arc<Channel>>,
    groups: HashMap<String, HashMap<String, Member>>,
    swept_at: Duration,
}

#[derive(Debug)]
struct Member {
    /// Held here too, so that a message to a group looks nothing up.
    channel: Arc<Channel>,
    until: Option<Duration>,
}

#[derive(Debug, Default)]
struct Channel {
    queue: Mutex<VecDeque<Waiting>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Waiting {
    message: Bytes,
    until: Duration,
}

impl Rooms {
    fn channel(&mut self, name: &str) -> Arc<Channel> {
        if let Some(channel) = self.channels.get(name) {
            return Arc::clone(channel);
        }
        let channel = Arc::<Channel>::default();
        self.channels.insert(name.to_owned(), Arc::clone(&channel));
        channel
    }

    fn discard(&mut self, group: &str, channel: &str) {
        if let Some(members) = self.groups.get_mut(group) {
            members.remove(channel);
            if members.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// Forgets what has expired everywhere, at most once in `every`.
    fn sweep(&mut self, now: Duration, every: Duration) {
        if now < self.swept_at + every {
            return;
        }
        self.swept_at = now;
        self.groups.retain(|_, members| {
            members.retain(|_, member| member.until.is_none_or(|until| now < until));
            !members.is_empty()
        });
        self.channels
            .retain(|_, channel| Arc::strong_count(channel) > 1 || !channel.live(now).is_empty());
    }
}

impl Channel {
    /// The queue without what has expired by `now`.
    fn live(&self, now: Duration) -> MutexGuard<'_, VecDeque<Waiting>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.front().is_some_and(|first| first.until <= now) {
            queue.pop_front();
        }
        queue
    }
}

/// Takes a channel off the map when its receiver leaves it empty and nobody else has it.
struct Forget<'a> {
    memory: &'a Memory,
    name: &'a str,
    channel: &'a Arc<Channel>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut rooms = self.memory.rooms();
        // Two: the map's and this receiver's. Nobody can take a third while the map is locked.
        let is_last = Arc::strong_count(self.channel) == 2;
        if is_last && self.channel.live(self.memory.clock.elapsed()).is_empty() {
            let is_this =
                rooms.channels.get(self.name).is_some_and(|c| Arc::ptr_eq(c, self.channel));
            if is_this {
                rooms.channels.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_asks_for_is_forgotten() {
        let (clock, hand) = Clock::manual(0);
        let memory = Memory::new(&Config { clock, ..Config::default() });
        let channels = || memory.rooms().channels.len();
        for number in 0..100 {
            memory.send(&format!("abandoned.{number}"), Bytes::new(), 1).await.unwrap();
            memory.group_add(&format!("{number}"), &format!("m.{number}"), Some(1)).await.unwrap();
        }
        assert_eq!(channels(), 200);
        hand.advance(Duration::from_secs(60));
        memory.send("other", Bytes::new(), 1).await.unwrap();
        assert_eq!(channels(), 1);
        assert!(memory.rooms().groups.is_empty());
        memory.receive("other").await.unwrap();
        assert_eq!(channels(), 0);
        let waited = tokio::time::timeout(Duration::ZERO, memory.receive("nobody.sends")).await;
        assert!(waited.is_err());
        assert_eq!(channels(), 0);
    }
}
