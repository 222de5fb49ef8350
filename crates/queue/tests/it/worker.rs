//! What a worker does with tasks that succeed, fail, panic, hang, or are not its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use throng_queue::{
    Backoff, Delivery, Message, Outcome, Policy, State, Task, Worker, WorkerConfig,
};
use tokio::sync::Semaphore;

use crate::site::{Running, Site};

#[derive(Debug, Deserialize, Serialize)]
struct Add {
    left: i64,
    right: i64,
}

impl Task for Add {
    const NAME: &'static str = "math.add";
    const QUEUE: &'static str = "math";
}

fn serving(site: &Site, queues: &[&str]) -> Worker {
    let queues = queues.iter().map(|queue| (*queue).to_owned()).collect();
    Worker::new(site.queue.clone()).config(WorkerConfig { queues, ..WorkerConfig::default() })
}

fn quick(max_retries: u32) -> Policy {
    let backoff = Backoff::fixed(Duration::from_secs(1));
    Policy { max_retries, backoff, ..Policy::default() }
}

#[tokio::test]
async fn a_task_runs_and_its_result_is_there() {
    let site = Site::new().await;
    let id = site.push(Message::of(&Add { left: 2, right: 3 }).unwrap()).await;
    let worker = serving(&site, &["math"])
        .on_task(|task: Add, _| async move { Outcome::Done(json!(task.left + task.right)) });
    let running = Running::start(worker);
    let record = site.until(&id, |record| record.state == State::Done).await;
    assert_eq!(record.result, Some(json!(5)));
    assert!(record.worker.is_some() && record.finished_ms.is_some());
    assert_eq!(running.stop().await.ran, 1);
}

#[tokio::test]
async fn wrong_arguments_are_a_dead_letter_at_once_and_can_be_edited() {
    let site = Site::new().await;
    let id = site.push(Message::new("math.add", json!({"left": "two"})).unwrap()).await;
    let worker = serving(&site, &["default"])
        .on_task(|task: Add, _| async move { Outcome::Done(json!(task.left)) });
    let running = Running::start(worker);
    let record = site.until(&id, |record| record.state == State::Dead).await;
    assert_eq!(record.retries, 0);
    let reason = record.reason.unwrap();
    assert!(reason.contains("wrong arguments for task `math.add`"), "{reason}");
    site.queue.edit(&id, vec![json!(8), json!(0)], serde_json::Map::new()).await.unwrap();
    let record = site.until(&id, |record| record.state == State::Done).await;
    assert_eq!(record.result, Some(json!(8)));
    running.stop().await;
}

#[tokio::test]
async fn a_failure_is_tried_again_until_the_retries_are_used_up() {
    let site = Site::new().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let worker = serving(&site, &["default"]).on("flaky", quick(2), move |delivery: Delivery| {
        let tried = count.fetch_add(1, Ordering::SeqCst);
        assert_eq!(usize::try_from(delivery.retries()).unwrap(), tried);
        async move { Outcome::retry(format_args!("failure {tried}")) }
    });
    let id = site.push(Message::new("flaky", ()).unwrap()).await;
    let running = Running::start(worker);
    let record = site.until(&id, |record| record.state == State::Dead).await;
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(record.reason.as_deref(), Some("failure 2 (gave up after 3 tries)"));
    tries.store(0, Ordering::SeqCst);
    site.queue.retry(&id).await.unwrap();
    site.until(&id, |record| record.state == State::Dead).await;
    assert_eq!(tries.load(Ordering::SeqCst), 3, "a retried dead letter starts anew");
    running.stop().await;
}

#[tokio::test]
async fn a_panic_is_caught_and_told_whether_the_task_waits_or_blocks() {
    let site = Site::new().await;
    let worker = serving(&site, &["default"])
        .on("panics", quick(0), |_: Delivery| async {
            assert_eq!(1, 2, "one is not two");
        })
        .on("panics_early", quick(0), |delivery: Delivery| {
            assert!(delivery.retries() > 0, "too early");
            async {}
        })
        .on_blocking("panics_blocking", quick(0), |_: Delivery| {
            std::thread::sleep(Duration::from_millis(1));
            assert!(std::thread::panicking(), "in a thread");
        });
    let running = Running::start(worker);
    for (name, told) in [
        ("panics", "one is not two"),
        ("panics_early", "too early"),
        ("panics_blocking", "in a thread"),
    ] {
        let id = site.push(Message::new(name, ()).unwrap()).await;
        let record = site.until(&id, |record| record.state == State::Dead).await;
        let reason = record.reason.unwrap();
        assert!(reason.contains("it panicked") && reason.contains(told), "{reason}");
    }
    running.stop().await;
}

#[tokio::test]
async fn an_unknown_task_is_parked_until_a_worker_knows_it() {
    let site = Site::new().await;
    let id = site.push(Message::new("new.thing", ()).unwrap()).await;
    let old =
        Running::start(serving(&site, &["default"]).on("old", quick(0), |_: Delivery| async {}));
    let record = site.until(&id, |record| record.state == State::Parked).await;
    assert!(record.reason.is_some());
    old.stop().await;
    let new = Running::start(serving(&site, &["default"]).on(
        "new.thing",
        quick(0),
        |_: Delivery| async {},
    ));
    site.until(&id, |record| record.state == State::Done).await;
    new.stop().await;
}

