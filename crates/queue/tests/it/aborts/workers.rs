//! Workers that leave without a word, and what they leave behind.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use throng_core::Shutdown;
use throng_queue::{
    Backoff, Counters, Delivery, Filter, Message, Policy, Queue, Schedule, State, TaskId, Worker,
    WorkerConfig,
};

use super::{LEASE, PATIENCE, Running, dice::polled};
use crate::{crash::wait_for, everywhere::everywhere, site::Site};

/// A worker is aborted in a process that lives on and has no other; another process has what it
/// held.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dropped_worker_held_runs_in_another_process() {
    for place in everywhere().await {
        let other = place.again().await;
        let config = |queue: &Queue| {
            let queues = vec![place.name.clone()];
            let config = WorkerConfig { queues, lease: LEASE, ..WorkerConfig::default() };
            Worker::new(queue.clone()).config(config)
        };
        let begun = Arc::new(AtomicU32::new(0));
        let counted = begun.clone();
        let hangs = config(&place.queue).on("work", Policy::default(), move |_: Delivery| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>()
        });
        let first = Running::start(hangs);
        let mut ids = Vec::new();
        for at in 0..60 {
            let message = Message::new("work", ()).unwrap().queue(&place.name);
            let message = if at % 2 == 0 { message.ignore_result() } else { message };
            ids.push(place.queue.push(message).await.unwrap());
        }
        wait_for(async || begun.load(Ordering::SeqCst) == 16).await;
        drop(first);
        let done: Arc<std::sync::Mutex<Vec<TaskId>>> = Arc::default();
        let noted = done.clone();
        let works = config(&other).on("work", Policy::default(), move |task: Delivery| {
            noted.lock().unwrap().push(task.id());
            async {}
        });
        let second = Running::start(works);
        let kind = other.engine_name();
        wait_for(async || ids.iter().all(|id| done.lock().unwrap().contains(id))).await;
        println!("{kind}: all ran elsewhere");
        second.stop().await;
    }
}

/// A drain that is over while such a task runs gives back the others, and this one to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_at_most_once_is_not_given_back_when_its_worker_leaves() {
    for place in everywhere().await {
        let begun = Arc::new(AtomicU32::new(0));
        let worker = || {
            let begun = begun.clone();
            let queues = vec![place.name.clone()];
            let drain = Duration::from_millis(10);
            let config = WorkerConfig { queues, drain, lease: LEASE, ..WorkerConfig::default() };
            let worker = Worker::new(place.queue.clone()).config(config);
            worker.on("work", Policy::default(), move |_: Delivery| {
                begun.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>()
            })
        };
        let first = Running::start(worker());
        let message = Message::new("work", ()).unwrap().queue(&place.name).at_most_once();
        let id = place.queue.push(message).await.unwrap();
        wait_for(async || begun.load(Ordering::SeqCst) == 1).await;
        first.stop().await;
        let second = Running::start(worker());
        let record = place.queue.wait(&id, PATIENCE).await.unwrap();
        let kind = place.queue.engine_name();
        assert_eq!(record.state, State::Dead, "{kind}: {record:?}");
        assert!(record.reason.unwrap().contains("at most once"), "{kind}");
        assert_eq!(begun.load(Ordering::SeqCst), 1, "{kind}");
        second.stop().await;
    }
}

