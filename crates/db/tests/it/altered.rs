//! Tables that somebody changes, as another version of the program does, under statements that our
//! connections keep prepared.

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};
use throng_db::{Config, Db, Kind, kind};

use crate::{
    postgres::make_table,
    servers::{self, mariadb::MariaDb, postgres::Postgres},
    sqlite::open_with,
};

async fn all(db: &impl ConnectionTrait) -> Result<QueryResult, DbErr> {
    let all = Statement::from_string(db.get_database_backend(), "SELECT * FROM r WHERE id = 1");
    Ok(db.query_one_raw(all).await?.unwrap())
}

async fn returned(db: &impl ConnectionTrait) -> Result<QueryResult, DbErr> {
    let sql = "UPDATE r SET id = 1 WHERE id = 1 RETURNING *";
    let returned = Statement::from_string(db.get_database_backend(), sql);
    Ok(db.query_one_raw(returned).await?.unwrap())
}

/// Runs what every connection keeps, while the table gets and loses columns.
async fn check(db: &Db) {
    make_table(db).await;
    let has_returning = db.support_returning();
    for (change, name, value) in [
        ("ADD COLUMN w bigint NOT NULL DEFAULT 5", "w", 5),
        ("DROP COLUMN v", "w", 5),
        ("ADD COLUMN x bigint NOT NULL DEFAULT 6", "x", 6),
    ] {
        let mut held = Vec::new();
        for _ in 0..db.status().servers[0].size {
            let tx = db.begin().await.unwrap();
            all(&tx).await.unwrap();
            if has_returning && held.is_empty() {
                returned(&tx).await.unwrap();
            }
            held.push(tx);
        }
        for tx in held {
            tx.rollback().await.unwrap();
        }
        all(db).await.unwrap();
        db.execute_unprepared(&format!("ALTER TABLE r {change}")).await.unwrap();
        let row = all(db).await.unwrap();
        assert_eq!(row.try_get::<i64>("", name).unwrap(), value, "{change}");
        if let Ok(v) = row.try_get::<i64>("", "v") {
            assert_eq!(v, 0, "{change}");
        }
        assert_eq!(all(&db.primary()).await.unwrap().try_get::<i64>("", name).unwrap(), value);
        if has_returning {
            // What writes is not sent twice on our own; whoever tries again gets through.
            let row = match returned(db).await {
                Err(error) if kind(&error) == Kind::Retry => returned(db).await,
                done => done,
            };
            assert_eq!(row.unwrap().try_get::<i64>("", name).unwrap(), value, "{change}");
        }
    }
    db.close().await;
}

#[tokio::test]
async fn rows_of_a_table_that_was_changed_come_as_they_are_now_from_sqlite() {
    let (_folder, db) = open_with(Config { readers: 1, ..Config::default() }).await;
    check(&db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_table_that_was_changed_come_as_they_are_now_from_postgres() {
    let Some(cluster) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    check(&Db::open(&cluster.url("?connections=3")).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_table_that_was_changed_come_as_they_are_now_from_mariadb() {
    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    check(&Db::open(&cluster.url("?connections=3")).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_meets_a_changed_table_can_be_tried_again_on_postgres() {
    let Some(cluster) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    let db = Db::open(&cluster.url("?connections=1")).await.unwrap();
    make_table(&db).await;
    all(&db).await.unwrap();
    cluster.sql_in_site(0, "ALTER TABLE r ALTER COLUMN v TYPE int");
    let tx = db.begin().await.unwrap();
    let error = all(&tx).await.unwrap_err();
    assert_eq!(kind(&error), Kind::Retry, "{error}");
    tx.rollback().await.unwrap();
    let tx = db.begin().await.unwrap();
    assert_eq!(all(&tx).await.unwrap().try_get::<i32>("", "v").unwrap(), 0);
    tx.commit().await.unwrap();
    db.close().await;
}
