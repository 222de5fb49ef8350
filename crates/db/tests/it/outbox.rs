//! The outbox and its relay.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use throng_core::{Clock, Hand, Shutdown};
use throng_db::{
    Config, Db,
    outbox::{self, Delivery, Entry, Relay},
};
use tokio::sync::mpsc;

async fn open() -> (tempfile::TempDir, Db, Hand) {
    let (clock, hand) = Clock::manual(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let config = Config { clock, ..Config::default() };
    let db = Db::sqlite_with(folder.path().join("site.db"), config).await.unwrap();
    let _ = db.migrate(&[outbox::MIGRATIONS]).await.unwrap();
    (folder, db, hand)
}

fn entry(key: &str, payload: i32) -> Entry {
    Entry { kind: "test".to_owned(), key: key.to_owned(), payload: payload.into() }
}

#[tokio::test]
async fn a_commit_wakes_the_relay_without_the_clock() {
    let (_folder, db, _hand) = open().await;
    let (trigger, shutdown) = Shutdown::pair();
    let (out, mut delivered) = mpsc::unbounded_channel();
    let relay = Relay::new(db.clone(), move |delivery: Delivery| {
        let sent = out.send(delivery.entry.payload);
        async move { sent }
    });
    let running = tokio::spawn(relay.run(shutdown));
    for n in 0..20 {
        let tx = db.begin().await.unwrap();
        outbox::push_in(&tx, entry("a", n)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(delivered.recv().await.unwrap(), n);
    }
    trigger.request();
    running.await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_delivered_comes_again_and_holds_back_only_its_key() {
    let (_folder, db, hand) = open().await;
    for (key, n) in [("a", 1), ("b", 2), ("a", 3), ("b", 4)] {
        outbox::push(&db, entry(key, n)).await.unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut relay = Relay::new(db.clone(), {
        let seen = seen.clone();
        move |delivery: Delivery| {
            let fails = delivery.entry.payload == 1 && delivery.failures < 2;
            if !fails {
                seen.lock().unwrap().push(delivery.entry.payload.as_i64().unwrap());
            }
            async move { if fails { Err("the world is not there") } else { Ok(()) } }
        }
    });
    assert_eq!(relay.drain().await.unwrap(), 2);
    assert_eq!(*seen.lock().unwrap(), [2, 4]);
    hand.advance(Duration::from_millis(200));
    assert_eq!(relay.drain().await.unwrap(), 0, "it fails a second time");
    hand.advance(Duration::from_millis(399));
    assert_eq!(relay.drain().await.unwrap(), 0, "it waits twice as long");
    hand.advance(Duration::from_millis(1));
    assert_eq!(relay.drain().await.unwrap(), 2);
    assert_eq!(*seen.lock().unwrap(), [2, 4, 1, 3]);
}

#[tokio::test]
async fn one_relay_works_and_another_takes_over_when_it_dies() {
    let (_folder, db, hand) = open().await;
    let (out, mut delivered) = mpsc::unbounded_channel();
    let first = Relay::new(db.clone(), move |_| std::future::ready(out.send(())));
    let (_trigger, shutdown) = Shutdown::pair();
    let running = tokio::spawn(first.run(shutdown));
    outbox::push(&db, entry("a", 1)).await.unwrap();
    delivered.recv().await.unwrap();
    running.abort(); // dies without giving the lease back
    running.await.unwrap_err();
    outbox::push(&db, entry("a", 2)).await.unwrap();
    let mut second = Relay::new(db.clone(), |_| async { Ok::<(), &str>(()) });
    assert_eq!(second.drain().await.unwrap(), 0, "the first holds the lease");
    hand.advance(Duration::from_secs(11));
    // The first may have died before it deleted what it had delivered: at least once.
    assert!((1..=2).contains(&second.drain().await.unwrap()));
}
