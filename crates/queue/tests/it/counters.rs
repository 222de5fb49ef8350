//! Buffered counters, on every kind of engine.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use throng_queue::{Counters, Filter, Policy};

use crate::{everywhere::everywhere, site::Running};

type Sums = Arc<Mutex<(u32, BTreeMap<String, i64>)>>;

#[tokio::test(flavor = "multi_thread")]
async fn many_increments_become_few_writes_and_none_is_lost() {
    for place in everywhere().await {
        let engine = place.queue.engine_name();
        let sums = Sums::default();
        let written = sums.clone();
        let worker = place.worker().on_counts("views", Policy::default(), move |counts| {
            let mut sums = written.lock().unwrap();
            sums.0 += 1;
            for (key, by) in counts {
                *sums.1.entry(key).or_default() += by;
            }
            async {}
        });
        let counters = Counters::new(place.queue.clone(), "views", &place.name);
        let adds = (0..2000).map(|at| counters.add(format!("event:{}", at % 5), 1));
        for added in join_all(adds).await {
            added.unwrap();
        }
        // Acknowledged, so that it is there although nobody has counted yet.
        let running = Running::start(worker);
        for _ in 0..600 {
            if sums.lock().unwrap().1.values().sum::<i64>() >= 2000 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        running.stop().await;
        let (writes, sums) = sums.lock().unwrap().clone();
        let wanted: BTreeMap<String, i64> = (0..5).map(|at| (format!("event:{at}"), 400)).collect();
        assert_eq!(sums, wanted, "{engine}");
        assert!(writes <= 100, "{engine}: {writes} writes of 2,000 increments");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_leaves_as_one_task_a_second_or_when_it_is_settled() {
    let site = crate::site::Site::new().await;
    let counters = Counters::new(site.queue.clone(), "views", "counts");
    let filter = Filter { name: Some("views".into()), ..Filter::default() };
    for at in 0..5000 {
        counters.note(format!("event:{}", at % 2500), 1);
    }
    assert!(site.queue.list(&filter).await.unwrap().is_empty(), "noting writes nothing");
    for _ in 0..600 {
        site.hand.advance(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(1)).await;
        if site.queue.list(&filter).await.unwrap().len() == 3 {
            break;
        }
    }
    counters.note("event:7", 3);
    counters.settle().await.unwrap();
    counters.settle().await.unwrap();
    let kept = site.queue.list(&filter).await.unwrap();
    let sizes = kept.iter().map(|task| task.message.arguments::<BTreeMap<String, i64>>().unwrap());
    let sizes: Vec<_> = sizes.map(|counts| (counts.len(), counts.values().sum::<i64>())).collect();
    assert_eq!(sizes, [(1, 3), (500, 1000), (1000, 2000), (1000, 2000)], "a thousand keys a task");
    // What cannot be sent is kept, and an error says so.
    site.db.close().await;
    counters.note("event:7", 1);
    assert!(counters.settle().await.is_err());
    assert!(counters.settle().await.is_err(), "it is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_a_task_of_the_queue_and_what_was_not_is_an_error() {
    let site = crate::site::Site::new().await;
    let counters = Counters::new(site.queue.clone(), "views", "counts");
    counters.add("event:1", 3).await.unwrap();
    let filter = Filter { name: Some("views".into()), ..Filter::default() };
    let kept = site.queue.list(&filter).await.unwrap();
    let counts: BTreeMap<String, i64> = kept[0].message.arguments().unwrap();
    assert_eq!(counts["event:1"], 3, "whoever is killed now loses nothing");
    site.db.close().await;
    assert!(counters.add("event:1", 1).await.is_err(), "not durable, not acknowledged");
}
