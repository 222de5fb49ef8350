//! Tasks, from a page to their end.

use std::{collections::BTreeMap, time::Duration};

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use throng::{
    Counter, Ctx, Error, Receiver, Result, Task,
    queue::{Filter, Signal, State},
    testing,
};

use crate::site::{Note, app};

#[tokio::test]
async fn what_a_page_pushes_runs_when_the_test_says_so() {
    let site = testing::boot(app()).await;
    let mut heard = site.ctx().bus.subscribe("notes").await.unwrap();
    site.post("/later", &()).await;
    assert!(heard.next().now_or_never().is_none());
    assert_eq!(site.run_tasks().await, 1);
    assert_eq!(heard.next().await.unwrap(), "\"later\"");
    assert_eq!(site.run_tasks().await, 0);
    site.finish().await;
}

#[tokio::test]
async fn a_transaction_takes_its_tasks_and_messages_with_it() {
    let site = testing::boot(app()).await;
    let cx = site.ctx();
    let mut heard = cx.bus.subscribe("show.7").await.unwrap();
    for is_kept in [false, true] {
        let tx = cx.db.begin().await.unwrap();
        cx.queue.push_in(&tx, Note { text: "sold".to_owned() }).await.unwrap();
        cx.bus.publish_in(&tx, "show.7", &12).await.unwrap();
        if is_kept {
            tx.commit().await.unwrap();
        } else {
            drop(tx);
        }
        assert_eq!(site.run_tasks().await, u64::from(is_kept));
        assert_eq!(heard.next().now_or_never().is_some(), is_kept);
    }
    site.finish().await;
}

#[tokio::test]
async fn a_refusal_is_final_and_a_defect_is_tried_again() {
    let site = testing::boot(app()).await;
    let cx = site.ctx();
    let refused = cx.queue.push(Note { text: "refuse".to_owned() }).await.unwrap();
    let broken = cx.queue.push(Note { text: "break".to_owned() }).await.unwrap();
    assert_eq!(site.run_tasks().await, 2);
    let record = cx.queue.find(&refused).await.unwrap();
    assert_eq!((record.state, record.reason.as_deref()), (State::Dead, Some("no such note")));
    let record = cx.queue.find(&broken).await.unwrap();
    assert_eq!((record.state, record.reason.as_deref()), (State::Waiting, Some("out of ink")));

    assert_eq!(site.run_until_idle().await, 8, "as often as the policy says");
    assert_eq!(cx.queue.find(&broken).await.unwrap().state, State::Dead);
    let left = std::panic::AssertUnwindSafe(site.finish()).catch_unwind().await;
    assert!(left.is_err(), "dead letters are left behind");
}

/// Looks at its own run.
#[derive(Serialize, Deserialize)]
struct Look;

impl Task for Look {
    const NAME: &'static str = "look";

    async fn run(self, cx: Ctx) -> Result {
        let run = cx.delivery().unwrap();
        cx.answer((run.id(), run.retries()))?;
        if run.retries() == 0 {
            run.note("half of it").await?;
            let so_far = cx.queue.progress(&run.id()).await?;
            return Err(Error::internal(format!("after {}", so_far.unwrap_or_default())));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_task_knows_its_run_and_says_what_it_returns() {
    let site = testing::boot(app().task::<Look>()).await;
    let cx = site.ctx();
    assert!(cx.delivery().is_none(), "only a task has one");
    assert!(cx.answer(7).is_err());
    let id = cx.queue.push(Look).await.unwrap();
    assert_eq!(site.run_tasks().await, 1);
    let record = cx.queue.find(&id).await.unwrap();
    assert_eq!((record.reason.as_deref(), record.result), (Some("after \"half of it\""), None));
    assert_eq!(site.run_until_idle().await, 1);
    let record = cx.queue.find(&id).await.unwrap();
    assert_eq!((record.state, record.result), (State::Done, Some(json!([id, 1]))));
    site.finish().await;
}

#[tokio::test]
async fn a_delayed_task_waits_for_its_time() {
    let site = testing::boot(app()).await;
    let cx = site.ctx();
    let note = Note { text: "later".to_owned() };
    cx.queue.push_after(Duration::from_secs(60), note).await.unwrap();
    assert_eq!(site.run_tasks().await, 0);
    site.advance(Duration::from_secs(61));
    assert_eq!(site.run_tasks().await, 1);
    let done = Filter { state: Some(State::Done), ..Filter::default() };
    assert_eq!(cx.queue.list(&done).await.unwrap().len(), 1);
    site.finish().await;
}

/// Says on the bus what it hears.
struct Echo;

impl Receiver for Echo {
    const NAME: &'static str = "echo";
    const TABLE: &'static str = "note";

    async fn hear(cx: Ctx, signal: Signal) -> Result {
        cx.bus.publish("notes", &format!("{} {:?}", signal.id, signal.columns)).await?;
        Ok(())
    }
}

#[tokio::test]
async fn receivers_hear_of_a_change_if_it_was_committed() {
    let site = testing::boot(app().receiver::<Echo>()).await;
    let cx = site.ctx();
    let mut heard = cx.bus.subscribe("notes").await.unwrap();
    for (id, is_kept) in [(6, false), (7, true)] {
        let tx = cx.db.begin().await.unwrap();
        let signal = Signal::saved("note", id).columns(["text"]);
        cx.queue.signal_in(&tx, signal).await.unwrap();
        cx.queue.signal_in(&tx, Signal::deleted("other", id)).await.unwrap();
        if is_kept { tx.commit().await.unwrap() } else { drop(tx) }
    }
    site.run_tasks().await;
    assert_eq!(heard.next().await.unwrap(), "\"7 [\\\"text\\\"]\"");
    assert!(heard.next().now_or_never().is_none(), "neither rolled back nor of another table");
    site.finish().await;
}

struct Claps;

impl Counter for Claps {
    const NAME: &'static str = "claps";
    const QUEUE: &'static str = "counts";

    async fn write(cx: Ctx, counts: BTreeMap<String, i64>) -> Result {
        cx.bus.publish("notes", &counts).await?;
        Ok(())
    }
}

#[tokio::test]
async fn what_was_counted_is_written_together_and_an_unknown_counter_is_a_defect() {
    let site = testing::boot(app().counter::<Claps>()).await;
    let cx = site.ctx();
    let mut heard = cx.bus.subscribe("notes").await.unwrap();
    for _ in 0..1_000 {
        cx.count::<Claps>(7, 2).unwrap();
        cx.count::<Claps>("eight", 1).unwrap();
    }
    assert_eq!(site.run_tasks().await, 1);
    assert_eq!(heard.next().await.unwrap(), r#"{"7":2000,"eight":1000}"#);
    cx.count::<Claps>(7, 1).unwrap();
    site.finish().await; // sends it first, as a process that is stopped does

    let site = testing::boot(app()).await;
    let error = site.ctx().count::<Claps>(7, 1).unwrap_err().to_string();
    assert!(error.contains("no counter `claps`"), "{error}");
    site.finish().await;
}
