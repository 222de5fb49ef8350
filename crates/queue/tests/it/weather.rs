//! Storms: servers that restart, connections that are cut or say nothing, while tasks are pushed
//! and run. What was acknowledged runs, and the worker recovers by itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use throng_core::{Clock, Shutdown};
use throng_db::{
    Db,
    outbox::{Delivery as Entry, Relay},
};
use throng_queue::{Delivery, MIGRATIONS, Message, Policy, Queue, TaskId, Worker, WorkerConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::site::Running;
#[cfg(any(feature = "postgres", feature = "mysql"))]
use crate::{clusters, databases, own::Own};

/// What a proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weather {
    /// Everything passes.
    Fair,
    /// Connections are closed, new ones too.
    Cut,
    /// Nothing passes, and nobody is told.
    Silent,
}

/// Stands before a server. A connection that met silence stays silent for good, like one whose other
/// end has vanished.
struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    _work: JoinSet<()>,
}

impl Proxy {
    /// Before the server of `url`, and the URL that leads through it.
    async fn of(url: &str) -> (Self, String) {
        let host = url.rsplit_once('@').map_or(url.split_once("://").unwrap().1, |(_, rest)| rest);
        let host = host.split(['/', ',', '?']).next().unwrap();
        let proxy = Self::before(host.to_owned()).await;
        let url = url.replace(host, &format!("127.0.0.1:{}", proxy.port));
        (proxy, url)
    }

    async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (weather, seen) = watch::channel(Weather::Fair);
        let mut work = JoinSet::new();
        work.spawn(async move {
            let mut streams = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                streams.spawn(pass(client, server.clone(), seen.clone()));
            }
        });
        Self { port, weather, _work: work }
    }
}

async fn pass(mut client: TcpStream, server: String, mut weather: watch::Receiver<Weather>) {
    let work = async {
        let Ok(mut server) = TcpStream::connect(server).await else { return };
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    };
    let now = *weather.borrow_and_update();
    let turned = match now {
        Weather::Fair => {
            let turned = weather.wait_for(|weather| *weather != Weather::Fair);
            tokio::select! {
                () = work => return,
                turned = turned => turned.map_or(Weather::Cut, |turned| *turned),
            }
        }
        stormy => stormy,
    };
    if turned == Weather::Silent {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
}

/// Pushes while the weather turns and turns again, and follows every acknowledged id.
async fn weather(url: &str, db: &Db, turn: impl AsyncFn(bool)) {
    let queue = Queue::open(url, db.clone(), Clock::system()).await.unwrap();
    let name = format!("weather-{}", TaskId::random());
    let ran: Arc<Mutex<HashMap<TaskId, u32>>> = Arc::default();
    let counted = ran.clone();
    let config = WorkerConfig { queues: vec![name.clone()], ..WorkerConfig::default() };
    let worker = Worker::new(queue.clone()).config(config).on(
        "count",
        Policy::default(),
        move |task: Delivery| {
            *counted.lock().unwrap().entry(task.id()).or_default() += 1;
            async {}
        },
    );
    let running = Running::start(worker);
    let relayed = queue.clone();
    let relay = Relay::new(db.clone(), move |entry: Entry| {
        let queue = relayed.clone();
        async move { queue.deliver(&entry.entry.payload).await.map(drop) }
    });
    let (stop, shutdown) = Shutdown::pair();
    let relaying = tokio::spawn(relay.run(shutdown));
    let (mut acknowledged, mut longest) = (Vec::new(), Duration::ZERO);
    for round in 0..24 {
        if round == 8 || round == 16 {
            turn(round == 8).await;
        }
        let pushes = (0..25).map(|at| {
            let message = Message::new("count", [at]).unwrap().queue(&name);
            let message = if at % 2 == 0 { message.ignore_result() } else { message };
            let queue = queue.clone();
            async move {
                let begun = Instant::now();
                let pushed = tokio::time::timeout(Duration::from_secs(20), queue.push(message));
                (pushed.await.ok().and_then(Result::ok), begun.elapsed())
            }
        });
        for (id, took) in futures_util::future::join_all(pushes).await {
            longest = longest.max(took);
            acknowledged.extend(id);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let missing = || {
        let ran = ran.lock().unwrap();
        acknowledged.iter().filter(|id| !ran.contains_key(id)).count()
    };
    for _ in 0..600 {
        if missing() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.stop().await;
    stop.request();
    relaying.await.unwrap();
    let twice = ran.lock().unwrap().values().filter(|times| **times > 1).count();
    let (count, missing) = (acknowledged.len(), missing());
    println!("{count} acknowledged, {missing} missing, {twice} twice, longest push {longest:?}");
    assert_eq!(missing, 0, "every acknowledged task ran");
    assert!(count > 300, "pushes go on after the storm: {count}");
}

/// A proxied storm before the server of `url`; without `db` it is the site's database itself.
async fn storm(url: &str, db: Option<&Db>, stormy: Weather) {
    let (proxy, url) = Proxy::of(url).await;
    let turn = async |is_stormy: bool| {
        proxy.weather.send_replace(if is_stormy { stormy } else { Weather::Fair });
    };
    match db {
        Some(db) => weather(&url, db, turn).await,
        None => {
            let db = Db::open(&url).await.unwrap();
            let _ = db.migrate(&[MIGRATIONS, throng_db::outbox::MIGRATIONS]).await.unwrap();
            weather("database:", &db, turn).await;
            db.close().await;
        }
    }
}

/// As [`storm`], in a database that no other test has.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn database_storm(variable: &str) {
    let Some(url) = databases::server(variable) else { return };
    let own = Own::on(&url).await;
    storm(&own.url, None, Weather::Cut).await;
    own.forget().await;
}

/// A server that is killed and started again while its database has the queue.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn killed(url: &str, turn: impl AsyncFn(bool)) {
    let db = databases::open(url).await;
    weather("database:", &db, turn).await;
    db.close().await;
}

async fn site() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS, throng_db::outbox::MIGRATIONS]).await.unwrap();
    (folder, db)
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_redis_that_are_cut_or_silent_lose_nothing() {
    let Some(url) = crate::redis::url() else { return };
    for stormy in [Weather::Cut, Weather::Silent] {
        let (_folder, db) = site().await;
        storm(&format!("{url}?prefix={}.", TaskId::random()), Some(&db), stormy).await;
    }
}

