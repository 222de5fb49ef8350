//! One suite for every engine: what a bus promises, tried through the public door.
//!
//! Run it on an engine of your own in a test. It panics at the first promise that does not hold.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;

use crate::{Bus, Capacity, Config, Engine, Error, Result, Sent};

/// Tries every promise on `engine`. Its names are fresh, so an engine in use may be tried.
///
/// # Errors
/// Whatever the engine answers where it should have done as asked.
///
/// # Panics
/// When a promise does not hold; the message is the promise.
pub async fn exercise(engine: impl Engine) -> Result<()> {
    let small = Capacity { pattern: "small.*".to_owned(), messages: 3 };
    let config = Config { capacities: vec![small], ..Config::default() };
    let bus = config.with_engine(engine);
    messages_arrive_once_and_in_order(&bus).await?;
    a_receiver_that_gives_up_takes_nothing(&bus).await?;
    a_full_channel_refuses_and_keeps_what_it_has(&bus).await?;
    many_receivers_share_a_channel(&bus).await?;
    groups_reach_their_members(&bus).await?;
    a_full_member_is_counted_and_holds_up_nobody(&bus).await?;
    a_subscription_leaves_when_dropped(&bus).await?;
    bad_names_are_refused(&bus).await;
    Ok(())
}

async fn messages_arrive_once_and_in_order(bus: &Bus) -> Result<()> {
    let channel = bus.new_channel("order")?;
    let receiver = {
        let (bus, channel) = (bus.clone(), channel.clone());
        tokio::spawn(async move {
            let mut got = Vec::new();
            for _ in 0..50 {
                got.push(soon(bus.receive(&channel)).await?);
            }
            Ok::<_, Error>(got)
        })
    };
    for number in 0..50_u8 {
        bus.send(&channel, vec![number]).await?;
    }
    let got = receiver.await.expect("the receiver does not panic")?;
    let sent: Vec<Bytes> = (0..50_u8).map(|number| Bytes::from(vec![number])).collect();
    assert_eq!(got, sent, "messages arrive once and in the order in which they were sent");
    assert_silent(bus, &channel, "a message is delivered at most once").await;

    let large = Bytes::from(vec![0xff; 1 << 20]);
    bus.send(&channel, large.clone()).await?;
    assert_eq!(soon(bus.receive(&channel)).await?, large, "a message of 1 MiB arrives whole");
    bus.send(&channel, Bytes::new()).await?;
    assert!(soon(bus.receive(&channel)).await?.is_empty(), "an empty message arrives");
    Ok(())
}

async fn a_receiver_that_gives_up_takes_nothing(bus: &Bus) -> Result<()> {
    let channel = bus.new_channel("cancel")?;
    for _ in 0..20 {
        assert_silent(bus, &channel, "an empty channel has nothing to receive").await;
    }
    bus.send(&channel, "kept").await?;
    let got = soon(bus.receive(&channel)).await?;
    assert_eq!(got, "kept", "a receiver that gave up took no message with it");
    Ok(())
}

async fn a_full_channel_refuses_and_keeps_what_it_has(bus: &Bus) -> Result<()> {
    let channel = bus.new_channel("small")?;
    for number in 0..3_u8 {
        bus.send(&channel, vec![number]).await?;
    }
    let refused = bus.send(&channel, vec![3]).await;
    let is_full = matches!(refused, Err(Error::ChannelFull { capacity: 3, .. }));
    assert!(is_full, "sending to a full channel is ChannelFull, not {refused:?}");
    assert_eq!(soon(bus.receive(&channel)).await?, vec![0_u8], "a full channel keeps its messages");
    bus.send(&channel, vec![4]).await?;
    for number in [1_u8, 2, 4] {
        let got = soon(bus.receive(&channel)).await?;
        assert_eq!(got, vec![number], "a channel with room again takes messages");
    }
    Ok(())
}

async fn many_receivers_share_a_channel(bus: &Bus) -> Result<()> {
    let channel = format!("shared.{}", bus.new_channel("x")?.replace('!', "."));
    let receivers: Vec<_> = (0..8)
        .map(|_| {
            let (bus, channel) = (bus.clone(), channel.clone());
            tokio::spawn(async move {
                let mut got = Vec::new();
                loop {
                    let message = soon(bus.receive(&channel)).await?;
                    if message == "stop" {
                        return Ok::<_, Error>(got);
                    }
                    got.push(message);
                }
            })
        })
        .collect();
    let mut sent = HashSet::new();
    for number in 0..400_u32 {
        let message = Bytes::from(number.to_string());
        sent.insert(message.clone());
        send_when_there_is_room(bus, &channel, message).await?;
    }
    for _ in &receivers {
        send_when_there_is_room(bus, &channel, Bytes::from_static(b"stop")).await?;
    }
    let mut got = Vec::new();
    for receiver in receivers {
        got.extend(receiver.await.expect("a receiver does not panic")?);
    }
    assert_eq!(got.len(), 400, "each message goes to one of the receivers");
    assert_eq!(got.into_iter().collect::<HashSet<_>>(), sent, "no message is lost or made up");
    Ok(())
}

