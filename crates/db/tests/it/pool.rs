//! The pool through its door: who waits is served in turn, and it tells what it does.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use throng_db::{Config, Db};

async fn open(config: Config) -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite_with(folder.path().join("site.db"), config).await.unwrap();
    (folder, db)
}

#[tokio::test]
async fn who_gives_up_waiting_takes_no_place_and_moves_nobody() {
    let (_folder, db) = open(Config::default()).await;
    let tx = db.begin().await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = Vec::new();
    for at in 0..12 {
        let (own, served) = (db.clone(), served.clone());
        waiters.push(tokio::spawn(async move {
            let tx = own.begin().await.unwrap();
            served.lock().unwrap().push(at);
            tx.rollback().await.unwrap();
        }));
        while db.status().servers[0].waiting <= at {
            tokio::task::yield_now().await;
        }
    }
    for at in [0, 4, 5, 11] {
        waiters[at].abort();
    }
    while db.status().servers[0].waiting > 8 {
        tokio::task::yield_now().await;
    }
    tx.rollback().await.unwrap();
    for waiter in waiters {
        let _ = waiter.await;
    }
    assert_eq!(*served.lock().unwrap(), [1, 2, 3, 6, 7, 8, 9, 10]);
    let writer = &db.status().servers[0];
    assert_eq!((writer.in_use, writer.idle, writer.size, writer.waiting), (0, 1, 1, 0));
    db.begin().await.unwrap().rollback().await.unwrap();
}

#[tokio::test]
async fn it_tells_what_it_lends_what_waits_and_what_it_throws_away() {
    let told = Told::default();
    let _guard = metrics::set_default_local_recorder(&told);
    let config = Config { acquire_timeout_ms: 200, readers: 3, ..Config::default() };
    let (_folder, db) = open(config).await;
    let read = |name: &str, pool: &str| told.value(&format!("throng_db_{name}{{{pool}}}"));

    assert_eq!((read("connections_max", "writer"), read("connections_max", "readers")), (1.0, 3.0));
    let tx = db.begin().await.unwrap();
    assert_eq!(read("connections_in_use", "writer"), 1.0);
    assert_eq!(read("connections_opened_total", "writer"), 1.0);
    db.begin().await.unwrap_err();
    assert_eq!(read("acquire_timeouts_total", "writer"), 1.0);
    let waited_s = read("acquire_wait_seconds", "writer");
    assert!((0.2..60.0).contains(&waited_s), "{waited_s} s");
    tx.rollback().await.unwrap();
    assert_eq!(read("connections_in_use", "writer"), 0.0);

    db.ping().await.unwrap();
    db.ping().await.unwrap();
    assert_eq!(read("connections_lent_total", "readers"), 2.0);
    assert_eq!(read("connections_opened_total", "readers"), 1.0);
    assert_eq!(read("connections_discarded_total", "readers"), 0.0);

    let units: Vec<_> = told.units.lock().unwrap().clone().into_iter().collect();
    let wanted = [
        ("throng_db_acquire_timeouts_total", Unit::Count),
        ("throng_db_acquire_wait_seconds", Unit::Seconds),
        ("throng_db_connections_discarded_total", Unit::Count),
        ("throng_db_connections_in_use", Unit::Count),
        ("throng_db_connections_lent_total", Unit::Count),
        ("throng_db_connections_max", Unit::Count),
        ("throng_db_connections_opened_total", Unit::Count),
        ("throng_db_lag_seconds", Unit::Seconds),
        ("throng_db_routed_total", Unit::Count),
        ("throng_db_serves_reads", Unit::Count),
    ];
    assert_eq!(units, wanted.map(|(name, unit)| (name.to_owned(), unit)));
    db.close().await;
}

/// Keeps what it is told: by `name{pool}`, or `name{pool,why}`.
#[derive(Default)]
pub(crate) struct Told {
    values: Mutex<BTreeMap<String, Arc<Meter>>>,
    units: Mutex<BTreeMap<String, Unit>>,
}

impl Told {
    pub(crate) fn value(&self, name: &str) -> f64 {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = values.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", values.keys()));
        f64::from_bits(meter.0.load(Ordering::SeqCst))
    }

    fn meter(&self, key: &Key) -> Arc<Meter> {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        self.values.lock().unwrap().entry(name).or_default().clone()
    }

    fn describe(&self, key: KeyName, unit: Option<Unit>) {
        self.units.lock().unwrap().insert(key.as_str().to_owned(), unit.unwrap());
    }
}

/// A number; of a histogram the sum.
#[derive(Default)]
struct Meter(AtomicU64);

impl Meter {
    fn add(&self, value: f64) {
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).unwrap();
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::SeqCst);
    }
}

impl CounterFn for Meter {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }

    fn absolute(&self, value: u64) {
        self.set(value as f64);
    }
}

impl GaugeFn for Meter {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        Meter::set(self, value);
    }
}

impl HistogramFn for Meter {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Recorder for Told {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(key, unit);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(key, unit);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _: SharedString) {
        self.describe(key, unit);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.meter(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.meter(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.meter(key))
    }
}
