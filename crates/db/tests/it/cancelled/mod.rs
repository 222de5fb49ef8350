//! Futures that are dropped anywhere, as those of closed tabs and aborted workers are: what was
//! acknowledged is there, nothing is there by halves, and nothing stays open.
//!
//! `THRONG_TEST_SEED` repeats a run that failed, as far as chance was in our dice.

mod attempt;
mod cut;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::Arc,
};

use sea_orm::ConnectionTrait;
use sqlx::{ConnectOptions, Row};
use throng_db::{Db, outbox};

use self::{
    attempt::{Attempt, BIG_BYTES, BIG_ROWS, MESSAGE, MIGRATED, ROOM, TALLIED},
    cut::{Cut, Dice},
};
use crate::{
    postgres::wait_until,
    servers::{self, mariadb::MariaDb, postgres::Postgres},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_dropped_wherever_leaves_all_or_nothing_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.db");
    let url = format!("sqlite:{}?busy_timeout=60s&readers=2", path.display());
    check(&Outside::File(path), &url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_dropped_wherever_leaves_all_or_nothing_on_postgres() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let url = cluster.url("?connections=4");
    check(&Outside::Postgres(cluster), &url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_dropped_wherever_leaves_all_or_nothing_on_mariadb() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let url = cluster.url("?connections=4");
    check(&Outside::MariaDb(cluster), &url).await;
}

async fn check(outside: &Outside, url: &str) {
    let told = std::env::var("THRONG_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = told.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("THRONG_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let rounds = if std::env::var_os("THRONG_TEST_LONG").is_some() { 100 } else { 2 };
    let mut attempts = Vec::new();
    for round in 0..rounds {
        let options = "&acquire_timeout=2m&statement_cache=10";
        let patient = Db::open(&format!("{url}{options}")).await.unwrap();
        if round == 0 {
            make_tables(&patient).await;
            wait_until("replicas have the tables", async || outside.has_rows()).await;
        }
        // Its statements are cut short anywhere, COMMIT too.
        let hasty_ms = 1 + dice.below(4);
        let hasty = format!("{url}{options}&statement_timeout={hasty_ms}ms");
        let hasty = Db::open(&hasty).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let db = if task % 4 == 0 { hasty.clone() } else { patient.clone() };
            let first = attempts.len();
            attempts.extend((0..TRIES).map(|at| Attempt::new((first + at) as i64 + 1)));
            tasks.spawn(run_all(db, attempts[first..].to_vec(), task % 4 != 0, dice.child()));
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        for db in [&patient, &hasty] {
            wait_until("every connection is back", async || {
                db.status().servers.iter().all(|server| server.in_use == 0)
            })
            .await;
        }
        wait_until("no transaction and no lock is left", async || outside.is_quiet().await).await;
        let last = Attempt::new(attempts.len() as i64 + 1);
        attempts.push(last.clone());
        // One that is not cut: everybody is served as before.
        attempt::last(&patient, &last).await.unwrap();
        outside.verify(&attempts).await;
        patient.close().await;
        hasty.close().await;
    }
}

/// Tries one after the other, and drops most of them somewhere.
async fn run_all(db: Db, attempts: Vec<Arc<Attempt>>, is_patient: bool, mut dice: Dice) {
    for attempt in attempts {
        let cut = Cut::any(&mut dice);
        let n = attempt.n;
        let done = cut.run(attempt::run(db.clone(), attempt.clone(), dice.child())).await;
        if let (true, Cut::Never, Some(Err(error))) = (is_patient, cut, done) {
            panic!("{attempt:?} number {n} met what others had left: {error}");
        }
    }
}

async fn make_tables(db: &Db) {
    for sql in [
        "CREATE TABLE mark (attempt bigint NOT NULL, part bigint NOT NULL)",
        "CREATE TABLE tally (id bigint PRIMARY KEY, n bigint NOT NULL)",
        "CREATE TABLE migrated (n bigint NOT NULL)",
        "CREATE TABLE big (id bigint PRIMARY KEY, words text NOT NULL)",
        "INSERT INTO tally VALUES (1, 0)",
    ] {
        db.execute_unprepared(sql).await.unwrap();
    }
    for id in 0..BIG_ROWS {
        let words = "w".repeat(BIG_BYTES);
        db.execute_unprepared(&format!("INSERT INTO big VALUES ({id}, '{words}')")).await.unwrap();
    }
    let _ = db.migrate(&[outbox::MIGRATIONS]).await.unwrap();
}

/// The database through connections that are not ours.
enum Outside {
    File(PathBuf),
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl Outside {
    /// Whether no transaction is open and no lock is held.
    async fn is_quiet(&self) -> bool {
        match self {
            Self::File(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut conn = options.busy_timeout(PATIENCE).connect().await.unwrap();
                sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(&mut conn).await.is_ok()
            }
            Self::Postgres(cluster) => (0..cluster.servers.len()).all(|at| {
                let open = "SELECT (SELECT count(*) FROM pg_stat_activity \
                                    WHERE state LIKE 'idle in transaction%') \
                                 + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') \
                                 + (SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
                                    WHERE c.relname IN ('mark', 'tally', 'big'))";
                cluster.sql_in_site(at, open).trim() == "0"
            }),
            Self::MariaDb(cluster) => (0..cluster.servers.len()).all(|at| {
                let open = "SELECT count(*) + 1 - IS_FREE_LOCK('throng_migrations') \
                            FROM information_schema.innodb_trx";
                cluster.sql(at, open).trim() == "0"
            }),
        }
    }

    /// Whether every server has what is read.
    fn has_rows(&self) -> bool {
        let (count, wanted) = ("SELECT count(*) FROM big", BIG_ROWS.to_string());
        match self {
            Self::File(_) => true,
            Self::Postgres(cluster) => {
                (0..cluster.servers.len()).all(|at| cluster.sql_in_site(at, count).trim() == wanted)
            }
            Self::MariaDb(cluster) => (0..cluster.servers.len())
                .all(|at| cluster.sql(at, &format!("USE site; {count}")).trim() == wanted),
        }
    }

    /// Two numbers a row.
    async fn pairs(&self, sql: &str) -> Vec<(i64, i64)> {
        let text = match self {
            Self::File(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut conn = options.connect().await.unwrap();
                let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
                let rows = rows.fetch_all(&mut conn).await.unwrap();
                return rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            }
            Self::Postgres(cluster) => cluster.sql_in_site(0, sql),
            Self::MariaDb(cluster) => cluster.sql(0, &format!("USE site; {sql}")),
        };
        let pair = |line: &str| {
            let (one, other) = line.split_once(['|', '\t']).unwrap_or_else(|| panic!("{line}"));
            (one.parse().unwrap(), other.parse().unwrap())
        };
        text.lines().map(pair).collect()
    }

    async fn verify(&self, attempts: &[Arc<Attempt>]) {
        let number = match self {
            Self::File(_) | Self::Postgres(_) => "bigint",
            Self::MariaDb(_) => "signed",
        };
        let start = ROOM.len() + 1;
        let parts = format!(
            "SELECT attempt, part FROM mark \
             UNION ALL SELECT CAST(payload AS {number}), {MESSAGE} FROM throng_outbox \
             UNION ALL SELECT CAST(replace(substr(name, {start}), '_0001_only', '') AS {number}), \
                              {MIGRATED} FROM throng_migrations WHERE name LIKE '{ROOM}%only'"
        );
        // What was sent and not waited for may still be under way on a server.
        let mut wrong = Vec::new();
        for _ in 0..LOOKS {
            let mut there: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
            for (n, part) in self.pairs(&parts).await {
                there.entry(n).or_default().push(part);
            }
            let tallied = there.values().flatten().filter(|part| **part == TALLIED).count() as i64;
            let ledger = there.values().flatten().filter(|part| **part == MIGRATED).count() as i64;
            wrong.clear();
            for attempt in attempts {
                let verdict = attempt.verdict(there.remove(&attempt.n).unwrap_or_default());
                wrong.extend(verdict.err());
            }
            wrong.extend(there.into_iter().map(|left| format!("nobody tried {left:?}")));
            let tally = self.pairs("SELECT id, n FROM tally").await;
            if tally != [(1, tallied)] {
                wrong.push(format!("{tally:?} is in the tally, {tallied} have counted"));
            }
            let migrated = self.pairs("SELECT 1, count(*) FROM migrated").await;
            if migrated != [(1, ledger)] {
                wrong.push(format!("{migrated:?} have migrated, {ledger} are in the ledger"));
            }
            if wrong.is_empty() {
                return;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        panic!("{} of {} are wrong: {wrong:#?}", wrong.len(), attempts.len());
    }
}

const TASKS: usize = 8;
const TRIES: usize = 40;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
const LOOKS: usize = 5;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(200);