async fn groups_reach_their_members(bus: &Bus) -> Result<()> {
    let group = bus.new_channel("g")?.replace('!', ".");
    let (first, second) = (bus.new_channel("member")?, bus.new_channel("member")?);
    let nobody = bus.group_send(&group, "x").await?;
    assert_eq!(nobody, Sent::default(), "a message to an empty group reaches nobody");
    for channel in [&first, &second, &second] {
        bus.group_add(&group, channel).await?;
    }
    let both = bus.group_send(&group, "one").await?;
    assert_eq!(both, Sent { delivered: 2, dropped: 0 }, "a member that was added twice gets one");
    bus.group_discard(&group, &second).await?;
    bus.group_discard(&group, &second).await?;
    let one = bus.group_send(&group, "two").await?;
    assert_eq!(one, Sent { delivered: 1, dropped: 0 }, "one who left gets nothing");
    assert_eq!(soon(bus.receive(&first)).await?, "one");
    assert_eq!(soon(bus.receive(&first)).await?, "two");
    assert_eq!(soon(bus.receive(&second)).await?, "one");
    assert_silent(bus, &second, "one who left gets nothing").await;
    bus.group_discard(&group, &first).await
}

async fn a_full_member_is_counted_and_holds_up_nobody(bus: &Bus) -> Result<()> {
    let group = bus.new_channel("g")?.replace('!', ".");
    let (small, large) = (bus.new_channel("small")?, bus.new_channel("large")?);
    bus.group_add(&group, &small).await?;
    bus.group_add(&group, &large).await?;
    let mut total = Sent::default();
    for _ in 0..5 {
        let sent = bus.group_send(&group, "news").await?;
        total.delivered += sent.delivered;
        total.dropped += sent.dropped;
    }
    assert_eq!(total, Sent { delivered: 8, dropped: 2 }, "a full member is counted as dropped");
    for _ in 0..5 {
        soon(bus.receive(&large)).await?;
    }
    for channel in [&small, &large] {
        bus.group_discard(&group, channel).await?;
    }
    Ok(())
}

async fn a_subscription_leaves_when_dropped(bus: &Bus) -> Result<()> {
    let group = bus.new_channel("g")?.replace('!', ".");
    let mut staying = bus.subscribe(&group).await?;
    let leaving = bus.subscribe(&group).await?;
    assert_eq!(bus.group_send(&group, "both").await?.delivered, 2, "subscriptions are members");
    drop(leaving);
    // An engine that is far away may take a moment to hear of it.
    for attempt in 0.. {
        if bus.group_send(&group, "one").await?.delivered == 1 {
            break;
        }
        assert!(attempt < 100, "a subscription leaves its group when it is dropped");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(soon(staying.next()).await?, "both");
    bus.send(staying.channel(), "to you").await?;
    while soon(staying.next()).await? != "to you" {}
    Ok(())
}

async fn bad_names_are_refused(bus: &Bus) {
    for name in ["", "a b", "a!", "é"] {
        let refused = bus.send(name, "x").await;
        assert!(matches!(refused, Err(Error::Name { .. })), "`{name}` cannot name a channel");
        let refused = bus.group_add(name, "x").await;
        assert!(matches!(refused, Err(Error::Name { .. })), "`{name}` cannot name a group");
    }
}

async fn send_when_there_is_room(bus: &Bus, channel: &str, message: Bytes) -> Result<()> {
    loop {
        match bus.send(channel, message.clone()).await {
            Err(Error::ChannelFull { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            sent => return sent,
        }
    }
}

/// Fails instead of hanging when a message does not come.
async fn soon<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, work).await.expect("a message that was sent arrives")
}

async fn assert_silent(bus: &Bus, channel: &str, promise: &str) {
    let wait = Duration::from_millis(5);
    let got = tokio::time::timeout(wait, bus.receive(channel)).await;
    assert!(got.is_err(), "{promise}; got {got:?}");
}
