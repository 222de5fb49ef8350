//! Behind PgBouncer in transaction mode, where every transaction may run on another connection.

use futures_util::StreamExt;
use sea_orm::{ConnectionTrait, DbErr, Statement, StreamTrait};
use throng_db::{Db, conformance};

use crate::{
    postgres::{make_table, read, settle, wait_until, write},
    servers::{self, pgbouncer::PgBouncer, postgres::Postgres},
};

fn start(replicas: usize) -> Option<(Postgres, PgBouncer)> {
    let cluster = Postgres::start(replicas)?;
    // Several, so that two messages of ours do reach two of the server's processes.
    let pooler = PgBouncer::start(&cluster, 4)?;
    Some((cluster, pooler))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms_behind_a_pooler() {
    let Some((_cluster, pooler)) = start(1) else { return servers::skip("no PgBouncer") };
    let db = Db::open(&pooler.url("?pooler=true")).await.unwrap();
    conformance::exercise(&db).await;
    conformance::exercise(&db.visitor(None)).await;
    wait_until("each pooler stands for its server", async || {
        let servers = db.status().servers;
        servers[0].role == "primary" && servers[1].role == "replica"
    })
    .await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_share_the_servers_connections_and_none_loses_a_statement() {
    let Some((cluster, pooler)) = start(1) else { return servers::skip("no PgBouncer") };
    let db = Db::open(&pooler.url("?pooler=true&connections=16")).await.unwrap();
    make_table(&db).await;
    settle(&db).await;
    let run = async |db: Db| {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16_i64 {
            let db = db.clone();
            tasks.spawn(async move {
                for at in 0..40 {
                    // Parameters make the driver prepare it.
                    let sql = format!("SELECT v + $1 AS v FROM r WHERE id = $2 AND {at} >= 0");
                    let values = [task.into(), 1.into()];
                    let backend = db.get_database_backend();
                    let ask = Statement::from_sql_and_values(backend, sql, values);
                    let row = db.visitor(None).query_one_raw(ask).await?;
                    let v: i64 =
                        row.ok_or(DbErr::RecordNotFound(String::new()))?.try_get("", "v")?;
                    assert_eq!(v, task);
                }
                Ok::<_, DbErr>(())
            });
        }
        tasks.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()
    };
    run(db.clone()).await.unwrap();
    let used = cluster.sql(0, "SELECT count(*) FROM pg_stat_activity WHERE datname = 'site'");
    assert!(used.trim().parse::<u32>().unwrap() <= 4, "{used}");

    // The control: without the option statements are prepared, and the pooler mixes them up.
    match Db::open(&pooler.url("?statement_timeout=0ms&connections=16")).await {
        Err(_) => {} // It may even refuse what a connection of ours asks for at its start.
        Ok(db) => drop(run(db).await.expect_err("a statement is not where it was prepared")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tokens_hold_behind_a_pooler() {
    let Some((cluster, pooler)) = start(1) else { return servers::skip("no PgBouncer") };
    let db = Db::open(&pooler.url("?pooler=true&max_lag=5m")).await.unwrap();
    make_table(&db).await;
    settle(&db).await;
    cluster.pause_replay(1);
    let writes = db.visitor(None);
    write(&writes, 7).await.unwrap();
    let token = writes.token().await;
    let next = db.visitor(token);
    assert_eq!(read(&next).await.unwrap(), 7, "in his next request");
    assert!(next.routes().contains("behind 1"), "{}", next.routes());
    assert_eq!(read(&db.visitor(None)).await.unwrap(), 0, "a stranger reads from the replica");
    cluster.resume_replay(1);
    wait_until("the replica serves him again", async || {
        let later = db.visitor(token);
        assert_eq!(read(&later).await.unwrap(), 7);
        later.routes().contains("fresh")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_on_a_connection_that_others_share() {
    let Some((_cluster, pooler)) = start(0) else { return servers::skip("no PgBouncer") };
    let db = Db::open(&pooler.url("?pooler=true")).await.unwrap();
    make_table(&db).await;
    let backend = db.get_database_backend();
    let ask = |sql: &str| Statement::from_string(backend, sql);
    for sql in ["SET search_path = nowhere", "SELECT set_config('search_path', 'nowhere', false)"] {
        let refused = db.query_one_raw(ask(sql)).await.unwrap_err();
        assert!(refused.to_string().contains("SET LOCAL"), "{refused}");
        db.execute_unprepared(sql).await.unwrap_err();
        let tx = db.begin().await.unwrap();
        tx.execute_raw(ask(sql)).await.unwrap_err();
        tx.rollback().await.unwrap();
    }
    let tx = db.begin().await.unwrap();
    tx.execute_unprepared("SET LOCAL search_path = nowhere").await.unwrap();
    read(&tx).await.unwrap_err();
    tx.rollback().await.unwrap();
    for _ in 0..8 {
        read(&db).await.unwrap();
    }
    // A stream that writes commits, and one that is dropped early leaves nothing open.
    let insert = ask("INSERT INTO r SELECT n, n FROM generate_series(2, 100) AS n RETURNING v");
    assert_eq!(db.stream_raw(insert).await.unwrap().count().await, 99);
    drop(db.stream_raw(ask("SELECT v FROM r")).await.unwrap().next().await);
    let count = db.query_one_raw(ask("SELECT count(*) AS v FROM r")).await.unwrap().unwrap();
    assert_eq!(count.try_get::<i64>("", "v").unwrap(), 100);
}
