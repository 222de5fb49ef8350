//! Real Celery on the other side of one broker: its producers with our workers, and the reverse.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use throng_core::{Clock, EngineUrl};
use throng_queue::{
    Backoff, Count, Delivery, Filter, Message, Outcome, Policy, Queue, State, Task, TaskId, Worker,
    WorkerConfig, engine::redis::Redis,
};

use crate::{redis, site::Running};

#[derive(Deserialize, Serialize)]
struct Add {
    left: Value,
    right: Value,
}

impl Task for Add {
    const NAME: &'static str = "math.add";
}

/// A queue that this test alone uses, and the Python that has Celery.
pub(crate) struct Peer {
    url: String,
    /// Where Celery keeps results.
    backend: String,
    python: String,
    pub(crate) name: String,
    pub(crate) queue: Queue,
    /// Of the database that the queue needs, if it needs one.
    _folder: Option<tempfile::TempDir>,
}

/// Where the Python is that has a Celery: 5.7, and 5.4 as many sites still run it.
pub(crate) const CELERY: [&str; 2] = ["THRONG_TEST_PYTHON", "THRONG_TEST_CELERY_5_4"];

fn python(celery: &str) -> Option<String> {
    let python = std::env::var(celery).ok();
    if python.is_none() {
        println!("skip: {celery} is not set");
    }
    python
}

#[cfg(feature = "rabbitmq")]
fn own((left, right): (&str, &str)) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

impl Peer {
    pub(crate) async fn on_redis(celery: &str) -> Option<Self> {
        let url = redis::url()?;
        let python = python(celery)?;
        let engine = Redis::open(&EngineUrl::parse(&url).unwrap(), Clock::system()).await.unwrap();
        let queue = Queue::with_engine(engine, Clock::system());
        Some(Self::new(url.clone(), url, python, queue))
    }

    #[cfg(feature = "rabbitmq")]
    pub(crate) async fn on_rabbitmq(celery: &str) -> Option<Self> {
        let url = crate::rabbitmq::url()?;
        let python = python(celery)?;
        let (url, _) = crate::rabbitmq::first(&url, "").split_once('?').map(own)?;
        let (queue, folder) = crate::rabbitmq::queue(&url).await;
        Some(Self { _folder: Some(folder), ..Self::new(url, "rpc://".into(), python, queue) })
    }

    fn new(url: String, backend: String, python: String, queue: Queue) -> Self {
        let name = format!("peer-{}", TaskId::random());
        Self { url, backend, python, name, queue, _folder: None }
    }

    fn python(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/celery_peer.py");
        command.arg(script).arg(arguments[0]).arg(&self.name).args(&arguments[1..]);
        command.env("BROKER", &self.url).env("BACKEND", &self.backend).stdout(Stdio::piped());
        command
    }

    /// Runs the script to its end without standing in the way of our worker.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.python(arguments);
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(ran.status.success(), "the script failed");
        String::from_utf8(ran.stdout).unwrap()
    }

    pub(crate) fn worker(&self) -> Worker {
        let config = WorkerConfig { queues: vec![self.name.clone()], ..WorkerConfig::default() };
        let quick = Policy {
            max_retries: 2,
            backoff: Backoff::fixed(Duration::from_millis(100)),
            ..Policy::default()
        };
        Worker::new(self.queue.clone())
            .config(config)
            .on_task(|task: Add, _| async move {
                Outcome::Done(match (task.left.as_i64(), task.right.as_i64()) {
                    (Some(left), Some(right)) => json!(left + right),
                    _ => json!(format!("{}{}", text(&task.left), text(&task.right))),
                })
            })
            .on("math.flaky", quick, |delivery: Delivery| async move {
                match delivery.retries() {
                    2 => Outcome::Done(json!(2)),
                    _ => Outcome::retry("not yet"),
                }
            })
            .on("math.fail", Policy { max_retries: 0, ..quick }, |delivery: Delivery| async move {
                Outcome::retry(delivery.arguments::<String>().unwrap())
            })
            .on("math.total", quick, |delivery: Delivery| async move {
                let numbers = delivery.arguments::<(Vec<i64>,)>().unwrap().0;
                Outcome::Done(json!(numbers.into_iter().sum::<i64>()))
            })
            .on("math.echo", quick, |delivery: Delivery| async move {
                Outcome::Done(delivery.arguments::<(Value,)>().unwrap().0)
            })
            .on("when", quick, |_: Delivery| async {
                Outcome::Done(json!(Clock::system().now_ms() as f64 / 1000.0))
            })
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn celery_calls_our_tasks_and_gets_their_results() {
    for celery in CELERY {
        let Some(peer) = Peer::on_redis(celery).await else { continue };
        celery_calls(peer).await;
    }
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn celery_on_rabbitmq_calls_our_tasks_and_gets_their_results() {
    for celery in CELERY {
        let Some(peer) = Peer::on_rabbitmq(celery).await else { continue };
        celery_calls(peer).await;
    }
}

async fn celery_calls(peer: Peer) {
    let running = Running::start(peer.worker());
    let said = peer.run(&["produce"]).await;
    running.stop().await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..4], ["5", "7", "late", "2"]);
    assert_eq!(lines[4], "Exception: no luck (gave up after 1 tries)");
    assert!(
        lines[5].contains("wrong arguments for task `math.add`: missing field `right`"),
        "{said}"
    );
    assert_eq!(lines[6], "00000000000000000000000000000007");
    assert_eq!(lines[7], "00000000-0000-0000-0000-000000000007x");
}

