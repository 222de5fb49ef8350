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
    routing();
    sqlite().await;
    #[cfg(feature = "postgres")]
    postgres::all().await;
}

fn routing() {
    let classifier = Classifier::new(sea_orm::DbBackend::Postgres);
    let sql = r#"SELECT "event"."id", "event"."name", "event"."city", "event"."starts_at_ms" FROM "event" WHERE "event"."id" = $1 LIMIT $2"#;
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
    line("routing of a known statement", "ns", ours, scan, "scanning it", "ours <= 100");
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

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name in parentheses");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

fn line(case: &str, unit: &str, ours: f64, peer: f64, peer_name: &str, target: &str) {
    let line = serde_json::json!({
        "case": case, "unit": unit, "ours": ours, "peer": peer, "peer_name": peer_name,
        "target": target,
    });
    println!("{line}");
}

#[cfg(feature = "postgres")]
mod postgres {
    use sea_orm::PaginatorTrait;

    use super::*;
    use crate::servers::postgres::Postgres;

    pub(crate) async fn all() {
        let Some(cluster) = Postgres::start(2) else { return println!("skip: no PostgreSQL") };
        let options = "?statement_timeout=0ms";
        let db = Db::open(&cluster.url_of(&[0], options)).await.expect("a database");
        fill(&db).await;
        reads(&cluster, &db).await;
        drop(db);
        share(&cluster).await;
        failover(cluster).await;
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
        let before = reads_on_replicas(&db);
        let mut count = 0;
        for round in 0..100 {
            let writes = db.visitor(None);
            let update = format!("UPDATE event SET city = 'Porto {round}' WHERE id = 7");
            writes.execute_unprepared(&update).await.expect("a write works");
            let token = writes.token().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let next = db.visitor(token);
            for _ in 0..10 {
                event::Entity::find_by_id(7).one(&next).await.expect("a read works");
                count += 1;
            }
        }
        let share = (reads_on_replicas(&db) - before) as f64 * 100.0 / f64::from(count);
        let case = "reads on replicas after a write";
        line(case, "%", share, 0.0, "a 2 s clock pin", "ours >= 95");
        db.close().await;
    }

    fn reads_on_replicas(db: &Db) -> u64 {
        let servers = db.status().servers;
        servers.iter().filter(|server| server.role == "replica").map(|server| server.reads).sum()
    }

    async fn failover(cluster: Postgres) {
        cluster.set(0, "synchronous_standby_names", "ANY 1 (r1, r2)");
        let url = cluster.url("");
        let db = Db::open(&url).await.expect("a database");
        let backend = db.get_database_backend();
        let mut acknowledged = 0;
        let insert = |n: i64| {
            let sql = format!("INSERT INTO event VALUES ({}, 'new', 'Faro', 0)", 1_000_000 + n);
            sea_orm::Statement::from_string(backend, sql)
        };
        for n in 0..200 {
            db.execute_raw(insert(n)).await.expect("a write works");
            acknowledged += 1;
        }
        cluster.kill(0);
        let start = Instant::now();
        while !db.is_read_only() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        throng_db::promote(&url.parse().expect("a URL")).await.expect("a standby is promoted");
        let mut n = 1_000;
        while db.execute_raw(insert(n)).await.is_err() {
            n += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = start.elapsed().as_millis() as f64;
        let case = "kill -9 of the primary to the next write";
        line(case, "ms", took, 30_000.0, "Patroni's default ttl", "ours <= 1000");
        use sea_orm::{ColumnTrait, QueryFilter};
        let kept = event::Entity::find()
            .filter(event::Column::Id.between(1_000_000, 1_000_999))
            .count(&db.primary())
            .await
            .expect("a count works");
        line(
            "acknowledged writes lost",
            "",
            (acknowledged - kept as i64) as f64,
            0.0,
            "",
            "ours <= 0",
        );
    }
}

const ROWS: i64 = 10_000;
const TASKS: i64 = 16;
const READS: i64 = 1_500;
