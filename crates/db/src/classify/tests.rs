//! Statements of all kinds and where they go.

use super::*;

const READ: Verdict = Verdict::Read;

fn check(backend: DbBackend, sql: &str, wanted: Verdict) {
    let classifier = Classifier::new(backend);
    assert_eq!(classifier.classify(sql), wanted, "{sql}");
    assert_eq!(classifier.classify(sql), wanted, "the remembered verdict of {sql}");
    assert_eq!(classifier.scan(sql), wanted, "{sql}");
}

fn check_all(sql: &str, wanted: Verdict) {
    for backend in [DbBackend::Sqlite, DbBackend::Postgres, DbBackend::MySql] {
        check(backend, sql, wanted);
    }
}

#[test]
fn plain_reads_are_reads() {
    for sql in [
        "SELECT 1",
        "select * from event where id = 7",
        "  -- a comment\n SELECT 'insert into x' /* delete */ FROM t",
        "SELECT count(*), max(t.update) FROM t WHERE a IN (1, 2.5e-3, 0xff) GROUP BY (b)",
        "(SELECT a FROM x) UNION (SELECT b FROM y) ORDER BY 1 LIMIT 3",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "WITH RECURSIVE up (id, depth) AS (SELECT 1, 0), b(x) AS (VALUES (1)) SELECT * FROM up",
        "EXPLAIN SELECT 1",
        "VALUES (1), (2)",
        "SELECT replace(name, 'a', 'b') FROM t;",
        "SELECT substring(a FROM 1 FOR 3) FROM t",
        "SELECT 'it''s' FROM t",
    ] {
        check_all(sql, READ);
    }
    check(DbBackend::Postgres, "SELECT $$; DELETE FROM t $$, $a$ update $a$, E'\\'' FROM t", READ);
    check(
        DbBackend::Postgres,
        "SELECT \"a\".\"into\" FROM \"delete\" AS \"a\" WHERE x @> $1",
        READ,
    );
    check(DbBackend::Postgres, "SELECT 1 /* a /* nested */ DELETE */", READ);
    check(DbBackend::MySql, "SELECT `a` FROM `update` WHERE x = 'it\\'s' # DELETE", READ);
    check(DbBackend::Sqlite, "SELECT [delete] FROM \"update\"", READ);
    check(DbBackend::Sqlite, "PRAGMA table_info(\"event\")", READ);
    check(DbBackend::Sqlite, "PRAGMA main.user_version;", READ);
}

#[test]
fn what_writes_or_may_write_goes_to_the_primary() {
    use Reason::*;
    for (sql, reason) in [
        ("INSERT INTO t VALUES (1)", Writes),
        ("update t set a = 1", Writes),
        ("CREATE TABLE t (a int)", Writes),
        ("", Unclear),
        ("/* open", Unclear),
        ("SELECT 'open", Unclear),
        ("WITH a AS (DELETE FROM t RETURNING id) SELECT * FROM a", WritesInside),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", WritesInside),
        ("EXPLAIN ANALYZE INSERT INTO t VALUES (1)", WritesInside),
        ("SELECT * INTO copy FROM t", WritesInside),
        ("SELECT * FROM t FOR UPDATE", Locks),
        ("SELECT * FROM t FOR NO KEY UPDATE", Locks),
        ("SELECT * FROM t LOCK IN SHARE MODE", Locks),
        ("SELECT nextval('ids')", Calls),
        ("SELECT pg_advisory_lock(1)", Calls),
        ("SELECT pg_catalog.pg_try_advisory_lock (1)", Calls),
        ("SELECT get_lock('a', 1)", Calls),
        ("SELECT last_insert_id()", Calls),
        ("SELECT random()", Calls),
        ("SELECT my_function(1)", Calls),
        ("SELECT 1; DELETE FROM t", Several),
        ("SELECT 1INTO t", Unclear),
        ("BEGIN", Transaction),
        ("SAVEPOINT a", Transaction),
        ("SET search_path = x", Session),
        ("SHOW ALL", Session),
    ] {
        check_all(sql, Verdict::Primary(reason));
    }
    check(DbBackend::Postgres, "SELECT \"my_function\"(1)", Verdict::Primary(Calls));
    check(
        DbBackend::Postgres,
        "SELECT 1 AS a$b$; DELETE FROM t; SELECT 1 AS c$b$",
        Verdict::Primary(Several),
    );
    check(DbBackend::MySql, "SELECT /*! SQL_NO_CACHE */ 1", Verdict::Primary(Unclear));
    check(DbBackend::MySql, "SELECT @a := 1", Verdict::Primary(Session));
    check(DbBackend::MySql, "SELECT NEXT VALUE FOR ids", Verdict::Primary(Calls));
    check(DbBackend::MySql, "SELECT 1--1, 2\n; DELETE FROM t", Verdict::Primary(Several));
    check(DbBackend::Sqlite, "PRAGMA user_version = 7", Verdict::Primary(Session));
    check(DbBackend::Sqlite, "PRAGMA journal_mode(wal)", Verdict::Primary(Session));
}

#[test]
fn a_known_statement_is_found_without_allocating() {
    let classifier = Classifier::new(DbBackend::Postgres);
    for sql in ["SELECT name FROM event WHERE id = $1", "UPDATE event SET name = $1"] {
        let _ = classifier.classify(sql);
        let known = allocation_counter::measure(|| assert!(classifier.classify(sql) != NEVER));
        assert_eq!(known.count_total, 0, "{sql}");
        let scanned = allocation_counter::measure(|| assert!(classifier.scan(sql) != NEVER));
        assert_eq!(scanned.count_total, 0, "{sql}");
    }
}

/// No verdict on any statement here.
const NEVER: Verdict = Verdict::Primary(Reason::Several);

#[test]
fn what_changes_its_connection_is_told_from_what_only_tells() {
    let check = |backend, sql: &str, wanted: bool| {
        let classifier = Classifier::new(backend);
        let verdict = classifier.classify(sql);
        assert_eq!(classifier.changes_connection(sql, verdict), wanted, "{sql}: {verdict:?}");
    };
    for sql in ["SET search_path = x", "/* a */ set time zone 'utc'", "LISTEN a", "RESET ALL"] {
        check(DbBackend::Postgres, sql, true);
        check(DbBackend::MySql, sql, true);
    }
    check(DbBackend::Postgres, "SELECT set_config('search_path', 'x', false)", true);
    check(DbBackend::MySql, "SELECT @a := 1", true);
    check(DbBackend::MySql, "SET LOCAL sql_mode = ''", true);
    for sql in ["SET LOCAL search_path = x", "SHOW ALL", "SELECT 1", "UPDATE t SET a = 1", ""] {
        check(DbBackend::Postgres, sql, false);
    }
    check(DbBackend::MySql, "SHOW TABLES", false);
    check(DbBackend::Sqlite, "PRAGMA foreign_keys = on", false);
}

#[test]
fn every_reason_survives_the_memory() {
    for reason in REASONS {
        assert_eq!(Verdict::decode(Verdict::Primary(reason).encode()), Verdict::Primary(reason));
    }
    assert_eq!(Verdict::decode(READ.encode()), READ);
}