#[tokio::test(flavor = "multi_thread")]
async fn celery_runs_our_tasks_and_we_get_their_results() {
    for celery in CELERY {
        let Some(peer) = Peer::on_redis(celery).await else { continue };
        celery_runs(peer).await;
    }
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn celery_on_rabbitmq_runs_our_tasks_and_we_get_their_results() {
    for celery in CELERY {
        let Some(peer) = Peer::on_rabbitmq(celery).await else { continue };
        celery_runs(peer).await;
    }
}

async fn celery_runs(peer: Peer) {
    let _worker = Killed(peer.python(&["work"]).spawn().unwrap());
    let push = |name: &str, args: Value| {
        peer.queue.push(Message::new(name, args).unwrap().queue(&peer.name))
    };
    let wait = |id: TaskId| {
        let queue = peer.queue.clone();
        async move { queue.wait(&id, Duration::from_secs(60)).await.unwrap() }
    };
    let sum = wait(push("math.add", json!([2, 3])).await.unwrap()).await;
    assert_eq!((sum.state, sum.result), (State::Done, Some(json!(5))));
    let named = wait(push("math.add", json!({"left": "a", "right": "b"})).await.unwrap()).await;
    assert_eq!(named.result, Some(json!("ab")));
    let flaky = wait(push("math.flaky", json!([])).await.unwrap()).await;
    assert_eq!((flaky.state, flaky.result), (State::Done, Some(json!(2))));
    let failed = wait(push("math.fail", json!(["no luck"])).await.unwrap()).await;
    assert_eq!(failed.state, State::Dead);
    assert_eq!(failed.reason.as_deref(), Some("ValueError: no luck"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_finds_what_celery_has_pushed_where_none_of_ours_has_been() {
    for celery in CELERY {
        let Some(peer) = Peer::on_redis(celery).await else { continue };
        peer.run(&["notes", "3"]).await;
        let counts = peer.queue.counts().await.unwrap();
        let here = Count { queue: peer.name.clone(), state: State::Queued, tasks: 3 };
        assert!(counts.contains(&here), "{counts:?}");
        let is_here = |count: &&Count| count.queue.contains("pidbox") || count.queue.is_empty();
        assert_eq!(counts.iter().find(is_here), None);
        let notes = Filter { state: Some(State::Queued), limit: 10_000, ..Filter::default() };
        let listed = peer.queue.list(&notes).await.unwrap();
        let listed = listed.iter().filter(|record| record.message.queue_name() == peer.name);
        assert_eq!(listed.count(), 3);
        assert_eq!(peer.queue.purge(&peer.name, State::Queued).await.unwrap(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_both_kinds_share_a_queue_and_lose_and_repeat_nothing() {
    let Some(peer) = Peer::on_redis(CELERY[0]).await else { return };
    let list = format!("notes-{}", peer.name);
    let client = ::redis::Client::open(peer.url.as_str()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let (ours, notes) = (connection.clone(), list.clone());
    let worker = peer.worker().on("note", Policy::default(), move |delivery: Delivery| {
        let (mut connection, list) = (ours.clone(), notes.clone());
        async move {
            // Slow enough that Celery gets its share.
            tokio::time::sleep(Duration::from_millis(40)).await;
            let key = delivery.arguments::<String>().unwrap();
            let mut push = ::redis::cmd("RPUSH");
            push.arg(&list).arg(format!("ours {key}"));
            Outcome::of(push.query_async::<()>(&mut connection).await)
        }
    });
    let _celery = Killed(peer.python(&["work"]).spawn().unwrap());
    let ready = push_until_celery_works(&peer).await;
    let running = Running::start(worker);
    let messages = (0..300).map(|at| {
        Message::new("note", [format!("throng {at}")]).unwrap().queue(&peer.name).ignore_result()
    });
    peer.queue.push_all(messages.collect()).await.unwrap();
    peer.run(&["notes", "300"]).await;
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..600 {
        let mut range = ::redis::cmd("LRANGE");
        range.arg(&list).arg(0).arg(-1);
        seen = range.query_async(&mut connection.clone()).await.unwrap();
        if seen.len() >= 600 + ready {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop().await;
    assert_eq!(seen.len(), 600 + ready, "as many notes as tasks");
    let ours = seen.iter().filter(|note| note.starts_with("ours ")).count();
    assert!(ours > 0 && ours < 600, "both took part, not only one: {ours} of ours");
    let mut keys: Vec<&str> = seen.iter().map(|note| note.trim_start_matches("ours ")).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 600 + ready, "no task ran twice");
    let mut delete = ::redis::cmd("DEL");
    delete.arg(&list);
    let () = delete.query_async(&mut connection.clone()).await.unwrap();
}

const CANVAS: &str = "14\n4\n[2, 4]\n90\n[3, 4]\n10\nfailed\nTrue\n13\nTrue\n";

#[tokio::test(flavor = "multi_thread")]
async fn chains_groups_and_chords_of_celery_run_here() {
    for celery in CELERY {
        let Some(peer) = Peer::on_redis(celery).await else { continue };
        let running = Running::start(peer.worker());
        let said = peer.run(&["canvas"]).await;
        running.stop().await;
        assert_eq!(said, CANVAS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_groups_and_chords_run_split_between_workers_of_both_kinds() {
    for celery in CELERY {
        let Some(peer) = Peer::on_redis(celery).await else { continue };
        let _celery = Killed(peer.python(&["work"]).spawn().unwrap());
        let hello = peer.queue.push(Message::new("math.add", [1, 1]).unwrap().queue(&peer.name));
        peer.queue.wait(&hello.await.unwrap(), Duration::from_secs(60)).await.unwrap();
        let one =
            WorkerConfig { queues: vec![peer.name.clone()], concurrency: 1, ..Default::default() };
        let running = Running::start(peer.worker().config(one));
        let said = peer.run(&["canvas"]).await;
        let report = running.stop().await;
        assert_eq!(said, CANVAS);
        println!("{} runs were ours", report.ran);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_chains_and_chords_run_in_celery() {
    for celery in CELERY {
        let Some(peer) = Peer::on_redis(celery).await else { continue };
        let _celery = Killed(peer.python(&["work"]).spawn().unwrap());
        let add = |args: Value| Message::new("math.add", args).unwrap().queue(&peer.name);
        let last = add(json!([5]));
        let chain = add(json!([2, 3])).then(add(json!([4]))).unwrap().then(last.clone()).unwrap();
        peer.queue.push(chain).await.unwrap();
        assert_eq!(result(&peer, &last.id()).await, json!(14));
        let total = Message::new("math.total", json!([])).unwrap().queue(&peer.name);
        let parts = (0..5).map(|at| add(json!([at, at]))).collect();
        let body = peer.queue.push_chord(parts, total).await.unwrap();
        assert_eq!(result(&peer, &body).await, json!(20));
    }
}

/// What Celery keeps as the result of a task that it pushed itself.
async fn result(peer: &Peer, id: &TaskId) -> Value {
    let client = ::redis::Client::open(peer.url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for _ in 0..600 {
        let mut get = ::redis::cmd("GET");
        get.arg(format!("celery-task-meta-{id}"));
        let found: Option<String> = get.query_async(&mut connection).await.unwrap();
        if let Some(found) = found {
            let meta: Value = serde_json::from_str(&found).unwrap();
            assert_eq!(meta["status"], "SUCCESS", "{meta}");
            return meta["result"].clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("task {id} has no result");
}

/// Celery takes a second to start; the answer is how many notes that took.
async fn push_until_celery_works(peer: &Peer) -> usize {
    let hello = Message::new("note", ["hello"]).unwrap().queue(&peer.name);
    let id = peer.queue.push(hello).await.unwrap();
    let record = peer.queue.wait(&id, Duration::from_secs(60)).await.unwrap();
    assert_eq!(record.state, State::Done);
    1
}
