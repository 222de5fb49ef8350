//! What follows a task also follows when nobody lives to say how it ended.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use throng_core::Clock;
use throng_queue::{
    Delivery, Message, Policy, Queue, State, TaskId, Worker, WorkerConfig, engine::redis::Redis,
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
    for _ in 0..1200 {
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
    let Some(url) = crate::redis::url() else { return };
    let url = throng_core::EngineUrl::parse(&url).unwrap();
    let clock = Clock::system();
    let engine = Redis::open(&url, clock.clone()).await.unwrap();
    let queue = Queue::with_engine(engine, clock.clone());
    let place = Place::of(queue, tempfile::tempdir().unwrap());
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
    let running = Running::start(worker(&place, &told, &Arc::default()));
    for body in [&expired, &cancelled, &dead] {
        until_told(&told, body, "redis").await;
        assert!(place.queue.find(body).await.is_err(), "the body does not run");
    }
    running.stop().await;
    assert_eq!(told.lock().unwrap().len(), 3);
}