/// What a worker has beside it (schedules, Celery's remote control) ends with it, also when nobody
/// asks it to stop.
#[tokio::test]
async fn workers_that_are_dropped_leave_nothing_that_runs() {
    let mut places = everywhere().await;
    // Its client has tasks of its own, which come and go.
    places.retain(|place| place.queue.engine_name() != "rabbitmq");
    for place in places {
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let mut triggers = Vec::new();
        let mut round = async || {
            let message = || Message::new("work", ()).unwrap();
            let hourly = Schedule::every("hourly", Duration::from_secs(3600), message).unwrap();
            let worker = place.worker().on("work", Policy::default(), |_: Delivery| async {});
            let (stop, shutdown) = Shutdown::pair();
            let running = tokio::spawn(worker.schedule(hourly).run(shutdown));
            triggers.push(stop);
            let id = place.queue.push(message().queue(&place.name)).await.unwrap();
            let record = place.queue.wait(&id, PATIENCE).await.unwrap();
            assert_eq!(record.state, State::Done);
            running.abort();
            assert!(running.await.unwrap_err().is_cancelled());
        };
        // The first has the engine begin what it keeps.
        round().await;
        let before = alive();
        for _ in 0..4 {
            round().await;
        }
        wait_for(async || alive() <= before).await;
    }
}

/// What panics while it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a handler's value panics when it goes");
    }
}

#[tokio::test]
async fn a_run_that_panics_while_it_is_stopped_gives_its_place_back() {
    let site = Site::new().await;
    let limit = Duration::from_millis(50);
    let policy = Policy {
        hard_limit: Some(limit),
        max_retries: 1,
        backoff: Backoff { base: Duration::from_millis(1), ..Backoff::default() },
        ..Policy::default()
    };
    let config = WorkerConfig { concurrency: 1, ..WorkerConfig::default() };
    let worker = Worker::new(site.queue.clone()).config(config);
    let worker = worker.on("bomb", policy, |_: Delivery| async {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    });
    let running = Running::start(worker.on("work", Policy::default(), |_: Delivery| async {}));
    let id = site.push(Message::new("bomb", ()).unwrap()).await;
    let record = site.until(&id, |record| record.state.is_final()).await;
    assert_eq!(record.state, State::Dead);
    assert!(record.reason.unwrap().contains("panicked"), "it says why");
    let id = site.push(Message::new("work", ()).unwrap()).await;
    site.until(&id, |record| record.state == State::Done).await;
    running.stop().await;
}

#[tokio::test]
async fn a_worker_whose_engine_is_gone_can_be_stopped() {
    let site = Site::new().await;
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let worker = Worker::new(site.queue.clone());
    let running = Running::start(worker.on("work", Policy::default(), move |_: Delivery| {
        begin.send(()).unwrap();
        std::future::pending::<()>()
    }));
    site.push(Message::new("work", ()).unwrap()).await;
    begun.recv().await.unwrap();
    site.db.clone().close().await;
    running.stop.request();
    let stopped = async {
        while !running.worker.is_finished() {
            site.hand.advance(Duration::from_millis(500));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.unwrap();
}

#[tokio::test]
async fn counts_that_are_on_their_way_arrive_without_whoever_sends_them() {
    let place = everywhere().await.swap_remove(0);
    let counters = Counters::new(place.queue.clone(), "views", &place.name);
    for at in 0..50_i64 {
        counters.note(format!("key-{at}"), at);
        drop(polled(Box::pin(counters.settle()), 1 + at as u64 % 5).await);
    }
    let filter = Filter { queue: Some(place.name.clone()), limit: 100, ..Filter::default() };
    wait_for(async || {
        let tasks = place.queue.list(&filter).await.unwrap();
        let counts = tasks.iter().map(|task| task.message.read_body().unwrap().kwargs.len());
        counts.sum::<usize>() == 50
    })
    .await;
}

#[tokio::test]
async fn somebody_who_waits_and_leaves_is_not_missed() {
    for place in everywhere().await {
        let message = Message::new("work", ()).unwrap().queue(&place.name);
        let id = place.queue.push(message).await.unwrap();
        for polls in 1..20 {
            drop(polled(Box::pin(place.queue.wait(&id, PATIENCE)), polls).await);
        }
        let worker = place.worker().on("work", Policy::default(), |_: Delivery| async {});
        let running = Running::start(worker);
        assert_eq!(place.queue.wait(&id, PATIENCE).await.unwrap().state, State::Done);
        running.stop().await;
    }
}
