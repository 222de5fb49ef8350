//! What follows a task also follows when nobody lives to say how it ended.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use throng_core::Clock;
use throng_queue::{
    Delivery, Message, Outcome, Policy, Record, State, TaskId, Worker, WorkerConfig,
};
use tokio::sync::Notify;

use crate::{
    everywhere::{Place, everywhere},
    site::Running,
};

/// Whose failure was told, in the order in which it was.
type Told = Arc<Mutex<Vec<String>>>;

fn worker(place: &Place, told: &Told, started: &Arc<Notify>) -> Worker {
    let (told, started) = (told.clone(), started.clone());
    let queues = vec![place.name.clone()];
    let config = WorkerConfig { queues, lease: Duration::from_secs(2), ..WorkerConfig::default() };
    Worker::new(place.queue.clone())
        .config(config)
        .on("fine", Policy::default(), |_: Delivery| async {})
        .on("body", Policy::default(), |_: Delivery| async {})
        .on("dies", Policy::default(), move |_: Delivery| {
            let started = started.clone();
            async move {
                started.notify_one();
                std::future::pending::<()>().await;
            }
        })
        .on("told", Policy::default(), move |delivery: Delivery| {
            let id = delivery.arguments::<(String,)>().unwrap().0;
            told.lock().unwrap().push(id);
            async {}
        })
}

async fn until_told(told: &Told, id: &TaskId, engine: &str) {
    for _ in 0..PATIENCE {
        if told.lock().unwrap().iter().any(|told| told == id.as_str()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{engine}: nobody is told that {id} failed");
}

impl Place {
    fn message(&self, name: &str) -> Message {
        Message::new(name, ()).unwrap().queue(&self.name)
    }

    async fn until_final(&self, id: &TaskId) -> Record {
        for _ in 0..PATIENCE {
            if let Ok(record) = self.queue.find(id).await
                && record.state.is_final()
            {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{}: {id} does not run", self.queue.engine_name());
    }

    /// Runs the task `dies` with a worker that dies of it.
    async fn kill(&self, told: &Told) {
        let started = Arc::new(Notify::new());
        let running = Running::start(worker(self, told, &started));
        started.notified().await;
        running.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_errbacks_of_a_task_that_died_with_its_worker_run_on_every_engine() {
    for place in everywhere().await {
        let told = Told::default();
        let dies = place.message("dies").at_most_once();
        let dies = dies.on_failure(&place.message("told")).unwrap();
        let id = place.queue.push(dies).await.unwrap();
        place.kill(&told).await;
        let running = Running::start(worker(&place, &told, &Arc::default()));
        until_told(&told, &id, place.queue.engine_name()).await;
        running.stop().await;
        assert_eq!(place.queue.find(&id).await.unwrap().state, State::Dead);
        assert_eq!(told.lock().unwrap().len(), 1, "{}", place.queue.engine_name());
    }
}

/// One part is fine, the other never ends by itself: the body does not run, and its errback does.
#[tokio::test(flavor = "multi_thread")]
async fn a_chord_fails_when_a_part_expires_or_is_cancelled_or_dies_with_its_worker() {
    for place in everywhere().await {
        let engine = place.queue.engine_name();
        fail_three_ways(&place, engine).await;
    }
}

async fn fail_three_ways(place: &Place, engine: &str) {
    let clock = Clock::system();
    let told = Told::default();
    let chord = async |part: Message| {
        let body = place.message("body").on_failure(&place.message("told")).unwrap();
        place.queue.push_chord(vec![place.message("fine"), part], body).await.unwrap()
    };
    let expired = chord(place.message("fine").expires_at(clock.now_ms() - 1000)).await;
    let waiting = place.message("fine").delay(Duration::from_secs(3600));
    let cancelled_part = waiting.id();
    let cancelled = chord(waiting).await;
    place.queue.cancel(&cancelled_part).await.unwrap();
    let dead = chord(place.message("dies").at_most_once()).await;
    place.kill(&told).await;
    let running = Running::start(worker(place, &told, &Arc::default()));
    for body in [&expired, &cancelled, &dead] {
        until_told(&told, body, engine).await;
        assert!(place.queue.find(body).await.is_err(), "{engine}: the body does not run");
    }
    running.stop().await;
    assert_eq!(told.lock().unwrap().len(), 3, "{engine}");
}

fn adder(place: &Place, told: &Told) -> Worker {
    let told = told.clone();
    place
        .worker()
        .on("add", Policy::default(), |delivery: Delivery| async move {
            let sum: i64 = delivery.arguments::<Vec<i64>>().unwrap().iter().sum();
            Outcome::Done(json!(sum))
        })
        .on("repeat", Policy::default(), |delivery: Delivery| async move {
            Outcome::Done(json!("x".repeat(delivery.arguments::<(usize,)>().unwrap().0)))
        })
        .on("fail", Policy::default(), |_: Delivery| async { Outcome::dead("no luck") })
        .on("list", Policy::default(), |delivery: Delivery| async move {
            Outcome::Done(delivery.arguments::<(Value,)>().unwrap().0)
        })
        .on("told", Policy::default(), move |delivery: Delivery| {
            told.lock().unwrap().push(delivery.arguments::<(String,)>().unwrap().0);
            async {}
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_chord_has_the_results_of_its_parts_in_order_on_every_engine() {
    for place in everywhere().await {
        let engine = place.queue.engine_name();
        let add = |args: Value| Message::new("add", args).unwrap().queue(&place.name);
        let many = (0..30).map(|n| add(json!([n, 1]))).collect();
        let chained = add(json!([1, 2])).then(add(json!([10]))).unwrap().then(add(json!([100])));
        let with_chain = vec![add(json!([7])), chained.unwrap(), add(json!([8])).ignore_result()];
        let running = Running::start(adder(&place, &Told::default()));
        for (parts, results) in [
            (many, json!((1..31).collect::<Vec<i64>>())),
            (with_chain, json!([7, 113, 8])),
            (vec![add(json!([5]))], json!([5])),
            (vec![], json!([])),
        ] {
            let body = place.queue.push_chord(parts, place.message("list")).await.unwrap();
            let record = place.until_final(&body).await;
            assert_eq!(record.result, Some(results), "{engine}: {:?}", record.reason);
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_errback_of_a_chord_runs_when_a_part_fails_or_the_results_are_too_large() {
    for place in everywhere().await {
        let engine = place.queue.engine_name();
        let told = Told::default();
        let part = |name: &str, args: Value| Message::new(name, args).unwrap().queue(&place.name);
        let chained = part("fail", json!([])).then(part("add", json!([1]))).unwrap();
        let running = Running::start(adder(&place, &told));
        for parts in [
            vec![part("add", json!([1])), part("fail", json!([])), part("add", json!([2]))],
            vec![part("add", json!([1])), chained],
            vec![part("repeat", json!([600_000])), part("repeat", json!([600_000]))],
        ] {
            let body = place.message("list").on_failure(&place.message("told")).unwrap();
            let body = place.queue.push_chord(parts, body).await.unwrap();
            until_told(&told, &body, engine).await;
            assert!(place.queue.find(&body).await.is_err(), "{engine}: the body does not run");
        }
        running.stop().await;
        assert_eq!(told.lock().unwrap().len(), 3, "{engine}");
    }
}

/// Looks, 50 ms apart.
const PATIENCE: usize = 1200;
