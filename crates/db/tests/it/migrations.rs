//! Migrations: once, in order, whole or not at all.

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use throng_db::{Db, Error, Kind, Migration, Schema};

const FIRST: Migration = Migration::new("m_0001_first", |schema: &mut Schema| {
    schema.sql(schema.backend(), "CREATE TABLE first (a int); CREATE INDEX first_a ON first (a)");
});
const SECOND: Migration = Migration::new("m_0002_second", |schema: &mut Schema| {
    schema.sql(schema.backend(), "ALTER TABLE first ADD COLUMN b int");
    schema.sql(DbBackend::Postgres, "this is for another engine");
});
const BROKEN: Migration = Migration::new("m_0003_broken", |schema: &mut Schema| {
    schema.sql(schema.backend(), "CREATE TABLE half (a int)");
    schema.sql(schema.backend(), "SELEKT");
});

async fn open() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
    (folder, db)
}

async fn has_table(db: &Db, name: &str) -> bool {
    let sql = "SELECT 1 FROM sqlite_master WHERE name = ?";
    let find = Statement::from_sql_and_values(db.get_database_backend(), sql, [name.into()]);
    db.query_one_raw(find).await.unwrap().is_some()
}

#[tokio::test]
async fn they_run_once_and_in_order() {
    let (_folder, db) = open().await;
    assert_eq!(db.migrate(&[&[FIRST]]).await.unwrap().names, ["m_0001_first"]);
    assert_eq!(db.pending(&[&[FIRST], &[SECOND]]).await.unwrap(), ["m_0002_second"]);
    assert_eq!(db.migrate(&[&[FIRST], &[SECOND]]).await.unwrap().names, ["m_0002_second"]);
    assert!(db.migrate(&[&[FIRST], &[SECOND]]).await.unwrap().names.is_empty());
}

#[tokio::test]
async fn one_that_fails_leaves_nothing_and_is_named() {
    let (_folder, db) = open().await;
    let error = db.migrate(&[&[FIRST, SECOND, BROKEN]]).await.unwrap_err();
    assert!(error.to_string().contains("m_0003_broken"), "{error}");
    assert_eq!(error.kind(), Kind::Bug);
    assert!(has_table(&db, "first").await, "those before it are kept");
    assert!(!has_table(&db, "half").await, "nothing of it is");
    assert_eq!(db.pending(&[&[FIRST, SECOND, BROKEN]]).await.unwrap(), ["m_0003_broken"]);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_untouched() {
    let (_folder, db) = open().await;
    let _ = db.migrate(&[&[FIRST, SECOND]]).await.unwrap();
    let error = db.migrate(&[&[FIRST, BROKEN]]).await.unwrap_err();
    assert!(matches!(&error, Error::Newer { name } if name == "m_0002_second"), "{error:?}");
    assert_eq!(error.kind(), Kind::Refuse);
    assert!(!has_table(&db, "half").await);
}

#[tokio::test]
async fn two_of_one_name_are_a_bug() {
    let (_folder, db) = open().await;
    let error = db.migrate(&[&[FIRST], &[FIRST]]).await.unwrap_err();
    assert!(matches!(error, Error::Twice { .. }));
    assert_eq!(error.kind(), Kind::Bug);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_together_apply_each_once() {
    let (folder, _db) = open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = folder.path().join("race.db");
        tasks.spawn(async move {
            let db = Db::sqlite(path).await.unwrap();
            db.migrate(&[&[FIRST, SECOND]]).await.unwrap().names.len()
        });
    }
    let mut applied = 0;
    while let Some(names) = tasks.join_next().await {
        applied += names.unwrap();
    }
    assert_eq!(applied, 2);
}
