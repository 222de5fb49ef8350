//! The embedded engine: channels and groups in this process.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
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
        let mut rooms = self.rooms();
        rooms.sweep(now, self.expiry);
        // Under the lock: a receiver who leaves now would see that somebody else has the channel.
        if self.push(&rooms.channel(channel), message, capacity, now) {
            return Ok(());
        }
        Err(Error::ChannelFull { channel: channel.to_owned(), capacity })
    }

    async fn receive(&self, channel: &str) -> Result<Bytes> {
        // Gone when nothing waits in it or on it any more, however this future ends.
        let forget = Forget { memory: self, name: channel, channel: self.rooms().channel(channel) };
        let found = &forget.channel;
        loop {
            // Registered before looking, so that a message between look and wait is not slept over:
            // whoever is not registered shares one word with all who are not.
            let mut arrived = pin!(found.arrived.notified());
            arrived.as_mut().enable();
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
    channel: Arc<Channel>,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut rooms = self.memory.rooms();
        // Given up while the map is locked: of two who leave at once, one is the last.
        let channel = std::mem::take(&mut self.channel);
        // Two: the map's and this receiver's. Nobody can take a third while the map is locked.
        let is_last = Arc::strong_count(&channel) == 2;
        if is_last && channel.live(self.memory.clock.elapsed()).is_empty() {
            let is_this = rooms.channels.get(self.name).is_some_and(|c| Arc::ptr_eq(c, &channel));
            if is_this {
                rooms.channels.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subscription;

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
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn each_of_two_who_wait_at_once_hears_of_one_of_two_messages() {
        let memory = Arc::new(Memory::new(&Config::default()));
        for round in 0..5_000 {
            let both = (0..2).map(|_| {
                let memory = Arc::clone(&memory);
                tokio::spawn(async move { memory.receive("door").await })
            });
            let both: Vec<_> = both.collect();
            for _ in 0..2 {
                memory.send("door", Bytes::new(), 2).await.unwrap();
            }
            for one in both {
                let heard = tokio::time::timeout(LONG, one).await;
                heard.unwrap_or_else(|_| panic!("one sleeps in round {round}")).unwrap().unwrap();
            }
        }
        assert!(memory.rooms().channels.is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_comes_and_goes_leaves_no_channel_no_member_and_no_message() {
        let memory = Arc::new(Memory::new(&Config::default()));
        let engine: Arc<dyn Engine> = memory.clone();
        let mut visitors = tokio::task::JoinSet::new();
        for visitor in 0..16_u64 {
            let (memory, engine) = (Arc::clone(&memory), Arc::clone(&engine));
            visitors.spawn(async move {
                let (mut sent, mut received) = (0_u32, 0_u32);
                for round in 0..1_500_u64 {
                    let drawn = (visitor << 32 | round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
                    let (room, patience) = (format!("room.{}", drawn % 3), drawn / 64 % 200);
                    let patience = Duration::from_micros(patience);
                    match drawn % 5 {
                        0 | 1 => {
                            let told = memory.send(&room, Bytes::new(), 10).await;
                            sent += u32::from(told.is_ok());
                        }
                        2 | 3 => {
                            let told = tokio::time::timeout(patience, memory.receive(&room)).await;
                            received += u32::from(told.is_ok());
                        }
                        _ => {
                            let channel = format!("own.{visitor}!{round}");
                            let mut own = Subscription::new(Arc::clone(&engine), &room, channel);
                            let joined = engine.group_add(&room, own.channel(), None);
                            joined.await.unwrap();
                            let config = Config { capacity: 2, ..Config::default() };
                            let sent = memory.group_send(&room, Bytes::new(), &config).await;
                            assert_ne!(sent.unwrap(), Sent::default(), "he is a member himself");
                            if round % 2 == 0 {
                                let _ = tokio::time::timeout(patience, own.next()).await;
                            }
                        }
                    }
                }
                (sent, received)
            });
        }
        let (mut sent, mut received) = (0, 0);
        for (own_sent, own_received) in visitors.join_all().await {
            (sent, received) = (sent + own_sent, received + own_received);
        }
        // What was sent and nobody took is still there.
        for room in 0..3 {
            let room = format!("room.{room}");
            while tokio::time::timeout(SOON, memory.receive(&room)).await.is_ok() {
                received += 1;
            }
        }
        assert_eq!(sent, received);
        let rooms = memory.rooms();
        assert!(rooms.channels.is_empty() && rooms.groups.is_empty(), "{rooms:?}");
    }

    /// Nobody waits for so long unless it is for ever.
    const LONG: Duration = Duration::from_secs(30);
    /// What is there is had at once.
    const SOON: Duration = Duration::from_millis(100);
}
