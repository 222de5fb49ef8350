//! django-celery-beat's tables, written by Django, fired by us, and gone on with by Celery.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use throng_core::Clock;
use throng_db::Db;
use throng_queue::{
    Delivery, DjangoBeat, MIGRATIONS, Message, Policy, Queue, Worker, WorkerConfig,
};

use crate::site::Running;

/// A database with Django's tables and ours.
struct Django {
    python: String,
    /// As Django's settings name it.
    database: Value,
    db: Db,
    /// What ran, by schedule.
    ran: Arc<Mutex<BTreeMap<String, Vec<Message>>>>,
}

impl Django {
    /// Runs the script on the other side.
    async fn run(&self, arguments: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/beat_peer.py");
        let mut command = Command::new(&self.python);
        command.arg(script).args(arguments).env("DATABASE", self.database.to_string());
        command.stdout(Stdio::piped());
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(ran.status.success(), "{arguments:?} failed");
        String::from_utf8(ran.stdout).unwrap()
    }

    fn worker(&self) -> Worker {
        let queue = Queue::database(self.db.clone(), Clock::system());
        let queues = ["usual", "named"].map(str::to_owned).to_vec();
        let config = WorkerConfig { queues, ..WorkerConfig::default() };
        let ran = self.ran.clone();
        Worker::new(queue)
            .config(config)
            .on("beat.note", Policy::default(), move |delivery: Delivery| {
                let name = delivery.header("periodic_task_name").unwrap().as_str().unwrap();
                let mut ran = ran.lock().unwrap();
                ran.entry(name.to_owned()).or_default().push(delivery.message().clone());
                async {}
            })
            .django_beat(DjangoBeat::new(self.db.clone()).default_queue("usual"))
    }

    fn count(&self, name: &str) -> usize {
        self.ran.lock().unwrap().get(name).map_or(0, Vec::len)
    }

    async fn until_ran(&self, name: &str, count: usize) {
        for _ in 0..1200 {
            if self.count(name) >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} ran {} times, not {count}", self.count(name));
    }
}

async fn check(django: Django) {
    let _ = django.db.migrate(&[MIGRATIONS]).await.unwrap();
    django.run(&["prepare"]).await;
    let worker = Running::start(django.worker());
    for name in ["hourly", "nightly", "once"] {
        django.until_ran(name, 1).await;
    }
    django.run(&["change", "off", "1"]).await;
    django.until_ran("off", 2).await;
    django.run(&["change", "off", "0"]).await;
    worker.stop().await;
    {
        let ran = django.ran.lock().unwrap();
        let hourly = &ran["hourly"][0];
        let body = hourly.read_body().unwrap();
        assert_eq!(
            (json!(body.args), json!(body.kwargs)),
            (json!(["hourly"]), json!({"deep": true}))
        );
        assert_eq!((hourly.queue_name(), hourly.priority_level()), ("usual", 7));
        assert_eq!(hourly.header_value("tenant"), Some(&json!("x")));
        assert!(hourly.expires_ms().is_some());
        assert_eq!(ran["nightly"][0].queue_name(), "named");
    }
    // What Django's admin shows.
    let shown = [
        "hourly on 1 now",
        "later on 0 never",
        "nightly on 1 now",
        "off off",
        "once off 0 never",
        "over off 0 never",
        "sun on 0 never",
    ];
    let said = django.run(&["show"]).await;
    for (said, wanted) in said.lines().zip(shown) {
        assert!(said.starts_with(wanted), "{said:?}, not {wanted:?}");
    }
    // Celery goes on where we stopped, and we where Celery stopped.
    django.run(&["row", "fresh"]).await;
    assert_eq!(django.run(&["celery", "fresh"]).await, "fresh\n");
    django.run(&["row", "newest"]).await;
    let worker = Running::start(django.worker());
    django.until_ran("newest", 1).await;
    worker.stop().await;
    for (name, count) in [("hourly", 1), ("nightly", 1), ("once", 1), ("fresh", 0), ("later", 0)] {
        assert_eq!(django.count(name), count, "{name}");
    }
    django.db.close().await;
}

fn python() -> Option<String> {
    let python = std::env::var("THRONG_TEST_PYTHON").ok();
    if python.is_none() {
        println!("skip: THRONG_TEST_PYTHON is not set");
    }
    python
}

#[tokio::test(flavor = "multi_thread")]
async fn djangos_schedules_fire_here_and_celery_goes_on_with_them() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.db");
    let db = Db::sqlite(&path).await.unwrap();
    let database = json!({"ENGINE": "django.db.backends.sqlite3", "NAME": path});
    check(Django { python, database, db, ran: Arc::default() }).await;
}

/// A database of its own on the server that `url` names.
#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn check_server(url: &str, engine: &str) {
    let Some(python) = python() else { return };
    let own = crate::own::Own::on(url).await;
    let at = throng_core::EngineUrl::parse(url).unwrap();
    let database = json!({
        "ENGINE": engine,
        "NAME": own.name,
        "HOST": at.hosts()[0].name,
        "PORT": at.hosts()[0].port,
        "USER": at.user(),
        "PASSWORD": at.password().map(|word| word.reveal()),
    });
    let db = Db::open(&own.url).await.unwrap();
    check(Django { python, database, db, ran: Arc::default() }).await;
    own.forget().await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn djangos_schedules_fire_here_from_postgres() {
    let Ok(url) = std::env::var("THRONG_TEST_POSTGRES_URL") else {
        println!("skip: THRONG_TEST_POSTGRES_URL is not set");
        return;
    };
    check_server(&url, "django.db.backends.postgresql").await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread")]
async fn djangos_schedules_fire_here_from_mariadb() {
    let Ok(url) = std::env::var("THRONG_TEST_MARIADB_URL") else {
        println!("skip: THRONG_TEST_MARIADB_URL is not set");
        return;
    };
    check_server(&url, "django.db.backends.mysql").await;
}
