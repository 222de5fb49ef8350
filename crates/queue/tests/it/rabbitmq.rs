//! RabbitMQ for tests: queues that no other test has, on the nodes that the test runner started.

use std::{
    collections::HashMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use throng_core::{Clock, EngineUrl};
use throng_db::Db;
use throng_queue::{
    Delivery, MIGRATIONS, Message, Policy, Queue, TaskId, Worker, WorkerConfig,
    engine::rabbitmq::Rabbitmq,
};

use crate::site::{Running, Site};

/// Both nodes; without them the test says that it is skipped.
pub(crate) fn url() -> Option<String> {
    let url = std::env::var("THRONG_TEST_RABBITMQ_URL").ok();
    if url.is_none() {
        println!("skip: THRONG_TEST_RABBITMQ_URL is not set");
    }
    url
}

/// The first node alone.
pub(crate) fn first(url: &str, options: &str) -> String {
    let (first, rest) = url.split_once(',').unwrap();
    let path = &rest[rest.find('/').unwrap()..];
    format!("{first}{path}?{options}")
}

/// The engine with the site's database as its ledger.
pub(crate) async fn open(url: &str, site: &Site) -> Rabbitmq {
    let url = EngineUrl::parse(url).unwrap();
    Rabbitmq::open(&url, site.db.clone(), site.clock.clone()).await.unwrap()
}

/// A queue by the system's clock, with a database of its own as its ledger.
pub(crate) async fn queue(url: &str) -> (Queue, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    (Queue::open(url, db, Clock::system()).await.unwrap(), folder)
}

/// A node of this test alone, which it may kill.
struct Node {
    folder: tempfile::TempDir,
    ports: [u16; 3],
    server: PathBuf,
    names: Child,
    script: Option<Child>,
}

impl Node {
    /// None where RabbitMQ is not installed; whoever has it running has it installed.
    async fn start() -> Option<Self> {
        let server = server()?;
        let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = sockets.map(|socket| socket.local_addr().unwrap().port());
        let mut names = Command::new("epmd");
        names.args(["-address", "127.0.0.1", "-port", &ports[2].to_string()]);
        let names = names.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("enabled_plugins"), "[].\n").unwrap();
        let mut node = Self { folder, ports, server, names, script: None };
        node.revive().await;
        Some(node)
    }

    async fn revive(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new(&self.server);
        command
            .env("HOME", folder)
            .env("ERL_EPMD_PORT", self.ports[2].to_string())
            .env("RABBITMQ_NODENAME", "throng-victim@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.ports[0].to_string())
            .env("RABBITMQ_DIST_PORT", self.ports[1].to_string())
            .env("RABBITMQ_BASE", folder)
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("logs"))
            .env("RABBITMQ_PID_FILE", self.pid_file())
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none.conf"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("none"))
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.script = Some(command.spawn().unwrap());
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.ports[0])).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("RabbitMQ does not start");
    }

    /// Ends it at once, as a power cut does.
    fn kill(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.pid_file()) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).status();
        }
        if let Some(mut script) = self.script.take() {
            let _ = script.kill();
            let _ = script.wait();
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        let _ = self.names.kill();
        let _ = self.names.wait();
    }
}

/// The script of the release itself: Debian's wrapper insists on a user of its own.
fn server() -> Option<PathBuf> {
    let releases = std::fs::read_dir(Path::new("/usr/lib/rabbitmq/lib")).ok()?.flatten();
    let scripts = releases.map(|release| release.path().join("sbin/rabbitmq-server"));
    scripts.filter(|script| script.exists()).max()
}

type Ran = Arc<Mutex<HashMap<TaskId, u32>>>;

fn counting(queue: &Queue, name: &str, ran: &Ran) -> Worker {
    let config = WorkerConfig { queues: vec![name.into()], ..WorkerConfig::default() };
    let ran = ran.clone();
    Worker::new(queue.clone()).config(config).on(
        "count",
        Policy::default(),
        move |task: Delivery| {
            *ran.lock().unwrap().entry(task.id()).or_default() += 1;
            async {}
        },
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_two_killed_under_load_loses_nothing_that_was_acknowledged() {
    let Some(url) = url() else { return };
    let Some(mut victim) = Node::start().await else {
        println!("skip: RabbitMQ is not installed here");
        return;
    };
    let (first, path) = (first(&url, ""), "/?weights=1,1");
    let url = format!("{},127.0.0.1:{}{path}", first.split_once("/?").unwrap().0, victim.ports[0]);
    let (queue, _folder) = queue(&url).await;
    let name = format!("two-{}", TaskId::random());
    let ran = Ran::default();
    let running = Running::start(counting(&queue, &name, &ran));
    let mut acknowledged = Vec::new();
    let mut longest = Duration::ZERO;
    for round in 0..30 {
        if round == 10 {
            victim.kill();
        }
        if round == 20 {
            victim.revive().await;
        }
        // Half of them light, which no ledger knows.
        let pushes = (0..100).map(|at| {
            let message = Message::new("count", [at]).unwrap().queue(&name);
            let message = if at % 2 == 0 { message.ignore_result() } else { message };
            let queue = queue.clone();
            async move {
                let begun = Instant::now();
                (queue.push(message).await.unwrap(), begun.elapsed())
            }
        });
        for (id, took) in futures_util::future::join_all(pushes).await {
            acknowledged.push(id);
            longest = longest.max(took);
        }
    }
    let missing = || {
        let ran = ran.lock().unwrap();
        acknowledged.iter().filter(|id| !ran.contains_key(id)).count()
    };
    for _ in 0..1200 {
        if missing() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop().await;
    let twice = ran.lock().unwrap().values().filter(|times| **times > 1).count();
    println!(
        "{} acknowledged, {} missing, {twice} twice, longest push {longest:?}",
        acknowledged.len(),
        missing()
    );
    assert_eq!(missing(), 0, "every acknowledged task ran");
    // None does, unless the machine is too busy to answer in time.
    assert!(twice <= acknowledged.len() / 40, "{twice} ran twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_while_no_broker_answers_waits_and_runs_when_one_returns() {
    if url().is_none() {
        return;
    }
    let Some(mut node) = Node::start().await else {
        println!("skip: RabbitMQ is not installed here");
        return;
    };
    let url = format!("amqp://guest:guest@127.0.0.1:{}/?spool=300", node.ports[0]);
    let (queue, _folder) = queue(&url).await;
    let name = format!("alone-{}", TaskId::random());
    let push = |at: u32| {
        let message = Message::new("count", [at]).unwrap().queue(&name);
        queue.push(if at.is_multiple_of(2) { message.ignore_result() } else { message })
    };
    let mut acknowledged = vec![push(0).await.unwrap(), push(1).await.unwrap()];
    node.kill();
    let refused = loop {
        match push(u32::try_from(acknowledged.len()).unwrap()).await {
            Ok(id) => acknowledged.push(id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1000, "the spool is bounded");
    };
    assert!(acknowledged.len() >= 300, "pushes go on without a broker: {}", acknowledged.len());
    assert_eq!(refused.kind(), throng_queue::Kind::Retry, "{refused}");
    node.revive().await;
    let ran = Ran::default();
    let running = Running::start(counting(&queue, &name, &ran));
    for _ in 0..1200 {
        if acknowledged.iter().all(|id| ran.lock().unwrap().contains_key(id)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop().await;
    let ran = ran.lock().unwrap();
    let missing = acknowledged.iter().filter(|id| !ran.contains_key(id)).count();
    assert_eq!(missing, 0, "of {} that were acknowledged", acknowledged.len());
}
