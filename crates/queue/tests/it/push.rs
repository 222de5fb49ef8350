//! Pushing: with the data or not at all, and what is refused.

use sea_orm::ConnectionTrait;
use serde_json::json;
#[cfg(feature = "redis")]
use throng_queue::MIGRATIONS;
use throng_queue::{Delivery, Error, Filter, Message, Policy, State, TaskId, Worker};

use crate::site::{Running, Site};

#[tokio::test]
async fn a_task_pushed_in_a_transaction_lives_and_dies_with_it() {
    let site = Site::new().await;
    let mut ids = Vec::new();
    for commits in [true, false] {
        let tx = site.db.begin().await.unwrap();
        tx.execute_unprepared("INSERT INTO note VALUES ('sold')").await.unwrap();
        ids.push(site.queue.push_in(&tx, Message::new("mail", ()).unwrap()).await.unwrap());
        if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
    }
    assert_eq!(site.queue.find(&ids[0]).await.unwrap().state, State::Queued);
    let gone = site.queue.find(&ids[1]).await.unwrap_err();
    assert!(matches!(gone, Error::Unknown(_)), "{gone}");
    assert_eq!(site.queue.list(&Filter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_push_in_a_transaction_wakes_an_idle_worker_after_the_commit() {
    let site = Site::new().await;
    let worker =
        Worker::new(site.queue.clone()).on("mail", Policy::default(), |_: Delivery| async {});
    let running = Running::start(worker);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    // The clock stands still from here on, so that no poll can find the task.
    let tx = site.db.begin().await.unwrap();
    let id = site.queue.push_in(&tx, Message::new("mail", ()).unwrap()).await.unwrap();
    tx.commit().await.unwrap();
    let mut state = State::Queued;
    for _ in 0..2000 {
        state = site.queue.find(&id).await.unwrap().state;
        if state == State::Done {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(state, State::Done);
    running.stop().await;
}

#[tokio::test]
async fn what_no_engine_could_keep_is_refused_at_push() {
    let site = Site::new().await;
    let queue = site.queue.clone().max_bytes(100);
    let refused = |message: Message| async { queue.push(message).await.unwrap_err().to_string() };
    let big = refused(Message::new("big", "x".repeat(200)).unwrap()).await;
    assert!(big.contains("over the limit of 100"), "{big}");
    let nameless = refused(Message::new("", ()).unwrap()).await;
    assert!(nameless.contains("a task's name must have 1 to 191 characters, not 0"), "{nameless}");
    let long = refused(Message::new("t", ()).unwrap().queue("q".repeat(192))).await;
    assert!(long.contains("a queue's name"), "{long}");
    let id = refused(Message::new("t", ()).unwrap().with_id(TaskId::from(""))).await;
    assert!(id.contains("a task's id"), "{id}");
    assert!(queue.list(&Filter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_url_that_is_wrong_says_what_would_be_right() {
    let site = Site::new().await;
    let open =
        |url: &'static str| throng_queue::Queue::open(url, site.db.clone(), site.clock.clone());
    assert_eq!(open("database:").await.unwrap().engine_name(), "database");
    let scheme = open("kafka://host").await.unwrap_err().to_string();
    assert!(scheme.contains("kafka") && scheme.contains("database"), "{scheme}");
    let option = open("database:?sped=1").await.unwrap_err().to_string();
    assert!(option.contains("sped") && option.contains("keep_s"), "{option}");
}

#[tokio::test]
async fn pushed_again_under_one_id_is_pushed_once() {
    let site = Site::new().await;
    let message = Message::new("once", json!([1])).unwrap();
    let first = site.push(message.clone()).await;
    assert_eq!(site.push(message).await, first);
    assert_eq!(site.queue.list(&Filter::default()).await.unwrap().len(), 1);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_task_for_redis_leaves_with_the_transaction_through_the_outbox() {
    use throng_core::{Clock, Shutdown};
    use throng_db::outbox::{self, Relay};
    use throng_queue::{OUTBOX_KIND, Queue};

    let Some(url) = crate::redis::url() else { return };
    let site = Site::new().await;
    let _ = site.db.migrate(&[MIGRATIONS, outbox::MIGRATIONS]).await.unwrap();
    let engine = crate::redis::open(&url, &site.clock).await;
    let queue = Queue::with_engine(engine, Clock::system());
    let mut ids = Vec::new();
    for commits in [true, false] {
        let tx = site.db.begin().await.unwrap();
        ids.push(queue.push_in(&tx, Message::new("mail", ()).unwrap()).await.unwrap());
        if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
    }
    assert!(queue.find(&ids[0]).await.is_err(), "before the relay it is not there yet");
    let (trigger, shutdown) = Shutdown::pair();
    let door = queue.clone();
    let relay = Relay::new(site.db.clone(), move |delivery| {
        let door = door.clone();
        async move {
            assert_eq!(delivery.entry.kind, OUTBOX_KIND);
            door.deliver(&delivery.entry.payload).await.map(drop)
        }
    });
    let running = tokio::spawn(relay.run(shutdown));
    while queue.find(&ids[0]).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    trigger.request();
    running.await.unwrap();
    assert_eq!(queue.find(&ids[0]).await.unwrap().state, State::Queued);
    assert!(queue.find(&ids[1]).await.is_err());
}