#[cfg(feature = "rabbitmq")]
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_rabbitmq_that_are_cut_or_silent_lose_nothing() {
    let Some(url) = crate::rabbitmq::url() else { return };
    let url = crate::rabbitmq::first(&url, "spool=100000");
    for stormy in [Weather::Cut, Weather::Silent] {
        let (_folder, db) = site().await;
        storm(&url, Some(&db), stormy).await;
    }
}

/// A broker that says nothing costs the push that finds it out its 150 ms, not each of them.
#[cfg(any(feature = "redis", feature = "rabbitmq"))]
async fn check_silence(url: &str) {
    let (_folder, db) = site().await;
    let (proxy, url) = Proxy::of(url).await;
    let queue = Queue::open(&url, db, Clock::system()).await.unwrap();
    let name = format!("silence-{}", TaskId::random());
    let message = || Message::new("count", ()).unwrap().queue(&name);
    queue.push(message()).await.unwrap();
    proxy.weather.send_replace(Weather::Silent);
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    for at in 0..200 {
        let pushed = Instant::now();
        let message = if at % 2 == 0 { message().ignore_result() } else { message() };
        queue.push(message).await.unwrap();
        longest = longest.max(pushed.elapsed());
    }
    let took = begun.elapsed();
    println!(
        "{}: 200 pushes into silence took {took:?}, the longest {longest:?}",
        queue.engine_name()
    );
    assert!(took < Duration::from_secs(15), "if each had waited it were 30 s: {took:?}");
}

#[cfg(any(feature = "redis", feature = "rabbitmq"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_silent_is_not_waited_for_again_and_again() {
    #[cfg(feature = "redis")]
    if let Some(url) = crate::redis::url() {
        check_silence(&format!("{url}?prefix={}.", TaskId::random())).await;
    }
    #[cfg(feature = "rabbitmq")]
    if let Some(url) = crate::rabbitmq::url() {
        check_silence(&crate::rabbitmq::first(&url, "spool=100000")).await;
    }
}

