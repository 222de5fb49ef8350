//! A Redis server for tests, in which each test has keys of its own.

use std::time::Duration;

use throng_core::{Clock, EngineUrl};
use throng_queue::{
    Delivery, Filter, MALFORMED, Message, Policy, Queue, State, TaskId, Worker,
    engine::{Claim, Ended, Engine as _, Verdict, redis::Redis},
};

use crate::site::{Running, START_MS};

/// The server that the test runner started; without one the test says that it is skipped.
pub(crate) fn url() -> Option<String> {
    let url = std::env::var("THRONG_TEST_REDIS_URL").ok();
    if url.is_none() {
        println!("skip: THRONG_TEST_REDIS_URL is not set");
    }
    url
}

/// The engine under a prefix that no other test has.
pub(crate) async fn open(url: &str, clock: &Clock) -> Redis {
    let prefix = TaskId::random();
    let url = EngineUrl::parse(&format!("{url}?prefix={prefix}.")).unwrap();
    Redis::open(&url, clock.clone()).await.unwrap()
}

#[tokio::test]
async fn what_cannot_be_read_is_parked_with_every_byte_and_stops_nobody() {
    let Some(url) = url() else { return };
    let prefix = format!("{}.", TaskId::random());
    let at = EngineUrl::parse(&format!("{url}?prefix={prefix}")).unwrap();
    let engine = Redis::open(&at, Clock::system()).await.unwrap();
    let queue = Queue::with_engine(engine, Clock::system());
    let good = Message::new("good", ()).unwrap();
    let client = ::redis::Client::open(url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let strange = [
        "not JSON",
        "[]",
        r#"{"body": "W10=", "headers": {"task": 7, "id": "x"}, "properties": {}}"#,
        r#"{"headers": {"task": "t", "id": "no body"}, "properties": {}}"#,
    ];
    for text in strange {
        let mut push = ::redis::cmd("LPUSH");
        push.arg(format!("{prefix}default")).arg(text);
        let () = push.query_async(&mut connection).await.unwrap();
    }
    let good = queue.push(good).await.unwrap();
    let worker = Worker::new(queue.clone()).on("good", Policy::default(), |_: Delivery| async {});
    let running = Running::start(worker);
    let record = queue.wait(&good, Duration::from_secs(30)).await.unwrap();
    assert_eq!(record.state, State::Done, "the queue goes on behind them");
    let filter = Filter { state: Some(State::Parked), ..Filter::default() };
    let mut parked = Vec::new();
    for _ in 0..300 {
        parked = queue.list(&filter).await.unwrap();
        if parked.len() == strange.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.stop().await;
    let mut kept: Vec<String> =
        parked.iter().map(|record| record.message.arguments().unwrap()).collect();
    kept.sort();
    let mut strange = strange.map(str::to_owned);
    strange.sort();
    assert_eq!(kept, strange);
    assert!(parked.iter().all(|record| record.message.name() == MALFORMED));
}

/// Runs a task to its end under `options`, with a worker that goes on.
async fn finished(options: &str) -> Option<(Queue, Running, TaskId, String)> {
    let prefix = format!("{}.", TaskId::random());
    let at = EngineUrl::parse(&format!("{}?prefix={prefix}{options}", url()?)).unwrap();
    let engine = Redis::open(&at, Clock::system()).await.unwrap();
    let queue = Queue::with_engine(engine, Clock::system());
    let worker = Worker::new(queue.clone()).on("good", Policy::default(), |_: Delivery| async {});
    let running = Running::start(worker);
    let id = queue.push(Message::new("good", ()).unwrap()).await.unwrap();
    queue.wait(&id, Duration::from_secs(30)).await.unwrap();
    Some((queue, running, id, prefix))
}

#[tokio::test]
async fn records_of_finished_tasks_stay_an_hour_or_as_long_as_told() {
    let Some((_, running, id, prefix)) = finished("").await else { return };
    running.stop().await;
    let client = ::redis::Client::open(url().unwrap().as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut left = ::redis::cmd("PTTL");
    left.arg(format!("{prefix}throng:task:{id}"));
    let left_ms: i64 = left.query_async(&mut connection).await.unwrap();
    assert!((3_300_000..=3_600_000).contains(&left_ms), "{left_ms}");

    let Some((queue, running, id, _)) = finished("&keep_s=1").await else { return };
    for _ in 0..600 {
        if queue.find(&id).await.is_err() && queue.counts().await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(queue.find(&id).await.is_err(), "by its id too");
    assert_eq!(queue.counts().await.unwrap(), []);
    running.stop().await;
}

/// What Celery was told of an earlier run is not how the task stands.
#[tokio::test]
async fn a_task_that_is_to_run_again_is_queued_whatever_celery_was_told() {
    let Some(url) = url() else { return };
    let (clock, hand) = Clock::manual(START_MS);
    let engine = open(&url, &clock).await;
    let queue = Queue::with_engine(engine.clone(), clock.clone());
    let queues = ["default".to_owned()];
    let claim = Claim {
        worker: "test",
        queues: &queues,
        names: None,
        limit: 1,
        takes_suspect: true,
        lease: Duration::from_secs(60),
    };
    let end = async |verdict: Verdict| {
        let mut tasks = engine.claim(&claim).await.unwrap().tasks;
        let lease = tasks.pop().unwrap().lease;
        assert_eq!(engine.settle(&[Ended { lease, verdict }]).await.unwrap(), [true]);
    };
    let id = queue.push(Message::new("count", ()).unwrap()).await.unwrap();
    end(Verdict::Dead("it was wrong".into())).await;
    assert_eq!(queue.find(&id).await.unwrap().state, State::Dead);
    queue.retry(&id).await.unwrap();
    assert_eq!(queue.find(&id).await.unwrap().state, State::Queued);
    end(Verdict::Retry { at_ms: START_MS + 1000, reason: "not now".into() }).await;
    assert_eq!(queue.find(&id).await.unwrap().state, State::Waiting);
    hand.advance(Duration::from_secs(2));
    engine.tend(3).await.unwrap();
    assert_eq!(queue.find(&id).await.unwrap().state, State::Queued, "it waits for a worker");
}
