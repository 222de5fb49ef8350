//! A site's data from engine to engine: every value arrives, and what does not is told.

use std::path::Path;

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use sea_query::{ColumnDef, ForeignKey, Index, Query, Table};
use throng_core::EngineUrl;
use throng_db::{Copied, Copy, Db, Error, Migration, Progress, Result, Schema};

use crate::servers::{self, mariadb::MariaDb, postgres::Postgres};

const MIGRATIONS: &[Migration] = &[Migration::new("copy_0001_tables", tables)];

fn tables(schema: &mut Schema) {
    let mut id = ColumnDef::new("id");
    // On SQLite a key that is never used again must be an `integer`.
    if schema.backend() == DbBackend::Sqlite {
        id.integer()
    } else {
        id.big_integer()
    };
    // MariaDB's own forgets the fractions of seconds.
    let mut seen_at = ColumnDef::new("seen_at");
    if schema.backend() == DbBackend::MySql {
        seen_at.custom("datetime(6)")
    } else {
        seen_at.timestamp()
    };
    let refers = |column: &'static str| {
        ForeignKey::create()
            .name(format!("refers_by_{column}"))
            .from("person", column)
            .to("person", "id")
            .take()
    };
    schema.table(
        Table::create()
            .table("person")
            .col(id.not_null().primary_key().auto_increment())
            .col(ColumnDef::new("name").string_len(100).not_null())
            .col(ColumnDef::new("is_staff").boolean().not_null())
            .col(ColumnDef::new("score").double())
            .col(ColumnDef::new("price").decimal_len(12, 2))
            .col(ColumnDef::new("picture").blob())
            .col(ColumnDef::new("facts").json())
            .col(ColumnDef::new("token").uuid())
            .col(seen_at)
            .col(ColumnDef::new("boss").big_integer())
            .foreign_key(&mut refers("boss"))
            .take(),
    );
    schema.table(
        Table::create()
            .table("word")
            .col(ColumnDef::new("term").string_len(40).not_null())
            .col(ColumnDef::new("place").integer().not_null())
            .primary_key(Index::create().col("term").col("place"))
            .take(),
    );
    let word = Query::insert()
        .into_table("word")
        .columns(["term", "place"])
        .values_panic(["made by the migration".into(), 1.into()])
        .take();
    schema.statement(&word);
}

/// Fills a new SQLite file.
async fn source(path: &Path, words: i32) -> EngineUrl {
    let db = Db::sqlite(path).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    let tx = db.begin().await.unwrap();
    let sql = "INSERT INTO person VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let token = (0..16_u8).collect::<Vec<_>>();
    let rows: [[Value; 10]; 3] = [
        [
            // Its boss comes later in the order of the keys.
            1.into(),
            "Ada Łovelace 'quoted' \\ 🎟".into(),
            true.into(),
            0.1.into(),
            "12.50".into(),
            vec![0_u8, 255, 39].into(),
            "{\"b\":[1, 2], \"a\":null}".into(),
            token.into(),
            "2026-01-02T03:04:05.678901".into(),
            3.into(),
        ],
        [
            2.into(),
            "".into(),
            false.into(),
            Value::Double(Some(-1.0e300)),
            Value::String(None),
            Value::Bytes(Some(Vec::new())),
            Value::String(None),
            Value::Bytes(None),
            Value::String(None),
            Value::BigInt(None),
        ],
        [
            3.into(),
            "x".repeat(100).into(),
            false.into(),
            Value::Double(None),
            "0.01".into(),
            Value::Bytes(None),
            "[]".into(),
            Value::Bytes(None),
            "1999-12-31 23:59:59".into(),
            3.into(),
        ],
    ];
    tx.execute_unprepared("PRAGMA defer_foreign_keys = ON").await.unwrap();
    for row in rows {
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, row)).await.unwrap();
    }
    for place in 0..words {
        let values = [format!("word {}", place % 97).into(), place.into()];
        let sql = "INSERT INTO word VALUES (?, ?)";
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values))
            .await
            .unwrap();
    }
    // A number that was given and taken back is not given again.
    tx.execute_unprepared("UPDATE sqlite_sequence SET seq = 41 WHERE name = 'person'")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    db.close().await;
    sqlite(path)
}

fn sqlite(path: &Path) -> EngineUrl {
    EngineUrl::parse(&format!("sqlite:{}", path.display())).unwrap()
}

async fn copy(from: &EngineUrl, to: &EngineUrl) -> Result<Copied> {
    let copy = Copy { from, to, migrations: &[MIGRATIONS], skip: &[] };
    let mut last = 0;
    let copied = copy
        .run(&mut |progress: Progress<'_>| {
            assert!(progress.done >= last && progress.done <= progress.total, "{progress:?}");
            last = progress.done;
        })
        .await?;
    assert_eq!(last, copied.rows * 2, "the bar was full");
    Ok(copied)
}

fn check_refusal(done: Result<Copied>, words: &str) {
    let error = done.unwrap_err();
    assert!(matches!(error, Error::Copy(_)) && error.to_string().contains(words), "{error}");
}

