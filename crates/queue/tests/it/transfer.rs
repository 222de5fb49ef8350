//! Tasks that move between engines.

use std::time::Duration;

use throng_queue::{
    Message, Queue, State, TaskId,
    engine::{Claim, Claimed, Ended, Engine, Verdict, database::Database},
};

use crate::site::Site;

fn claim(queues: &[String], limit: usize) -> Claim<'_> {
    Claim {
        worker: "test",
        queues,
        names: None,
        limit,
        takes_suspect: true,
        lease: Duration::from_secs(60),
    }
}

/// Everything that can be claimed, in the order in which it is handed out.
async fn drain(engine: &dyn Engine, queue: &str) -> Vec<TaskId> {
    let queues = [queue.to_owned()];
    let mut ids = Vec::new();
    let mut empty = 0;
    while empty < 3 {
        let tasks = engine.claim(&claim(&queues, 100)).await.unwrap().tasks;
        empty = if tasks.is_empty() { empty + 1 } else { 0 };
        ids.extend(tasks.into_iter().map(|task| task.message.id()));
    }
    ids
}

/// Makes a dead letter of a task, whatever is ready before it.
async fn bury(site: &Site, queue: &str, id: &TaskId) {
    let engine = Database::new(site.db.clone(), site.clock.clone());
    let queues = [queue.to_owned()];
    let tasks = engine.claim(&claim(&queues, 100)).await.unwrap().tasks;
    let end = |task: Claimed| {
        let is_it = task.message.id() == *id;
        let verdict = if is_it { Verdict::Dead("no luck".into()) } else { Verdict::Release };
        Ended { lease: task.lease, verdict }
    };
    engine.settle(&tasks.into_iter().map(end).collect::<Vec<_>>()).await.unwrap();
}

/// Moves tasks of all kinds to the other engine and on to a database. Whether they came there in
/// their order.
async fn check(source: &Site, there: Queue) -> bool {
    let name = TaskId::random().to_string();
    let home = Site::new().await;
    let message = |at: u8| Message::new("count", [at]).unwrap().queue(&name).priority(at % 3 * 4);
    let mut pushed: Vec<(u8, TaskId)> = Vec::new();
    for at in 0..60 {
        let message = message(at);
        let message = if at % 2 == 0 { message.ignore_result() } else { message };
        pushed.push((at % 3, source.push(message).await));
    }
    let late = source.push(message(0).at(source.clock.now_ms() + 60_000)).await;
    let dead = source.push(message(1)).await;
    bury(source, &name, &dead).await;
    let mut told = 0;
    let moved = source.queue.move_to(&there, &name, &mut |moved| told = moved.total()).await;
    let moved = moved.unwrap();
    assert_eq!((moved.queued, moved.waiting, moved.dead), (60, 1, 1));
    assert_eq!((moved.total(), told), (62, 62));
    let letter = there.find(&dead).await.unwrap();
    assert_eq!((letter.state, letter.reason.as_deref()), (State::Dead, Some("no luck")));
    assert!(source.queue.find(&late).await.is_err(), "nothing is left behind");
    let record = there.find(&late).await.unwrap();
    assert_eq!(record.state, State::Waiting);
    assert_eq!(record.due_ms, Some(source.clock.now_ms() + 60_000));

    let moved = there.move_to(&home.queue, &name, &mut |_| ()).await.unwrap();
    assert_eq!((moved.queued, moved.waiting, moved.dead), (60, 1, 1));
    assert_eq!(home.queue.find(&dead).await.unwrap().reason.as_deref(), Some("no luck"));
    pushed.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let order: Vec<TaskId> = pushed.into_iter().map(|(_, id)| id).collect();
    let engine = Database::new(home.db.clone(), home.clock.clone());
    let mut drained = drain(&engine, &name).await;
    let is_in_order = drained == order;
    let mut order = order;
    drained.sort();
    order.sort();
    assert_eq!(drained, order, "each once");
    is_in_order
}

