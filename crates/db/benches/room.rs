//! What a statement costs: routing, a read by primary key beside the same through other pools, and
//! where the reads of a visitor go who has just written.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, EntityTrait};
use throng_db::{Classifier, Db};

#[cfg(feature = "postgres")]
#[path = "../tests/it/servers/mod.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests")]
mod servers;

#[expect(unused_qualifications, unreachable_pub, reason = "SeaORM's macro wants them")]
mod event {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "event")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub name: String,
        pub city: String,
        pub starts_at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::main]
async fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return; // `cargo test --benches` asks, and there is nothing to test here
    }
    classifying();
    sqlite().await;
    #[cfg(feature = "postgres")]
    postgres::all().await;
}

fn classifying() {
    let classifier = Classifier::new(sea_orm::DbBackend::Postgres);
    let sql = SQL;
    let rounds = 2_000_000_u32;
    for _ in 0..1_000 {
        black_box(classifier.classify(black_box(sql)));
    }
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(classifier.classify(black_box(sql)));
    }
    let ours = start.elapsed().as_nanos() as f64 / f64::from(rounds);
    let start = Instant::now();
    for _ in 0..rounds / 20 {
        black_box(classifier.scan(black_box(sql)));
    }
    let scan = start.elapsed().as_nanos() as f64 / f64::from(rounds / 20);
    line("telling a read from a write", "ns", ours, scan, "scanning it anew", "ours <= 100");
}

async fn sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("site.db");
    let db = Db::sqlite(&path).await.expect("a database");
    fill(&db).await;
    let url = format!("sqlite:{}", path.display());
    let mut options = sea_orm::ConnectOptions::new(url);
    options.sqlx_logging(false).max_connections(10);
    let peer = sea_orm::Database::connect(options).await.expect("SeaORM connects");
    let (ours, peers) = compare(&db, &peer).await;
    line("SQLite read by key", "us CPU", ours, peers, "SeaORM on sqlx::Pool", "ratio <= 1");
}

async fn fill(db: &impl ConnectionTrait) {
    let create =
        "CREATE TABLE event (id bigint PRIMARY KEY, name text, city text, starts_at_ms bigint)";
    db.execute_unprepared(create).await.expect("a table");
    for first in (0..ROWS).step_by(500) {
        let rows: Vec<String> = (first..first + 500)
            .map(|id| format!("({id}, 'An evening with number {id}', 'Lisbon', {id})"))
            .collect();
        let insert = format!("INSERT INTO event VALUES {}", rows.join(", "));
        db.execute_unprepared(&insert).await.expect("rows");
    }
}

/// CPU per read of this process, taking turns so that both see the same machine.
async fn compare<A, B>(ours: &A, peer: &B) -> (f64, f64)
where
    A: ConnectionTrait + Clone + Send + 'static,
    B: ConnectionTrait + Clone + Send + 'static,
{
    let (mut best_ours, mut best_peer) = (f64::MAX, f64::MAX);
    for _ in 0..3 {
        best_ours = best_ours.min(cpu_per_read(ours).await);
        best_peer = best_peer.min(cpu_per_read(peer).await);
    }
    (best_ours, best_peer)
}

