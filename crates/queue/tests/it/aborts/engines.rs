//! Calls of an engine that are dropped at each of their awaits in turn.

use std::time::{Duration, Instant};

use throng_core::{Clock, EngineUrl};
use throng_queue::{
    Message, TaskId,
    engine::{Claim, Claimed, Ended, Engine, Verdict, database::Database},
};

use super::{PATIENCE, dice::polled};

/// Claims and gives back, dropped after ever more polls; then somebody else claims all.
async fn check_claims(engine: &impl Engine) {
    let queues = [format!("dropped-{}", TaskId::random())];
    let message = |at: u32| {
        let message = Message::new("work", ()).unwrap().queue(&queues[0]);
        if at.is_multiple_of(2) { message.ignore_result() } else { message }
    };
    let messages: Vec<Message> = (0..60).map(message).collect();
    let mut missing: Vec<TaskId> = engine.push(&messages).await.unwrap();
    let claim = |limit| Claim {
        worker: "dropped",
        queues: &queues,
        names: None,
        limit,
        takes_suspect: true,
        lease: Duration::from_secs(1),
    };
    let end = |task: Claimed, verdict| Ended { lease: task.lease, verdict };
    for polls in 1..=30 {
        let claimed = polled(Box::pin(engine.claim(&claim(3))), polls).await;
        if let Some(Ok(batch)) = claimed {
            let ends = batch.tasks.into_iter().map(|task| end(task, Verdict::Release));
            let ends: Vec<Ended> = ends.collect();
            drop(polled(Box::pin(engine.settle(&ends)), polls.div_ceil(3)).await);
        }
    }
    let begun = Instant::now();
    while !missing.is_empty() {
        let left = missing.len();
        assert!(begun.elapsed() < PATIENCE, "{}: {left} tasks do not come back", engine.name());
        engine.tend(100).await.unwrap();
        let batch = engine.claim(&claim(20)).await.unwrap();
        missing.retain(|id| batch.tasks.iter().all(|task| task.lease.id != *id));
        let ends = batch.tasks.into_iter().map(|task| end(task, Verdict::Done(().into())));
        engine.settle(&ends.collect::<Vec<_>>()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Pushes of more than fits in one call, dropped after ever more polls: each is whole or not there.
async fn check_pushes(engine: &impl Engine) {
    let mut batches = Vec::new();
    for polls in 1..=8 {
        let message = |_| Message::new("work", ()).unwrap().queue("whole");
        let messages: Vec<Message> = (0..1200).map(message).collect();
        batches.push([&messages[0], &messages[1199]].map(Message::id));
        drop(polled(Box::pin(engine.push(&messages)), polls).await);
    }
    // What was left behind may still be on its way.
    for [first, last] in batches {
        let mut there = [false; 2];
        for _ in 0..50 {
            for (is_there, id) in there.iter_mut().zip([&first, &last]) {
                *is_there = engine.find(id).await.unwrap().is_some();
            }
            if there[0] == there[1] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(there[0], there[1], "{}: the first and the last", engine.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_anywhere_loses_nothing() {
    let (_folder, db) = super::site().await;
    let engine = Database::new(db, Clock::system());
    check_claims(&engine).await;
    check_pushes(&engine).await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_redis_that_is_dropped_anywhere_loses_nothing() {
    let Some(url) = crate::redis::url() else { return };
    let url = EngineUrl::parse(&format!("{url}?prefix={}.", TaskId::random())).unwrap();
    let engine = throng_queue::engine::redis::Redis::open(&url, Clock::system()).await.unwrap();
    check_claims(&engine).await;
    check_pushes(&engine).await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_rabbitmq_that_is_dropped_anywhere_loses_nothing() {
    let Some(url) = crate::rabbitmq::url() else { return };
    let (_folder, db) = super::site().await;
    let url = EngineUrl::parse(&url).unwrap();
    let engine = throng_queue::engine::rabbitmq::Rabbitmq::open(&url, db, Clock::system());
    check_claims(&engine.await.unwrap()).await;
}