#[tokio::test]
async fn a_soft_limit_asks_and_a_hard_limit_stops() {
    let site = Site::new().await;
    let limits = Policy {
        soft_limit: Some(Duration::from_secs(10)),
        hard_limit: Some(Duration::from_secs(20)),
        ..quick(0)
    };
    let worker = serving(&site, &["default"])
        .on("polite", limits, |delivery: Delivery| async move {
            delivery.stopping().await;
            Outcome::Done(json!("stopped when asked"))
        })
        .on("deaf", limits, |_: Delivery| std::future::pending::<()>());
    let running = Running::start(worker);
    let polite = site.push(Message::new("polite", ()).unwrap()).await;
    let record = site.until(&polite, |record| record.state.is_final()).await;
    assert_eq!(record.result, Some(json!("stopped when asked")));
    let deaf = site.push(Message::new("deaf", ()).unwrap()).await;
    let record = site.until(&deaf, |record| record.state.is_final()).await;
    assert_eq!(record.state, State::Dead);
    assert!(record.reason.unwrap().contains("hard limit of 20s"));
    running.stop().await;
}

#[tokio::test]
async fn no_more_tasks_run_at_once_than_allowed_and_heartbeats_keep_long_ones() {
    let site = Site::new().await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let config = WorkerConfig { concurrency: 4, ..WorkerConfig::default() };
    let (inside, peak, opened) = (now.clone(), most.clone(), gate.clone());
    let worker =
        Worker::new(site.queue.clone()).config(config).on("long", quick(0), move |_: Delivery| {
            let (now, most, gate) = (inside.clone(), peak.clone(), opened.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                now.fetch_sub(1, Ordering::SeqCst);
            }
        });
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(site.push(Message::new("long", ()).unwrap()).await);
    }
    let running = Running::start(worker);
    site.until(&ids[3], |record| record.state == State::Running).await;
    // Many leases long: heartbeats must hold them, and nothing more may be leased ahead.
    for _ in 0..60 {
        site.pass(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let counts = site.queue.counts().await.unwrap();
    let count = |state| {
        counts.iter().filter(|count| count.state == state).map(|count| count.tasks).sum::<u64>()
    };
    assert_eq!((count(State::Running), count(State::Queued)), (4, 6));
    gate.add_permits(10);
    for id in &ids {
        let record = site.until(id, |record| record.state.is_final()).await;
        assert_eq!((record.state, record.crashes), (State::Done, 0));
    }
    assert_eq!(most.load(Ordering::SeqCst), 4);
    running.stop().await;
}

#[tokio::test]
async fn a_drain_waits_for_what_runs_and_gives_the_rest_back_at_once() {
    let site = Site::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let config =
        WorkerConfig { concurrency: 2, drain: Duration::from_secs(30), ..WorkerConfig::default() };
    let started = Arc::new(AtomicUsize::new(0));
    let (opened, first, second) = (gate.clone(), started.clone(), started.clone());
    let worker = Worker::new(site.queue.clone())
        .config(config)
        .on("willing", quick(0), move |_: Delivery| {
            first.fetch_add(1, Ordering::SeqCst);
            let gate = opened.clone();
            async move { gate.acquire().await.unwrap().forget() }
        })
        .on("stuck", quick(0), move |_: Delivery| {
            second.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>()
        });
    let willing = site.push(Message::new("willing", ()).unwrap()).await;
    let stuck = site.push(Message::new("stuck", ()).unwrap()).await;
    let waiting = site.push(Message::new("willing", ()).unwrap()).await;
    let running = Running::start(worker);
    site.until(&stuck, |_| started.load(Ordering::SeqCst) == 2).await;
    running.ask_to_stop();
    gate.add_permits(1);
    site.until(&willing, |record| record.state == State::Done).await;
    site.until(&stuck, |record| record.state == State::Queued).await;
    let report = running.stop().await;
    assert_eq!(report.given_back, 1);
    let stuck = site.queue.find(&stuck).await.unwrap();
    assert_eq!((stuck.crashes, stuck.retries), (0, 0), "what is given back has not failed");
    assert_eq!(site.queue.find(&waiting).await.unwrap().state, State::Queued);
}

#[tokio::test]
async fn a_running_task_can_be_cancelled() {
    let site = Site::new().await;
    let worker = serving(&site, &["default"])
        .on("endless", quick(0), |_: Delivery| std::future::pending::<()>());
    let id = site.push(Message::new("endless", ()).unwrap()).await;
    let running = Running::start(worker);
    site.until(&id, |record| record.state == State::Running).await;
    site.queue.cancel(&id).await.unwrap();
    for _ in 0..10 {
        site.pass(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = running.stop().await;
    assert_eq!((report.ran, report.given_back), (1, 0), "its worker let go of it");
    assert_eq!(site.queue.find(&id).await.unwrap().state, State::Cancelled);
    assert!(site.queue.cancel(&id).await.unwrap_err().to_string().contains("is cancelled"));
}

#[tokio::test]
async fn a_worker_takes_only_the_tasks_that_it_was_told_to() {
    let site = Site::new().await;
    let config = WorkerConfig {
        tasks: vec!["mail.*".into()],
        not_tasks: vec!["mail.slow".into()],
        ..WorkerConfig::default()
    };
    let mut worker = Worker::new(site.queue.clone()).config(config);
    for name in ["mail.send", "mail.slow", "image"] {
        worker = worker.on(name, quick(0), |_: Delivery| async {});
    }
    let mut ids = Vec::new();
    for name in ["image", "mail.slow", "mail.send"] {
        ids.push(site.push(Message::new(name, ()).unwrap()).await);
    }
    let running = Running::start(worker);
    site.until(&ids[2], |record| record.state == State::Done).await;
    running.stop().await;
    for id in &ids[..2] {
        assert_eq!(site.queue.find(id).await.unwrap().state, State::Queued);
    }
}

#[tokio::test]
async fn what_expired_does_not_start_and_what_waits_starts_in_time() {
    let site = Site::new().await;
    let now_ms = site.clock.now_ms();
    let late = site.push(Message::new("any", ()).unwrap().expires_at(now_ms + 1_000)).await;
    let soon = site.push(Message::new("any", ()).unwrap().delay(Duration::from_secs(100))).await;
    site.hand.advance(Duration::from_secs(2));
    let running =
        Running::start(serving(&site, &["default"]).on("any", quick(0), |_: Delivery| async {}));
    site.until(&late, |record| record.state == State::Expired).await;
    assert_eq!(site.queue.find(&soon).await.unwrap().state, State::Waiting);
    let record = site.until(&soon, |record| record.state == State::Done).await;
    assert!(record.started_ms.unwrap() >= now_ms + 100_000);
    running.stop().await;
}

#[tokio::test]
async fn what_follows_a_task_runs_after_it_with_its_result() {
    let site = Site::new().await;
    let worker = serving(&site, &["default"])
        .on("add", quick(0), |delivery: Delivery| async move {
            Outcome::of(delivery.arguments::<(i64, i64)>().map(|(left, right)| left + right))
        })
        .on("fail", quick(0), |_: Delivery| async { Outcome::dead("no luck") })
        .on("told", quick(0), |delivery: Delivery| async move {
            Outcome::of(delivery.arguments::<(String,)>().map(|(id,)| id))
        });
    let add = |args: serde_json::Value| Message::new("add", args).unwrap();
    let (callback, last) = (add(json!([100])), add(json!([30])));
    let first = add(json!([1, 2])).on_done(&callback).unwrap();
    let first = first.then(add(json!([20]))).unwrap().then(last.clone()).unwrap();
    let told = Message::new("told", json!([])).unwrap();
    let never = add(json!([1]));
    let failing = Message::new("fail", ()).unwrap();
    let failing = failing.on_failure(&told).unwrap().then(never.clone()).unwrap();
    site.push(first).await;
    let failed = site.push(failing).await;
    let running = Running::start(worker);
    site.until(&failed, |record| record.state == State::Dead).await;
    for (id, result) in
        [(callback.id(), json!(103)), (last.id(), json!(53)), (told.id(), json!(failed.as_str()))]
    {
        site.appears(&id).await;
        let record = site.until(&id, |record| record.state.is_final()).await;
        assert_eq!(record.result, Some(result), "{:?}", record.reason);
    }
    running.stop().await;
    assert!(site.queue.find(&never.id()).await.is_err(), "a chain ends where it fails");
}

#[tokio::test]
async fn heavy_tasks_take_more_places_and_the_heaviest_run_alone() {
    let site = Site::new().await;
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let config = WorkerConfig { concurrency: 4, ..WorkerConfig::default() };
    let mut worker = Worker::new(site.queue.clone()).config(config);
    for (name, weight, counted) in [("small", 1, 1), ("large", 3, 3), ("huge", 9, 4)] {
        let (now, most) = (now.clone(), most.clone());
        let policy = Policy { weight, ..quick(0) };
        worker = worker.on(name, policy, move |_: Delivery| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(
                    now.fetch_add(counted, Ordering::SeqCst) + counted,
                    Ordering::SeqCst,
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
                now.fetch_sub(counted, Ordering::SeqCst);
            }
        });
    }
    let mut ids = Vec::new();
    for name in ["small", "large", "small", "huge", "large", "small", "large", "small", "small"] {
        ids.push(site.push(Message::new(name, ()).unwrap()).await);
    }
    let running = Running::start(worker);
    for id in &ids {
        site.until(id, |record| record.state == State::Done).await;
    }
    running.stop().await;
    assert_eq!(most.load(Ordering::SeqCst), 4, "all places are used, and no more than there are");
}
