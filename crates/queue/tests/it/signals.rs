//! Delayed signals, on every kind of engine.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use throng_queue::{Backoff, Change, Delivery, Outcome, Policy, Signal};

use crate::{everywhere::everywhere, site::Running};

#[tokio::test(flavor = "multi_thread")]
async fn every_receiver_hears_of_a_change_and_retries_alone() {
    for place in everywhere().await {
        let engine = place.queue.engine_name();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let note = |receiver: &'static str, failures: u32| {
            let heard = heard.clone();
            move |signal: Signal, delivery: Delivery| {
                let heard = heard.clone();
                async move {
                    let tried = delivery.retries();
                    let line =
                        format!("{receiver} {} {} {tried}", signal.id, signal.columns.join("+"));
                    heard.lock().unwrap().push(line);
                    match tried < failures {
                        true => Outcome::retry("not yet"),
                        false => Outcome::done(),
                    }
                }
            }
        };
        let quick =
            Policy { backoff: Backoff::fixed(Duration::from_millis(50)), ..Policy::default() };
        let worker = place
            .worker()
            .on_signal("search", "event", quick, note("search", 2))
            .on_signal("cache", "event", quick, note("cache", 0))
            .on_signal("mail", "person", quick, note("mail", 0));
        let signal = Signal::saved("event", 7).columns(["title", "city"]);
        assert!(signal.touches("city") && !signal.touches("country"));
        assert_eq!(signal.change, Change::Saved);
        let message = signal.message().unwrap().queue(&place.name);
        let again = message.clone();
        place.queue.push(message).await.unwrap();
        let running = Running::start(worker);
        let wanted = [
            "cache 7 title+city 0",
            "search 7 title+city 0",
            "search 7 title+city 1",
            "search 7 title+city 2",
        ];
        let mut sorted = Vec::new();
        for _ in 0..600 {
            sorted = heard.lock().unwrap().clone();
            sorted.sort();
            if sorted.len() >= wanted.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(sorted, wanted, "{engine}");
        // The same signal again, as after a crash, tells nobody twice.
        place.queue.push(again).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(heard.lock().unwrap().len(), wanted.len(), "{engine}");
        running.stop().await;
    }
}