async fn cpu_per_read<C: ConnectionTrait + Clone + Send + 'static>(db: &C) -> f64 {
    let before = cpu();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let db = db.clone();
        tasks.spawn(async move {
            for at in 0..READS {
                let id = (at * 7 + task * 13) % ROWS;
                let row = event::Entity::find_by_id(id).one(&db).await.expect("a read works");
                black_box(row.expect("the row is there"));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics");
    }
    (cpu() - before).as_secs_f64() * 1e6 / (TASKS * READS) as f64
}

/// User and system time of this process's threads, to the nanosecond.
fn cpu() -> Duration {
    let mut nanos = 0;
    for thread in std::fs::read_dir("/proc/self/task").expect("Linux") {
        let path = thread.expect("a thread").path().join("schedstat");
        // A thread may end in between; those that work here live on.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        nanos += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
    }
    Duration::from_nanos(nanos)
}

fn line(case: &str, unit: &str, ours: f64, peer: f64, peer_name: &str, target: &str) {
    let line = serde_json::json!({
        "case": case, "unit": unit, "ours": ours, "peer": peer, "peer_name": peer_name,
        "target": target,
    });
    println!("{line}");
}

/// A figure without a peer.
#[cfg(feature = "postgres")]
fn told(case: &str, unit: &str, ours: f64, target: &str) {
    let line = serde_json::json!({ "case": case, "unit": unit, "ours": ours, "target": target });
    println!("{line}");
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::{
        collections::HashSet,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use sea_orm::{ColumnTrait, QueryFilter};

    use super::*;
    use crate::servers::postgres::Postgres;

    pub(crate) async fn all() {
        let Some(cluster) = Postgres::start(2) else { return println!("skip: no PostgreSQL") };
        let db = Db::open(&cluster.url_of(&[0], "")).await.expect("a database");
        fill(&db).await;
        reads(&cluster, &db).await;
        drop(db);
        routing(&cluster).await;
        share(&cluster).await;
        failover(cluster).await;
    }

    /// The whole choice for one statement: what it is, what its visitor must see, which server is
    /// far enough and least busy.
    async fn routing(cluster: &Postgres) {
        let db = Db::open(&cluster.url("")).await.expect("a database");
        let writes = db.visitor(None);
        writes.execute_unprepared("UPDATE event SET city = 'Faro' WHERE id = 7").await.expect("ok");
        let visitor = db.visitor(writes.token().await);
        while !visitor.route(SQL).to_string().contains("fresh") {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let rounds = 1_000_000_u32;
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(visitor.route(black_box(SQL)));
        }
        let took = start.elapsed().as_nanos() as f64 / f64::from(rounds);
        let measured = allocation_counter::measure(|| {
            for _ in 0..1_000 {
                black_box(visitor.route(black_box(SQL)));
            }
        });
        told("routing a statement to a replica", "ns", took, "ours <= 100");
        let count = measured.count_total as f64;
        told("allocations of routing 1,000 of them", "", count, "ours <= 0");
        db.close().await;
    }

    async fn reads(cluster: &Postgres, db: &Db) {
        let mut options = sea_orm::ConnectOptions::new(cluster.url_of(&[0], ""));
        options.sqlx_logging(false).max_connections(10);
        let peer = sea_orm::Database::connect(options).await.expect("SeaORM connects");
        let (ours, peers) = compare(db, &peer).await;
        let target = "ratio <= 0.6";
        line("PostgreSQL read by key", "us CPU", ours, peers, "SeaORM on sqlx::Pool", target);
        let mut best = f64::MAX;
        for _ in 0..3 {
            best = best.min(deadpool(cluster).await);
        }
        line("PostgreSQL read by key", "us CPU", ours, best, "deadpool + tokio-postgres", "");
    }

    async fn deadpool(cluster: &Postgres) -> f64 {
        let mut config = deadpool_postgres::Config::new();
        config.url = Some(cluster.url_of(&[0], ""));
        config.pool = Some(deadpool_postgres::PoolConfig::new(10));
        let runtime = Some(deadpool_postgres::Runtime::Tokio1);
        let pool = config.create_pool(runtime, tokio_postgres::NoTls).expect("a pool");
        let before = cpu();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let pool = pool.clone();
            tasks.spawn(async move {
                let sql = "SELECT id, name, city, starts_at_ms FROM event WHERE id = $1 LIMIT 1";
                for at in 0..READS {
                    let id = (at * 7 + task * 13) % ROWS;
                    let conn = pool.get().await.expect("a connection");
                    let statement = conn.prepare_cached(sql).await.expect("a statement");
                    let row = conn.query_one(&statement, &[&id]).await.expect("a row");
                    black_box(event::Model {
                        id: row.get(0),
                        name: row.get(1),
                        city: row.get(2),
                        starts_at_ms: row.get(3),
                    });
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no task panics");
        }
        (cpu() - before).as_secs_f64() * 1e6 / (TASKS * READS) as f64
    }

    /// A visitor writes, and makes a request of ten reads 50 ms later.
    async fn share(cluster: &Postgres) {
        let db = Db::open(&cluster.url("")).await.expect("a database");
        let ours = share_of(&db, async |writes| writes.token().await).await;
        // The same visitor, kept on the primary for 2 s by the clock.
        let pinned = share_of(&db, async |_| {
            let until_ms = throng_core::Clock::system().now_ms() + 2_000;
            Some(format!("c.{until_ms:x}").parse().expect("a token of the clock"))
        });
        let pinned = pinned.await;
        let case = "reads on replicas after a write";
        line(case, "%", ours, pinned, "a 2 s clock pin", "ours >= 95");
        db.close().await;
    }

    async fn share_of(db: &Db, token: impl AsyncFn(&Db) -> Option<throng_db::Token>) -> f64 {
        let before = reads_on_replicas(db);
        let mut count = 0;
        for round in 0..100 {
            let writes = db.visitor(None);
            let update = format!("UPDATE event SET city = 'Porto {round}' WHERE id = 7");
            writes.execute_unprepared(&update).await.expect("a write works");
            let token = token(&writes).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let next = db.visitor(token);
            for _ in 0..10 {
                event::Entity::find_by_id(7).one(&next).await.expect("a read works");
                count += 1;
            }
        }
        (reads_on_replicas(db) - before) as f64 * 100.0 / f64::from(count)
    }

    fn reads_on_replicas(db: &Db) -> u64 {
        let servers = db.status().servers;
        servers.iter().filter(|server| server.role == "replica").map(|server| server.reads).sum()
    }

    /// Eight writers go on while the primary is killed and a standby is promoted.
    async fn failover(cluster: Postgres) {
        cluster.set(0, "synchronous_standby_names", "ANY 1 (r1, r2)");
        let url = cluster.url("");
        let db = Db::open(&url).await.expect("a database");
        let mut writers = tokio::task::JoinSet::new();
        let stop = Arc::new(AtomicBool::new(false));
        for writer in 1..=WRITERS {
            let (db, stop) = (db.clone(), stop.clone());
            writers.spawn(async move {
                let mut acknowledged = Vec::new();
                let mut id = writer * 1_000_000;
                while !stop.load(Ordering::Relaxed) {
                    id += 1;
                    let insert = format!("INSERT INTO event VALUES ({id}, 'new', 'Faro', 0)");
                    if db.execute_unprepared(&insert).await.is_ok() {
                        acknowledged.push((id, Instant::now()));
                    } else {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
                acknowledged
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let start = Instant::now();
        cluster.kill(0);
        while !db.is_read_only() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let noticed = Instant::now();
        throng_db::promote(&url.parse().expect("a URL")).await.expect("a standby is promoted");
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        stop.store(true, Ordering::Relaxed);
        let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
        let first = acknowledged.iter().map(|(_, at)| *at).filter(|at| *at > noticed).min();
        let took = first.expect("a write was acknowledged by the new primary") - start;
        let case = "kill -9 of the primary to the next write";
        let took = took.as_secs_f64() * 1e3;
        line(case, "ms", took, 30_000.0, "Patroni's default ttl, not measured", "ours <= 1000");
        let kept = event::Entity::find().filter(event::Column::Id.gt(1_000_000));
        let kept = kept.all(&db.primary()).await.expect("a read works");
        let kept: HashSet<i64> = kept.into_iter().map(|row| row.id).collect();
        let lost = acknowledged.iter().filter(|(id, _)| !kept.contains(id)).count();
        let case = format!("lost of {} acknowledged writes", acknowledged.len());
        told(&case, "", lost as f64, "ours <= 0");
    }
}

const ROWS: i64 = 10_000;
const TASKS: i64 = 16;
const READS: i64 = 3_000;
#[cfg(feature = "postgres")]
const WRITERS: i64 = 8;
/// What SeaORM makes of a read by key.
const SQL: &str = r#"SELECT "event"."id", "event"."name", "event"."city", "event"."starts_at_ms" FROM "event" WHERE "event"."id" = $1 LIMIT $2"#;
