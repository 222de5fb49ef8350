//! Tasks over their rate wait in the engine, and hold nobody up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use throng_core::{Clock, Shutdown};
use throng_queue::{
    Delivery, Error, Message, Policy, Rate, State, Task, TaskId, Worker, WorkerConfig,
};

use crate::{
    everywhere::{Place, everywhere},
    site::{Running, Site},
};

/// When tasks started, and which.
type Starts = Arc<Mutex<Vec<(i64, String)>>>;

fn noting(worker: Worker, name: &str, policy: Policy, clock: &Clock) -> (Worker, Starts) {
    let (starts, clock) = (Starts::default(), clock.clone());
    let noted = starts.clone();
    let worker = worker.on(name, policy, move |delivery: Delivery| {
        let what = delivery.arguments::<(String,)>().unwrap().0;
        noted.lock().unwrap().push((clock.now_ms(), what));
        async {}
    });
    (worker, starts)
}

#[tokio::test]
async fn a_worker_starts_a_task_as_often_as_its_rate_allows() {
    let site = Site::new().await;
    let begun_ms = site.clock.now_ms();
    let policy = Policy { rate: Some(Rate::per_second(10)), ..Policy::default() };
    let (worker, starts) = noting(Worker::new(site.queue.clone()), "slow", policy, &site.clock);
    let messages = (0..80).map(|_| Message::new("slow", ("x",)).unwrap());
    let ids = site.queue.push_all(messages.collect()).await.unwrap();
    let running = Running::start(worker);
    for _ in 0..20_000 {
        if starts.lock().unwrap().len() == ids.len() {
            break;
        }
        site.hand.advance(Duration::from_millis(50));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for id in &ids {
        let record = site.until(id, |record| record.state == State::Done).await;
        assert_eq!(record.retries, 0, "to be over a rate is no failure");
    }
    running.stop().await;
    let mut times: Vec<i64> = starts.lock().unwrap().iter().map(|(at, _)| at - begun_ms).collect();
    times.sort_unstable();
    assert_eq!(times.len(), 80);
    for (nth, at) in times.iter().enumerate() {
        assert!(*at >= 100 * i64::try_from(nth).unwrap(), "number {nth} started after {at} ms");
    }
}

#[derive(Serialize, Deserialize)]
struct Call {
    host: String,
}

impl Task for Call {
    const NAME: &'static str = "call";

    fn policy() -> Policy {
        Policy { key_rate: Some(Rate::per_hour(1)), ..Policy::default() }
    }

    fn rate_key(&self) -> Option<String> {
        Some(self.host.clone())
    }
}

fn small(place: &Place) -> Worker {
    let queues = vec![place.name.clone()];
    Worker::new(place.queue.clone()).config(WorkerConfig {
        queues,
        concurrency: 2,
        ..WorkerConfig::default()
    })
}

async fn until(claim: impl AsyncFn() -> bool, what: &str) {
    for _ in 0..2400 {
        if claim().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what}");
}

/// Two workers of two places, tasks that may start once an hour before others in the queue.
async fn check_shared(place: &Place) {
    // The engine remembers a limit for longer than a test runs.
    let scarce_name = format!("scarce-{}", place.name);
    let once = Policy { fleet_rate: Some(Rate::per_hour(1)), ..Policy::default() };
    let ran: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let worker = || {
        let note = |ran: &Mutex<HashMap<String, u32>>, what: String| {
            *ran.lock().unwrap().entry(what).or_default() += 1;
            std::future::ready(())
        };
        let [call, scarce, other] = [ran.clone(), ran.clone(), ran.clone()];
        small(place)
            .on_task(move |task: Call, _| note(&call, task.host))
            .on(&scarce_name, once, move |_: Delivery| note(&scarce, "scarce".into()))
            .on("other", Policy::default(), move |_: Delivery| note(&other, "other".into()))
    };
    let message = |name: &str| Message::new(name, ()).unwrap().queue(&place.name);
    let mut limited: Vec<Message> = (0..30).map(|_| message(&scarce_name)).collect();
    for host in ["one", "two", "three"] {
        let call = Call { host: format!("{host}.{}", place.name) };
        limited.extend((0..5).map(|_| Message::of(&call).unwrap().queue(&place.name)));
    }
    let limited = place.queue.push_all(limited).await.unwrap();
    let others = (0..30).map(|_| message("other")).collect();
    let others = place.queue.push_all(others).await.unwrap();
    let workers = [Running::start(worker()), Running::start(worker())];
    let engine = place.queue.engine_name();
    let state = async |id: &TaskId| place.queue.find(id).await.unwrap().state;
    for id in &others {
        until(async || state(id).await == State::Done, &format!("{engine}: others are held up"))
            .await;
    }
    for id in &limited {
        let rests = async || matches!(state(id).await, State::Done | State::Waiting);
        until(rests, &format!("{engine}: a task over its rate stays with a worker")).await;
    }
    for running in workers {
        running.stop().await;
    }
    let mut done = 0;
    for id in &limited {
        let record = place.queue.find(id).await.unwrap();
        assert_eq!(record.retries, 0, "{engine}");
        done += u32::from(record.state == State::Done);
    }
    let mut ran = ran.lock().unwrap().clone();
    assert_eq!(ran.remove("other"), Some(30), "{engine}");
    assert_eq!(ran.remove("scarce"), Some(1), "{engine}: two workers share a limit");
    let hosts: Vec<u32> = ran.into_values().collect();
    assert_eq!(hosts, [1, 1, 1], "{engine}: each key has a limit of its own");
    assert_eq!(done, 4, "{engine}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_fleet_and_of_keys_hold_over_workers_and_starve_nobody() {
    for place in everywhere().await {
        check_shared(&place).await;
    }
}

/// However late a start is, none comes before its turn.
#[tokio::test(flavor = "multi_thread")]
async fn two_workers_keep_one_rate_together() {
    for place in everywhere().await {
        let (clock, paced) = (Clock::system(), format!("paced-{}", place.name));
        let policy =
            Policy { fleet_rate: Some(Rate::per_second(20).burst(1)), ..Policy::default() };
        let (first, starts) = noting(small(&place), &paced, policy, &clock);
        let (second, more) = noting(small(&place), &paced, policy, &clock);
        let begun_ms = clock.now_ms();
        let message = || Message::new(&paced, ("x",)).unwrap().queue(&place.name);
        place.queue.push_all((0..60).map(|_| message()).collect()).await.unwrap();
        let workers = [Running::start(first), Running::start(second)];
        let all = || starts.lock().unwrap().len() + more.lock().unwrap().len();
        until(async || all() == 60, "not all start").await;
        for running in workers {
            running.stop().await;
        }
        let mut times: Vec<i64> = starts.lock().unwrap().iter().map(|(at, _)| *at).collect();
        times.extend(more.lock().unwrap().iter().map(|(at, _)| *at));
        times.sort_unstable();
        for (nth, at) in times.iter().enumerate() {
            let least = 50 * i64::try_from(nth).unwrap();
            assert!(
                at - begun_ms >= least,
                "{}: {nth} after {}",
                place.queue.engine_name(),
                at - begun_ms
            );
        }
    }
}

#[tokio::test]
async fn a_rate_that_is_nonsense_is_an_error_that_says_what_is_right() {
    let error = "ten".parse::<Rate>().unwrap_err();
    assert!(matches!(error, Error::Rate(_)));
    assert_eq!(error.to_string(), "cannot read rate `ten`: it is like 10/s, 100/m or 5/h");
    let (stop, shutdown) = Shutdown::pair();
    stop.request();
    let site = Site::new().await;
    let policy = Policy { fleet_rate: Some(Rate::per_hour(5)), ..Policy::default() };
    let worker = Worker::new(site.queue.clone()).on("x", policy, |_: Delivery| async {});
    worker.run(shutdown).await.unwrap();
}
