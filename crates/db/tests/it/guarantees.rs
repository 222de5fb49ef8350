//! The session guarantees under chaos: nobody ever reads less than he has written or read before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbErr, Statement};
use throng_db::{Db, Kind, kind};

use crate::servers::{self, postgres::Postgres};

/// What all visitors did together.
#[derive(Debug, Default)]
struct Tally {
    reads: AtomicU64,
    on_replicas: AtomicU64,
    stale: AtomicU64,
    backwards: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
    /// What was seen that should not be, for whoever has to find out why.
    wrong: std::sync::Mutex<Vec<String>>,
}

/// One visitor, whose register only he writes. Every request of his uses a new handle.
struct Visitor {
    db: Db,
    key: usize,
    is_careful: bool,
    token: Option<throng_db::Token>,
    /// What the last requests did.
    past: Vec<String>,
    acknowledged: Arc<AtomicI64>,
    seen: Vec<i64>,
}

impl Visitor {
    async fn visit(&mut self, tally: &Tally) {
        while !tally.stop.load(Ordering::Relaxed) {
            let request = self.db.visitor(self.token);
            for step in 0..4 {
                let done = if fastrand().is_multiple_of(12) {
                    self.write(&request).await
                } else {
                    let others = (self.key + step % 2 * (1 + fastrand() % 3)) % VISITORS;
                    self.read(&request, others, tally).await
                };
                if let Err(error) = done {
                    // The site is read-only while it has no primary; that is no error of the read.
                    let is_passing = kind(&error) == Kind::Retry;
                    let count = if is_passing { &tally.refused } else { &tally.failed };
                    count.fetch_add(1, Ordering::Relaxed);
                    assert!(is_passing, "{error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            if request.routes().contains("fresh") {
                tally.on_replicas.fetch_add(1, Ordering::Relaxed);
            }
            if self.is_careful {
                let before = self.token.map(|token| token.to_string());
                self.token = request.token().await;
                let after = self.token.map(|token| token.to_string());
                self.past.push(format!("{before:?} {} {after:?}", request.routes()));
                if self.past.len() > 8 {
                    self.past.remove(0);
                }
            }
        }
    }

    async fn write(&self, db: &Db) -> Result<(), DbErr> {
        let v = self.acknowledged.load(Ordering::Relaxed) + 1;
        let update = format!("UPDATE reg SET v = {v} WHERE id = {} AND v < {v}", self.key);
        db.execute_raw(Statement::from_string(db.get_database_backend(), update)).await?;
        self.acknowledged.store(v, Ordering::Relaxed);
        Ok(())
    }

    async fn read(&mut self, db: &Db, key: usize, tally: &Tally) -> Result<(), DbErr> {
        let v = value(db, key).await?;
        tally.reads.fetch_add(1, Ordering::Relaxed);
        let is_stale = key == self.key && v < self.acknowledged.load(Ordering::Relaxed);
        let is_backwards = v < self.seen[key];
        tally.stale.fetch_add(is_stale.into(), Ordering::Relaxed);
        tally.backwards.fetch_add(is_backwards.into(), Ordering::Relaxed);
        if self.is_careful && (is_stale || is_backwards) {
            let Self { token, past, seen, .. } = &*self;
            let (seen, token) = (seen[key], token.map(|token| token.to_string()));
            let text =
                format!("{v} after {seen} of {key}: {token:?} {} after {past:#?}", db.routes());
            tally.wrong.lock().unwrap().push(text);
        }
        self.seen[key] = self.seen[key].max(v);
        Ok(())
    }
}

async fn value(db: &impl ConnectionTrait, key: usize) -> Result<i64, DbErr> {
    let select = format!("SELECT v FROM reg WHERE id = {key}");
    let select = Statement::from_string(db.get_database_backend(), select);
    let row = db.query_one_raw(select).await?;
    row.ok_or_else(|| DbErr::RecordNotFound(format!("register {key}")))?.try_get("", "v")
}

/// Lets visitors read and write until `reads` reads were checked, while `chaos` plays.
async fn run<T: Send + 'static>(
    db: &Db,
    reads: u64,
    is_careful: bool,
    plays: bool,
    chaos: impl FnOnce(Arc<Tally>) -> T + Send + 'static,
) -> (Arc<Tally>, Vec<i64>, T) {
    let tally = Arc::new(Tally::default());
    let registers: Vec<_> = (0..VISITORS).map(|_| Arc::new(AtomicI64::new(0))).collect();
    let mut visitors = tokio::task::JoinSet::new();
    for (key, acknowledged) in registers.iter().enumerate() {
        let mut visitor = Visitor {
            db: db.clone(),
            key,
            is_careful,
            token: None,
            past: Vec::new(),
            acknowledged: acknowledged.clone(),
            seen: vec![0; VISITORS],
        };
        let tally = tally.clone();
        visitors.spawn(async move { visitor.visit(&tally).await });
    }
    let playing = tokio::task::spawn_blocking({
        let tally = tally.clone();
        move || chaos(tally)
    });
    while tally.reads.load(Ordering::Relaxed) < reads {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(gone) = visitors.try_join_next() {
            gone.unwrap();
        }
        // One that ends by itself has failed, and tells why below.
        if playing.is_finished() && plays {
            break;
        }
    }
    tally.stop.store(true, Ordering::Relaxed);
    let kept = playing.await.unwrap();
    while let Some(done) = visitors.join_next().await {
        done.unwrap();
    }
    (tally, registers.iter().map(|register| register.load(Ordering::Relaxed)).collect(), kept)
}

async fn make_registers(db: &Db) {
    let create = "CREATE TABLE reg (id int PRIMARY KEY, v bigint NOT NULL) WITH (fillfactor = 50)";
    db.execute_unprepared(create).await.unwrap();
    let fill =
        format!("INSERT INTO reg SELECT n, 0 FROM generate_series(0, {}) AS n", VISITORS - 1);
    db.execute_unprepared(&fill).await.unwrap();
    crate::postgres::make_table(db).await;
    crate::postgres::settle(db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_reads_less_than_he_wrote_or_read_while_servers_pause_hang_die_and_are_promoted() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    cluster.set(0, "synchronous_standby_names", "ANY 1 (r1, r2)");
    let db = Db::open(&cluster.url("?max_lag=500ms")).await.unwrap();
    make_registers(&db).await;
    let reads = if std::env::var_os("THRONG_TEST_LONG").is_some() { 1_000_000 } else { 100_000 };
    let start = std::time::Instant::now();
    let url = cluster.url("").parse().unwrap();
    let runtime = tokio::runtime::Handle::current();
    let (tally, acknowledged, cluster) = run(&db, reads, true, true, move |tally| {
        let is_half_done = || tally.reads.load(Ordering::Relaxed) > reads / 2;
        let pause = |ms| std::thread::sleep(Duration::from_millis(ms));
        let mut is_promoted = false;
        while !tally.stop.load(Ordering::Relaxed) {
            let at = 1 + fastrand() % 2;
            match fastrand() % 4 {
                _ if is_half_done() && !is_promoted => {
                    is_promoted = true;
                    cluster.kill(0);
                    let promoted = runtime.block_on(throng_db::promote(&url)).unwrap();
                    println!("promoted {} in {} ms", promoted.name, promoted.took_ms);
                }
                _ if is_promoted => {}
                0 => {
                    cluster.pause_replay(at);
                    pause(20 + fastrand() as u64 % 700);
                    cluster.resume_replay(at);
                }
                1 => {
                    cluster.freeze(at);
                    pause(20 + fastrand() as u64 % 900);
                    cluster.thaw(at);
                }
                2 => {
                    cluster.connect_replica(at, false);
                    pause(20 + fastrand() as u64 % 700);
                    cluster.connect_replica(at, true);
                }
                _ => {
                    cluster.kill(at);
                    pause(50);
                    cluster.restart(at);
                }
            }
            pause(fastrand() as u64 % 100);
        }
        cluster // the servers must outlive the last reads
    })
    .await;
    println!("{tally:?} in {} s", start.elapsed().as_secs());
    tally.wrong.lock().unwrap().iter().for_each(|wrong| println!("{wrong}"));
    for (key, acknowledged) in acknowledged.into_iter().enumerate() {
        let kept = value(&db.primary(), key).await.unwrap();
        assert!(kept >= acknowledged, "register {key}: {acknowledged} acknowledged, {kept} kept");
    }
    assert_eq!(tally.stale.load(Ordering::Relaxed), 0, "reads that missed an own write");
    assert_eq!(tally.backwards.load(Ordering::Relaxed), 0, "reads that went back in time");
    assert!(tally.on_replicas.load(Ordering::Relaxed) > 0, "replicas were used");
    drop(cluster);
}

/// The control: without the tokens the same visitors do see the past, so the check can fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_tokens_visitors_do_miss_their_writes() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    for at in [1, 2] {
        cluster.set(at, "recovery_min_apply_delay", "30ms");
    }
    let db = Db::open(&cluster.url("")).await.unwrap();
    make_registers(&db).await;
    let (tally, ..) = run(&db, 2_000, false, false, |_| {}).await;
    assert!(tally.stale.load(Ordering::Relaxed) > 0, "{tally:?}");
    let (tally, ..) = run(&db, 2_000, true, false, |_| {}).await;
    assert_eq!(tally.stale.load(Ordering::Relaxed), 0, "{tally:?}");
}

/// Random enough to play with, without a dependency.
fn fastrand() -> usize {
    use std::hash::{BuildHasher, RandomState};

    RandomState::new().hash_one(0_u8) as usize
}

const VISITORS: usize = 16;
