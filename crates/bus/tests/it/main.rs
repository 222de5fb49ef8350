//! The embedded bus through the public door: the shared suite, expiry, forgetting, and a stress.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use throng_bus::{Bus, Config, Error, Kind, Memory, Sent, conformance};
use throng_core::{Clock, Hand};

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_engine_conforms() {
    conformance::exercise(Memory::new(&Config::default())).await.unwrap();
}

#[tokio::test]
async fn urls_open_what_this_build_has_and_say_so_otherwise() {
    let bus = Bus::open("memory:").await.unwrap();
    assert_eq!((bus.engine(), bus.is_shared()), ("memory", false));
    let refusal = |url| async move { Bus::open(url).await.unwrap_err().to_string() };
    assert!(refusal("carrier-pigeon://coop").await.contains("bus cannot open `carrier-pigeon:`"));
    assert!(refusal("memory:?capacity=1").await.contains("unknown option `capacity`"));
    let full = Error::ChannelFull { channel: "c".to_owned(), capacity: 1 };
    assert_eq!(full.kind(), Kind::Refuse);
}

#[tokio::test]
async fn a_message_that_nobody_takes_expires() {
    let (bus, hand) = by_hand();
    bus.send("inbox", "old").await.unwrap();
    hand.advance(Duration::from_secs(59));
    bus.send("inbox", "new").await.unwrap();
    hand.advance(Duration::from_secs(1));
    assert_eq!(bus.receive("inbox").await.unwrap(), "new");
}

#[tokio::test]
async fn expired_messages_make_room() {
    let (bus, hand) = by_hand();
    for _ in 0..100 {
        bus.send("inbox", "x").await.unwrap();
    }
    assert!(matches!(bus.send("inbox", "x").await, Err(Error::ChannelFull { capacity: 100, .. })));
    hand.advance(Duration::from_secs(60));
    bus.send("inbox", "x").await.unwrap();
}

#[tokio::test]
async fn a_membership_expires_and_a_subscription_does_not() {
    let (bus, hand) = by_hand();
    bus.group_add("show", "inbox").await.unwrap();
    let mut watching = bus.subscribe("show").await.unwrap();
    hand.advance(Duration::from_secs(86_399));
    assert_eq!(bus.group_send("show", "a").await.unwrap().delivered, 2);
    bus.group_add("show", "inbox").await.unwrap();
    hand.advance(Duration::from_secs(86_399));
    assert_eq!(bus.group_send("show", "b").await.unwrap().delivered, 2, "adding again renews");
    hand.advance(Duration::from_secs(1));
    assert_eq!(bus.group_send("show", "c").await.unwrap().delivered, 1);
    assert_eq!(watching.next().await.unwrap(), "b", "what lay over a day has expired");
    assert_eq!(watching.next().await.unwrap(), "c");
}

#[tokio::test]
async fn fresh_channels_differ_and_long_prefixes_are_refused() {
    let bus = Bus::memory();
    let (one, other) = (bus.new_channel("page").unwrap(), bus.new_channel("page").unwrap());
    assert_ne!(one, other);
    assert_eq!(one.split_once('!').unwrap().0, other.split_once('!').unwrap().0);
    assert!(bus.new_channel(&"p".repeat(33)).is_ok());
    assert!(bus.new_channel(&"p".repeat(34)).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_stress_every_message_is_delivered_or_counted() {
    let bus = Bus::memory();
    let received = Arc::new(AtomicUsize::new(0));
    let mut readers = tokio::task::JoinSet::new();
    let mut subscriptions = Vec::new();
    for _ in 0..50 {
        subscriptions.push(bus.subscribe("crowd").await.unwrap());
    }
    for mut subscription in subscriptions {
        let received = Arc::clone(&received);
        readers.spawn(async move {
            while subscription.next().await.unwrap() != "end" {
                received.fetch_add(1, Ordering::Relaxed);
            }
            subscription
        });
    }
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..8 {
        let bus = bus.clone();
        senders.spawn(async move {
            let mut total = Sent::default();
            for number in 0..500 {
                let sent = bus.group_send("crowd", format!("{sender} {number}")).await.unwrap();
                total.delivered += sent.delivered;
                total.dropped += sent.dropped;
                // Joining and leaving in between must disturb nobody.
                let coming_and_going = bus.subscribe("aside").await.unwrap();
                tokio::task::yield_now().await;
                drop(coming_and_going);
            }
            total
        });
    }
    let totals = senders.join_all().await;
    let delivered: usize = totals.iter().map(|sent| sent.delivered).sum();
    let dropped: usize = totals.iter().map(|sent| sent.dropped).sum();
    assert_eq!(delivered + dropped, 8 * 500 * 50);
    while received.load(Ordering::Relaxed) < delivered {
        tokio::task::yield_now().await;
    }
    let ended = bus.group_send("crowd", "end").await.unwrap();
    assert_eq!(ended, Sent { delivered: 50, dropped: 0 });
    readers.join_all().await;
    assert_eq!(received.load(Ordering::Relaxed), delivered);
    assert_eq!(bus.group_send("aside", "x").await.unwrap(), Sent::default());
}

fn by_hand() -> (Bus, Hand) {
    let (clock, hand) = Clock::manual(0);
    (Config { clock, ..Config::default() }.memory(), hand)
}
