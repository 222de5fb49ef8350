//! Celery's remote control and Flower, asking our workers.

use std::{net::TcpListener, time::Duration};

use serde_json::json;
use throng_queue::{Delivery, Message, Policy, TaskId, Worker, WorkerConfig};

use crate::{
    celery::{CELERY, Peer},
    site::Running,
};

fn named(peer: &Peer) -> (String, Worker) {
    let name = format!("throng@{}", &TaskId::random().as_str()[..8]);
    let config = WorkerConfig {
        name: name.clone(),
        queues: vec![peer.name.clone()],
        concurrency: 7,
        ..WorkerConfig::default()
    };
    let worker = peer.worker().config(config);
    let worker = worker.on("sleep", Policy::default(), |task: Delivery| async move {
        tokio::time::sleep(Duration::from_secs(600)).await;
        drop(task);
    });
    (name, worker)
}

/// The worker has stopped by itself.
async fn stopped(running: Running) {
    for _ in 0..600 {
        if running.is_over() {
            running.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the worker goes on");
}

async fn check_control(peer: Peer) {
    let (name, worker) = named(&peer);
    let push = |message: Message| peer.queue.push(message.queue(&peer.name));
    let running = push(Message::new("sleep", ["long"]).unwrap()).await.unwrap();
    let late = Message::new("math.add", [1, 1]).unwrap().delay(Duration::from_secs(3600));
    let late = push(late).await.unwrap();
    let worker = Running::start(worker);
    let said = peer.run(&["control", &name, running.as_str(), late.as_str()]).await;
    let wanted = [
        "True",
        "7 {}",
        "['sleep'] True ['long']",
        "True",
        "[True] 20",
        "[True]",
        "[]",
        "active",
        "{'ok': 'time limits set successfully'}",
        "{'error': 'unknown task'}",
        "{'ok': 'new rate limit set successfully'}",
        "['when [rate_limit=30/m]']",
        "True",
        "{'ok': 'rate limit disabled successfully'} {'error': 'unknown task'} True",
        "True",
        "True",
        "True",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    stopped(worker).await;
    let record = peer.queue.find(&running).await.unwrap();
    assert_eq!(record.reason.as_deref(), Some("revoked"));
    assert_eq!(json!(record.state), "cancelled");
}

async fn check_flower(peer: Peer) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (name, worker) = named(&peer);
    let worker = Running::start(worker);
    let said = peer.run(&["flower", &name, &port.to_string()]).await;
    let wanted = [
        "throng True",
        "math.add SUCCESS 5 True",
        "Exception(\"no luck (gave up after 1 tries)\")",
        "Shutting down!",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    stopped(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn celery_inspects_and_controls_our_worker_on_redis() {
    for celery in CELERY {
        let Some(peer) = Peer::on_redis(celery).await else { continue };
        check_control(peer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flower_shows_and_stops_our_worker_on_redis() {
    let Some(peer) = Peer::on_redis(CELERY[0]).await else { return };
    check_flower(peer).await;
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn celery_inspects_and_controls_our_worker_on_rabbitmq() {
    for celery in CELERY {
        let Some(peer) = Peer::on_rabbitmq(celery).await else { continue };
        check_control(peer).await;
    }
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn flower_shows_and_stops_our_worker_on_rabbitmq() {
    let Some(peer) = Peer::on_rabbitmq(CELERY[0]).await else { return };
    check_flower(peer).await;
}