#[tokio::test]
async fn tasks_move_from_the_database_and_back_in_their_order() {
    let source = Site::new().await;
    let there = Site::new().await;
    assert!(check(&source, there.queue.clone()).await, "higher priorities first, then as pushed");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn tasks_move_to_redis_and_back_in_their_order() {
    let Some(url) = crate::redis::url() else { return };
    let source = Site::new().await;
    let engine = crate::redis::open(&url, &source.clock).await;
    let is_in_order = check(&source, Queue::with_engine(engine, source.clock.clone())).await;
    assert!(is_in_order, "higher priorities first, then as pushed");
}

#[cfg(feature = "rabbitmq")]
#[tokio::test]
async fn tasks_move_to_rabbitmq_and_back_in_their_order() {
    let Some(url) = crate::rabbitmq::url() else { return };
    let url = crate::rabbitmq::first(&url, "max_priority=10");
    // What a node does not confirm in time is sent after what it does: that needs a busy machine.
    for _ in 0..5 {
        let (source, ledger) = (Site::new().await, Site::new().await);
        let engine = crate::rabbitmq::open(&url, &ledger).await;
        if check(&source, Queue::with_engine(engine, ledger.clock.clone())).await {
            return;
        }
    }
    panic!("higher priorities first, then as pushed");
}

#[tokio::test]
async fn a_move_that_was_killed_loses_nothing_when_it_is_made_again() {
    let (source, target) = (Site::new().await, Site::new().await);
    let name = TaskId::random().to_string();
    let mut pushed = Vec::new();
    for at in 0..20 {
        pushed.push(source.push(Message::new("count", [at]).unwrap().queue(&name)).await);
    }
    // A move that had claimed all and pushed half when it was killed.
    let engine = Database::new(source.db.clone(), source.clock.clone());
    let queues = [name.clone()];
    let claimed = engine.claim(&claim(&queues, 20)).await.unwrap().tasks;
    for task in &claimed[..10] {
        target.push(task.message.clone()).await;
    }
    let moved = source.queue.move_to(&target.queue, &name, &mut |_| ()).await.unwrap();
    assert_eq!(moved.total(), 0, "what it held is held for a minute");
    source.hand.advance(Duration::from_secs(61));
    let moved = source.queue.move_to(&target.queue, &name, &mut |_| ()).await.unwrap();
    assert_eq!(moved.queued, 20);
    let target = Database::new(target.db.clone(), target.clock.clone());
    assert_eq!(drain(&target, &name).await, pushed, "each once, in their order");
    assert_eq!(drain(&engine, &name).await, []);
}

#[tokio::test]
async fn tasks_do_not_move_to_where_they_are() {
    let site = Site::new().await;
    let id = site.push(Message::new("count", ()).unwrap()).await;
    let other = Queue::database(site.db.clone(), site.clock.clone());
    let refused = site.queue.move_to(&other, "default", &mut |_| ()).await.unwrap_err();
    assert!(
        refused.to_string().contains("both engines keep their tasks in one place"),
        "{refused}"
    );
    assert_eq!(site.queue.find(&id).await.unwrap().state, State::Queued);
}

/// Each asks both sides whether they are one place, and none takes another's question for an answer.
#[tokio::test]
async fn moves_that_begin_together_are_not_in_each_others_way() {
    let (source, target) = (Site::new().await, Site::new().await);
    let names: Vec<String> = (0..12).map(|_| TaskId::random().to_string()).collect();
    for name in &names {
        source.push(Message::new("count", ()).unwrap().queue(name)).await;
    }
    let there_and_back = names.iter().map(async |name| {
        let moved = source.queue.move_to(&target.queue, name, &mut |_| ()).await.unwrap();
        let back = target.queue.move_to(&source.queue, name, &mut |_| ()).await.unwrap();
        (moved.queued, back.queued)
    });
    for moved in futures_util::future::join_all(there_and_back).await {
        assert_eq!(moved, (1, 1));
    }
}