/// The number that the next person gets.
async fn next_person(url: &EngineUrl) -> i64 {
    let db = Db::open_with(url, throng_db::Config::default()).await.unwrap();
    let _ = db.migrate(&[MIGRATIONS]).await.unwrap();
    let insert = Query::insert()
        .into_table("person")
        .columns(["name", "is_staff"])
        .values_panic(["next".into(), false.into()])
        .take();
    db.execute(&insert).await.unwrap();
    let select = Statement::from_string(
        db.get_database_backend(),
        "SELECT max(id) AS id FROM person WHERE name = 'next'",
    );
    let row = db.primary().query_one_raw(select).await.unwrap().unwrap();
    let id = row.try_get("", "id").unwrap();
    db.execute_unprepared("DELETE FROM person WHERE name = 'next'").await.unwrap();
    db.close().await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_goes_round_all_engines_and_comes_back_as_it_was() {
    let Some(postgres) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    let Some(mariadb) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    let folder = tempfile::tempdir().unwrap();
    let start = source(&folder.path().join("start.db"), 1_300).await;
    let postgres_url = EngineUrl::parse(&postgres.url("")).unwrap();
    let mariadb_url = EngineUrl::parse(&mariadb.url("")).unwrap();
    mariadb.sql(0, "ALTER DATABASE site CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    let end = sqlite(&folder.path().join("end.db"));
    for (from, to, next) in
        [(&start, &postgres_url, 42), (&postgres_url, &mariadb_url, 43), (&mariadb_url, &end, 44)]
    {
        let copied = copy(from, to).await.unwrap();
        assert_eq!((copied.rows, copied.rows_before), (1_304, 0), "{from} to {to}");
        assert_eq!(next_person(to).await, next, "{to} goes on numbering");
    }
    // Two engines that do not touch: the comparison alone, over the whole round.
    let db = Db::open_with(&end, throng_db::Config::default()).await.unwrap();
    let select = "SELECT name || '|' || score || '|' || price || '|' || hex(picture) || '|' || hex(token) \
                  || '|' || seen_at || '|' || boss AS all_of_it FROM person WHERE id = 1";
    let row = db.query_one_raw(Statement::from_string(DbBackend::Sqlite, select)).await.unwrap();
    let ada: String = row.unwrap().try_get("", "all_of_it").unwrap();
    let token = "000102030405060708090A0B0C0D0E0F";
    let wanted =
        format!("Ada Łovelace 'quoted' \\ 🎟|0.1|12.5|00FF27|{token}|2026-01-02 03:04:05.678901|3");
    assert_eq!(ada, wanted);
    db.close().await;
    let refused =
        postgres.sql_in_site(0, "INSERT INTO person (name, is_staff, boss) VALUES ('', false, 9)");
    assert!(refused.contains("refers_by_boss"), "the foreign key is back: {refused}");
    check_refusal(copy(&start, &postgres_url).await, "the target");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_killed_starts_no_site_and_goes_on_where_it_was() {
    let Some(postgres) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("start.db");
    let from = source(&path, 5_000).await;
    let to = EngineUrl::parse(&postgres.url("")).unwrap();
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let doomed = tokio::spawn({
        let (from, to) = (from.clone(), to.clone());
        async move {
            let copy = Copy { from: &from, to: &to, migrations: &[MIGRATIONS], skip: &[] };
            copy.run(&mut |progress: Progress<'_>| {
                let _ = told.send(progress.done);
            })
            .await
        }
    });
    while hears.recv().await.is_some_and(|done| done < 2_000) {}
    doomed.abort();
    assert!(doomed.await.is_err(), "it was through before it was killed");

    let db = Db::open_with(&to, throng_db::Config::default()).await.unwrap();
    assert!(matches!(db.migrate(&[MIGRATIONS]).await, Err(Error::Unfinished)));
    db.close().await;
    let other = source(&folder.path().join("other.db"), 1).await;
    check_refusal(copy(&other, &to).await, "unfinished copy of another source");

    // What was written in between to a row that has gone over already is found.
    let change = |place: &str| {
        let (path, sql) =
            (path.clone(), format!("UPDATE person SET name = '{place}' WHERE id = 2"));
        async move {
            let db = Db::sqlite(path).await.unwrap();
            db.execute_unprepared(&sql).await.unwrap();
            db.close().await;
        }
    };
    change("late").await;
    check_refusal(copy(&from, &to).await, "person with id 2 differs in `name`");
    change("").await;
    let copied = copy(&from, &to).await.unwrap();
    assert_eq!((copied.rows, copied.rows_before), (5_004, 5_004));
    assert_eq!(next_person(&to).await, 42);
}

#[tokio::test]
async fn what_cannot_be_copied_is_told_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (new, missing) = (sqlite(&at("new.db")), sqlite(&at("missing.db")));
    check_refusal(copy(&missing, &new).await, "is not there");
    let from = source(&at("from.db"), 1).await;
    let db = Db::sqlite(at("from.db")).await.unwrap();
    db.execute_unprepared("CREATE TABLE theirs (id integer PRIMARY KEY)").await.unwrap();
    check_refusal(copy(&from, &new).await, "`--skip theirs`");
    db.execute_unprepared("DROP TABLE theirs; CREATE TABLE keyless (id integer)").await.unwrap();
    let skip = ["keyless".to_owned()];
    let copy_all = Copy { from: &from, to: &new, migrations: &[MIGRATIONS], skip: &skip };
    assert_eq!(copy_all.run(&mut |_| {}).await.unwrap().rows, 5);
    let newer: &[Migration] = &[Migration::new("copy_0002_more", |_| {})];
    let old = Copy { from: &from, to: &new, migrations: &[MIGRATIONS, newer], skip: &[] };
    check_refusal(old.run(&mut |_| {}).await, "lacks the migration `copy_0002_more`");
    let unknown = Copy { from: &from, to: &new, migrations: &[newer], skip: &[] };
    check_refusal(unknown.run(&mut |_| {}).await, "lacks the migration");
    db.close().await;
}
