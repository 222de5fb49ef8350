//! The classifier against statements that are known to write, and against SQLite itself.

use proptest::{prelude::*, sample::select};
use sea_orm::DbBackend;
use throng_db::{Classifier, Db, Verdict};

/// A place in a read where anything may hide without changing what the statement does.
fn blank() -> impl Strategy<Value = String> {
    select(vec![" ", "\n\t", " /* DELETE */ ", " -- INSERT\n", "  "]).prop_map(str::to_owned)
}

/// A value that looks like a statement but is only text.
fn value() -> impl Strategy<Value = String> {
    select(vec!["1", "'; DELETE FROM t'", "'it''s'", "-2.5e3", "0xff", "NULL", "'-- '", "'/*'"])
        .prop_map(str::to_owned)
}

fn source() -> impl Strategy<Value = String> {
    select(vec![
        "t",
        "\"t\"",
        "t AS \"update\"",
        "t JOIN t AS u ON (t.a = u.a)",
        "(SELECT a FROM t) AS v",
    ])
    .prop_map(str::to_owned)
}

fn read() -> impl Strategy<Value = String> {
    (blank(), value(), source(), blank(), value()).prop_map(
        |(blank, value, source, other, bound)| {
            format!("{blank}SELECT{other}count(*), {value} FROM {source}{blank}WHERE 1 = {bound}")
        },
    )
}

/// A statement of which a part writes, whatever stands around it.
fn write() -> impl Strategy<Value = String> {
    let core = select(vec![
        "INSERT INTO t (a) VALUES ({})",
        "UPDATE t SET a = {}",
        "DELETE FROM t WHERE a = {}",
        "REPLACE INTO t (a) VALUES ({})",
        "WITH x AS (SELECT {}) INSERT INTO t (a) SELECT * FROM x",
        "WITH x (y) AS (SELECT {}) DELETE FROM t WHERE a IN (SELECT y FROM x)",
        "INSERT INTO t (a) VALUES ({}) RETURNING a",
        "CREATE TABLE u AS SELECT {}",
        "PRAGMA user_version = 7 -- {}",
        "DROP TABLE IF EXISTS v -- {}",
    ]);
    (blank(), core, value(), blank()).prop_map(|(blank, core, value, tail)| {
        format!("{blank}{}{tail}", core.replace("{}", &value))
    })
}

proptest! {
    #[test]
    fn what_writes_is_never_a_read(sql in write()) {
        for backend in [DbBackend::Sqlite, DbBackend::Postgres, DbBackend::MySql] {
            let classifier = Classifier::new(backend);
            prop_assert_ne!(classifier.classify(&sql), Verdict::Read, "{}", sql);
        }
    }

    #[test]
    fn a_read_with_a_write_behind_it_is_not_a_read(read in read(), write in write()) {
        for backend in [DbBackend::Sqlite, DbBackend::Postgres, DbBackend::MySql] {
            let classifier = Classifier::new(backend);
            let both = format!("{read};{write}");
            prop_assert_ne!(classifier.classify(&both), Verdict::Read, "{}", both);
        }
    }

    #[test]
    fn plain_reads_are_found(sql in read()) {
        for backend in [DbBackend::Sqlite, DbBackend::Postgres, DbBackend::MySql] {
            let classifier = Classifier::new(backend);
            prop_assert_eq!(classifier.classify(&sql), Verdict::Read, "{}", sql);
            prop_assert_eq!(classifier.classify(&sql), classifier.scan(&sql));
        }
    }

    #[test]
    fn any_text_gets_a_verdict(sql in ".*") {
        for backend in [DbBackend::Sqlite, DbBackend::Postgres, DbBackend::MySql] {
            let classifier = Classifier::new(backend);
            prop_assert_eq!(classifier.classify(&sql), classifier.scan(&sql));
        }
    }
}

/// SQLite is the judge: on a connection that can only read, every read works and every write fails.
#[test]
fn sqlite_agrees() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (db, mut conn) = runtime.block_on(async {
        let db = Db::sqlite(folder.path().join("site.db")).await.unwrap();
        let create = "CREATE TABLE t (a int); INSERT INTO t VALUES (1)";
        sea_orm::ConnectionTrait::execute_unprepared(&db, create).await.unwrap();
        let conn = db.read().raw::<sqlx::Sqlite>().await.unwrap();
        (db, conn)
    });
    let mut runner = proptest::test_runner::TestRunner::default();
    let run = |sql: String, conn: &mut sqlx::SqliteConnection| {
        runtime.block_on(sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(conn))
    };
    let conn = std::cell::RefCell::new(&mut *conn);
    runner
        .run(&read(), |sql| {
            let done = run(sql.clone(), &mut conn.borrow_mut());
            prop_assert!(done.is_ok(), "{}: {:?}", sql, done);
            Ok(())
        })
        .unwrap();
    runner
        .run(&write(), |sql| {
            let is_harmless = sql.contains("DROP TABLE IF EXISTS") || sql.contains("user_version");
            let done = run(sql.clone(), &mut conn.borrow_mut());
            prop_assert!(done.is_err() || is_harmless, "{}", sql);
            Ok(())
        })
        .unwrap();
    drop(db);
}
