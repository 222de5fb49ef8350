//! What bad input gets, on every kind of engine. (A task that kills its workers: `conformance`.)

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use throng_queue::{Delivery, Error, Message, Policy, State, Task};

use crate::{everywhere::everywhere, site::Running};

#[derive(Deserialize, Serialize)]
struct Greet {
    name: String,
}

impl Task for Greet {
    const NAME: &'static str = "greet";
}

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_task_is_parked_and_runs_once_a_worker_knows_it() {
    for place in everywhere().await {
        let engine = place.queue.engine_name();
        let message = Message::new("strange", ["a"]).unwrap().queue(&place.name);
        let id = place.queue.push(message).await.unwrap();
        let running = Running::start(place.worker());
        let record = place.queue.wait(&id, PATIENCE).await.unwrap();
        assert_eq!(record.state, State::Parked, "{engine}");
        let reason = record.reason.unwrap();
        assert_eq!(reason, "no worker that met it knows a task of this name", "{engine}");
        assert!(running.stop().await.ran == 0, "{engine}: no crash loop");
        let knows = place.worker().on("strange", Policy::default(), |_: Delivery| async {});
        let running = Running::start(knows);
        let mut state = State::Parked;
        for _ in 0..600 {
            state = place.queue.find(&id).await.unwrap().state;
            if state == State::Done {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(state, State::Done, "{engine}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_a_dead_letter_at_once_everywhere() {
    for place in everywhere().await {
        let engine = place.queue.engine_name();
        let message = Message::new("greet", json!({"nmae": "Ada"})).unwrap().queue(&place.name);
        let id = place.queue.push(message).await.unwrap();
        let running = Running::start(place.worker().on_task(|_: Greet, _: Delivery| async {}));
        let record = place.queue.wait(&id, PATIENCE).await.unwrap();
        assert_eq!((record.state, record.retries), (State::Dead, 0), "{engine}");
        let reason = record.reason.unwrap();
        assert!(reason.contains("wrong arguments for task `greet`: "), "{engine}: {reason}");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_at_push_everywhere() {
    for place in everywhere().await {
        let engine = place.queue.engine_name();
        let message = Message::new("greet", ["x".repeat(2 << 20)]).unwrap().queue(&place.name);
        let id = message.id();
        let refused = place.queue.push(message).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { .. }), "{engine}: {refused}");
        assert!(place.queue.find(&id).await.is_err(), "{engine}: nothing was kept");
    }
}