/// Somebody waits for a task, as a request does, while `queue` is cut off; `other` is another way
/// to the same tasks.
#[cfg(any(feature = "postgres", feature = "redis"))]
async fn check_wait(proxy: &Proxy, queue: Queue, other: Queue) {
    let name = format!("wait-{}", TaskId::random());
    let id = queue.push(Message::new("count", ()).unwrap().queue(&name)).await.unwrap();
    proxy.weather.send_replace(Weather::Cut);
    for _ in 0..600 {
        if queue.find(&id).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(queue.find(&id).await.is_err(), "it is cut off");
    let now = queue.wait(&id, Duration::ZERO).await;
    assert!(now.is_err(), "who does not wait is told: {now:?}");
    let waiting = queue.clone();
    let awaited = id.clone();
    let waited =
        tokio::spawn(async move { waiting.wait(&awaited, Duration::from_secs(120)).await });
    let config = WorkerConfig { queues: vec![name], ..WorkerConfig::default() };
    let worker = Worker::new(other.clone()).config(config);
    let worker = worker.on("count", Policy::default(), |_: Delivery| async {});
    let running = Running::start(worker);
    other.wait(&id, Duration::from_secs(60)).await.unwrap();
    assert!(!waited.is_finished(), "it waits on");
    proxy.weather.send_replace(Weather::Fair);
    assert_eq!(waited.await.unwrap().unwrap().state, throng_queue::State::Done);
    running.stop().await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_result_outlasts_a_postgres_that_is_away() {
    let Some(url) = databases::server("THRONG_TEST_POSTGRES_URL") else { return };
    let own = Own::on(&url).await;
    let (proxy, proxied) = Proxy::of(&own.url).await;
    let (near, far) = (databases::open(&own.url).await, databases::open(&proxied).await);
    let queue = |db: &Db| Queue::database(db.clone(), Clock::system());
    check_wait(&proxy, queue(&far), queue(&near)).await;
    near.close().await;
    far.close().await;
    own.forget().await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_result_outlasts_a_redis_that_is_away() {
    let Some(url) = crate::redis::url() else { return };
    let url = format!("{url}?prefix={}.", TaskId::random());
    let (proxy, proxied) = Proxy::of(&url).await;
    let (_folder, db) = site().await;
    let queue = async |url: &str| Queue::open(url, db.clone(), Clock::system()).await.unwrap();
    check_wait(&proxy, queue(&proxied).await, queue(&url).await).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_goes_away_and_comes_back_loses_nothing() {
    database_storm("THRONG_TEST_POSTGRES_URL").await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_killed_and_restarted_loses_nothing() {
    let Some(server) = clusters::postgres::Postgres::start(0) else {
        return clusters::skip("`initdb` is missing");
    };
    killed(&server.url(""), async |is_stormy| match is_stormy {
        true => server.kill(0),
        false => server.restart(0),
    })
    .await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_that_goes_away_and_comes_back_loses_nothing() {
    database_storm("THRONG_TEST_MARIADB_URL").await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_that_is_killed_and_restarted_loses_nothing() {
    let Some(server) = clusters::mariadb::MariaDb::start(0) else {
        return clusters::skip("`mariadbd` is missing");
    };
    let (url, server) = (server.url(""), Mutex::new(server));
    killed(&url, async |is_stormy| match is_stormy {
        true => server.lock().unwrap().kill(0),
        false => server.lock().unwrap().restart(0),
    })
    .await;
}

/// A Redis of this test alone, which writes down each push before it acknowledges it.
#[cfg(feature = "redis")]
fn start_redis(folder: &std::path::Path, port: u16) -> Option<std::process::Child> {
    let mut command = std::process::Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(folder);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.spawn().ok()
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_and_restarted_loses_nothing() {
    if crate::redis::url().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(server) = start_redis(folder.path(), port) else {
        println!("skip: redis-server is not installed here");
        return;
    };
    let answers = || async { TcpStream::connect(("127.0.0.1", port)).await.is_ok() };
    for _ in 0..300 {
        if answers().await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let server = Mutex::new(server);
    let (_site, db) = site().await;
    weather(&format!("redis://127.0.0.1:{port}/0"), &db, async |is_stormy| {
        if is_stormy {
            let mut server = server.lock().unwrap();
            server.kill().unwrap();
            server.wait().unwrap();
        } else {
            *server.lock().unwrap() = start_redis(folder.path(), port).unwrap();
        }
    })
    .await;
    let mut server = server.into_inner().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
}
