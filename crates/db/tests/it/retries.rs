//! What a read meets on the way, and where it is sent then; and what others notice of it.

use futures_util::StreamExt;
use sea_orm::{ConnectionTrait, DbErr, Statement, StreamTrait};
use throng_db::{Db, Kind, kind};

use crate::{
    pool::Told,
    postgres::{make_table, read, settle, wait_until, write},
    servers::{self, mariadb::MariaDb, postgres::Postgres},
};

async fn open(cluster: &Postgres, options: &str) -> Db {
    let db = Db::open(&cluster.url(options)).await.unwrap();
    make_table(&db).await;
    settle(&db).await;
    db
}

fn name(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The first column of the first row, asked for in one piece or as a stream.
async fn value(db: &Db, sql: &str, is_stream: bool) -> Result<i64, DbErr> {
    let ask = Statement::from_string(db.get_database_backend(), sql);
    let row = if is_stream {
        db.stream_raw(ask).await?.next().await.unwrap()?
    } else {
        db.query_one_raw(ask).await?.unwrap()
    };
    row.try_get_by_index(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_that_replay_cancels_is_sent_to_another_replica() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "?max_lag=5m&replica_wait=30s").await;
    cluster.set(1, "max_standby_streaming_delay", "0");
    // Long enough to be met by the lock below, and then the second time as well.
    db.execute_unprepared("CREATE VIEW slow AS SELECT v, pg_sleep(2)::text FROM r").await.unwrap();
    wait_until("both know it", async || {
        let known = "SELECT count(*) FROM pg_views WHERE viewname = 'slow'";
        (1..=2).all(|at| cluster.sql_in_site(at, known).trim() == "1")
    })
    .await;
    // With a connection lent on the second replica the next read takes the first.
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut conn = db.read().raw::<sqlx::Postgres>().await.unwrap();
        let port = sqlx::query_scalar::<_, i32>("SELECT inet_server_port()");
        let port = port.fetch_one(&mut *conn).await.unwrap();
        busy.push((port, conn));
    }
    busy.retain(|(port, _)| *port == i32::from(cluster.servers[2].port));
    assert_eq!(busy.len(), 1, "one on each");

    for is_stream in [false, true] {
        let visitor = db.visitor(None);
        let reading = tokio::spawn({
            let visitor = visitor.clone();
            async move { value(&visitor, "SELECT v FROM slow", is_stream).await }
        });
        wait_until("the first replica is at it", async || {
            let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            cluster.sql(1, sleeping).trim() == "1"
        })
        .await;
        cluster.sql_in_site(0, "BEGIN; LOCK TABLE r IN ACCESS EXCLUSIVE MODE; COMMIT");
        assert_eq!(reading.await.unwrap().unwrap(), 0);
        let [first, second] = [1, 2].map(|at| name(cluster.servers[at].port));
        assert_eq!(visitor.routes(), format!("{first} fresh 1, {second} fresh 1"));
    }
    let cancelled = "SELECT sum(confl_lock) FROM pg_stat_database_conflicts";
    wait_until("the server has counted both", async || cluster.sql(1, cancelled).trim() == "2")
        .await;
    assert!(db.status().servers[1].serves_reads, "nothing is wrong with it");
    db.close().await;
}

/// A view hides a call that writes: the replica refuses it, and the primary runs it once.
async fn check_hidden_write(db: &Db, primary: u16) {
    for (wanted, is_stream) in [(1, false), (2, true), (3, false)] {
        let visitor = db.visitor(None);
        assert_eq!(value(&visitor, "SELECT v FROM drawing", is_stream).await.unwrap(), wanted);
        let routes = visitor.routes();
        assert!(routes.ends_with(&format!(" fresh 1, {} writes 1", name(primary))), "{routes}");
        assert!(visitor.token().await.is_some(), "it has written");
    }
    let ask = Statement::from_string(db.get_database_backend(), "SELECT v FROM drawing");
    let reader = db.visitor(None).read();
    reader.query_one_raw(ask).await.expect_err("a handle that reads draws no number");
    assert_eq!(value(db, "SELECT v FROM drawing", false).await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_turns_out_to_write_runs_on_the_primary_once_on_postgres() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "").await;
    let create = "CREATE SEQUENCE s; CREATE VIEW drawing AS SELECT nextval('s') AS v";
    db.execute_unprepared(create).await.unwrap();
    wait_until("the replica knows it", async || {
        let known = "SELECT count(*) FROM pg_views WHERE viewname = 'drawing'";
        cluster.sql_in_site(1, known).trim() == "1"
    })
    .await;
    check_hidden_write(&db, cluster.servers[0].port).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_turns_out_to_write_runs_on_the_primary_once_on_mariadb() {
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    // As every site's user should be: not allowed to write where nobody may.
    cluster.sql(0, "REVOKE READ_ONLY ADMIN, SUPER ON *.* FROM site@'127.0.0.1'");
    cluster.sql(0, "SET GLOBAL log_bin_trust_function_creators = 1");
    cluster.sql(1, "SET GLOBAL log_bin_trust_function_creators = 1");
    let db = Db::open(&cluster.url("")).await.unwrap();
    make_table(&db).await;
    settle(&db).await;
    db.execute_unprepared("CREATE TABLE drawn (n bigint NOT NULL)").await.unwrap();
    db.execute_unprepared("INSERT INTO drawn VALUES (0)").await.unwrap();
    db.execute_unprepared(
        "CREATE FUNCTION draw() RETURNS bigint MODIFIES SQL DATA BEGIN \
         UPDATE drawn SET n = n + 1; RETURN (SELECT n FROM drawn); END",
    )
    .await
    .unwrap();
    db.execute_unprepared("CREATE VIEW drawing AS SELECT draw() AS v").await.unwrap();
    wait_until("the replica knows it", async || {
        let known = "SELECT count(*) FROM information_schema.views WHERE table_name = 'drawing'";
        cluster.sql(1, known).trim() == "1"
    })
    .await;
    check_hidden_write(&db, cluster.servers[0].port).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_to_the_replica_with_the_fewest_under_way() {
    let Some(cluster) = Postgres::start(2) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "").await;
    // Whichever it is, the first connection that is lent makes its replica the busier one.
    let busy = db.read().raw::<sqlx::Postgres>().await.unwrap();
    let lent = || db.status().servers.iter().position(|server| server.in_use > 0).unwrap();
    let (first, other) = (lent(), 3 - lent());
    for _ in 0..10 {
        let visitor = db.visitor(None);
        read(&visitor).await.unwrap();
        assert_eq!(visitor.routes(), format!("{} fresh 1", name(cluster.servers[other].port)));
    }
    drop(busy);
    wait_until("it is lent no more", async || db.status().servers[first].in_use == 0).await;
    wait_until("they take turns", async || {
        let visitor = db.visitor(None);
        read(&visitor).await.unwrap();
        visitor.routes() == format!("{} fresh 1", name(cluster.servers[first].port))
    })
    .await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_waits_for_a_replica_if_told_to_and_not_for_ever() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let patient = open(&cluster, "?max_lag=5m&replica_wait=1h").await;
    let hurried = Db::open(&cluster.url("?max_lag=5m&replica_wait=20ms")).await.unwrap();
    wait_until("the replica serves", async || hurried.status().servers[1].serves_reads).await;
    cluster.pause_replay(1);
    let writes = patient.visitor(None);
    write(&writes, 7).await.unwrap();
    let token = writes.token().await;

    let visitor = hurried.visitor(token);
    assert_eq!(read(&visitor).await.unwrap(), 7);
    let [primary, replica] = [0, 1].map(|at| name(cluster.servers[at].port));
    assert_eq!(visitor.routes(), format!("{primary} behind 1"), "20 ms are over");

    let visitor = patient.visitor(token);
    let reading = tokio::spawn({
        let visitor = visitor.clone();
        async move { read(&visitor).await }
    });
    // Whoever does not wait is served meanwhile.
    assert_eq!(read(&patient.visitor(None)).await.unwrap(), 0);
    assert!(!reading.is_finished(), "{}", visitor.routes());
    cluster.resume_replay(1);
    assert_eq!(reading.await.unwrap().unwrap(), 7);
    assert_eq!(visitor.routes(), format!("{replica} fresh 1"));
    patient.close().await;
    hurried.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_replicas_reads_take_half_of_the_primary_and_writes_get_through() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let db = open(&cluster, "?connections=4").await;
    db.execute_unprepared("CREATE TABLE w (id int)").await.unwrap();
    cluster.kill(1);
    wait_until("the replica is gone", async || db.status().servers[1].role == "gone").await;
    let other = Db::open(&cluster.url_of(&[0], "")).await.unwrap();
    let lock = other.begin().await.unwrap();
    lock.execute_unprepared("LOCK TABLE r IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let visitor = db.visitor(None);
        reads.spawn(async move { (read(&visitor).await, visitor.routes()) });
    }
    let waiting = || {
        let count = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        cluster.sql_in_site(0, count).trim().parse::<u32>().unwrap()
    };
    wait_until("half of the connections read", async || waiting() == 2).await;
    for id in 0..4 {
        db.execute_unprepared(&format!("INSERT INTO w VALUES ({id})")).await.unwrap();
        assert_eq!(waiting(), 2, "and never more");
    }
    lock.rollback().await.unwrap();
    let mut done = 0;
    while let Some(ended) = reads.join_next().await {
        match ended.unwrap() {
            (Ok(_), routes) => {
                assert!(routes.ends_with("no-replica 1"), "{routes}");
                done += 1;
            }
            // On a slow machine the lock was held for longer than a read waits for its turn.
            (Err(error), _) => assert_eq!(kind(&error), Kind::Retry, "{error}"),
        }
    }
    assert!(done >= 2, "{done} reads");
    read(&db.visitor(None)).await.unwrap();
    db.close().await;
}

/// On one thread, whose meters are read.
#[tokio::test]
async fn a_connection_that_an_administrator_ends_takes_no_other_with_it() {
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let told = Told::default();
    let _guard = metrics::set_default_local_recorder(&told);
    let db = open(&cluster, "").await;
    let (ended, goes_on) = (db.begin().await.unwrap(), db.begin().await.unwrap());
    let pid = "SELECT pg_backend_pid()::bigint";
    let pid = Statement::from_string(db.get_database_backend(), pid);
    let pid = ended.query_one_raw(pid).await.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap();
    write(&goes_on, 7).await.unwrap();
    cluster.sql(0, &format!("SELECT pg_terminate_backend({pid}, 10000)"));
    let error = read(&ended).await.unwrap_err();
    assert_eq!(kind(&error), Kind::Retry, "{error}");
    assert!(!db.is_read_only(), "the primary is well");
    goes_on.commit().await.unwrap();
    assert_eq!(read(&db.primary()).await.unwrap(), 7);
    drop(ended);

    // The same for one that is idle on a replica: who reads next does not notice.
    let idle = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
                WHERE application_name = 'throng'";
    assert_ne!(cluster.sql(1, idle).trim(), "0");
    for _ in 0..20 {
        read(&db.visitor(None)).await.unwrap();
    }
    let [primary, replica] = [0, 1].map(|at| name(cluster.servers[at].port));
    let told = |name: &str, of: &str| told.value(&format!("throng_db_{name}{{{of}}}"));
    assert_eq!(told("connections_discarded_total", &primary), 1.0);
    assert!(told("connections_discarded_total", &replica) >= 1.0);
    assert!(told("routed_total", &format!("{primary},writes")) >= 2.0);
    assert!(told("routed_total", &format!("{replica},fresh")) >= 8.0);
    assert_eq!((told("serves_reads", &primary), told("lag_seconds", &primary)), (0.0, 0.0));
    assert!(told("lag_seconds", &replica) < 60.0);
    wait_until("the replica serves", async || told("serves_reads", &replica) == 1.0).await;
    db.close().await;
}

/// A raw connection of a handle that reads takes no writes, also where there is only a primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_connections_for_reading_take_no_writes() {
    let write = "UPDATE r SET v = 1";
    let Some(cluster) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    make_table(&db).await;
    let mut reader = db.read().raw::<sqlx::Postgres>().await.unwrap();
    sqlx::query("SELECT v FROM r").execute(&mut *reader).await.unwrap();
    let refused = sqlx::query(write).execute(&mut *reader).await.unwrap_err();
    assert!(refused.to_string().contains("read-only transaction"), "{refused}");
    drop(reader);
    sqlx::query(write).execute(&mut *db.raw::<sqlx::Postgres>().await.unwrap()).await.unwrap();
    assert_eq!(read(&db).await.unwrap(), 1);

    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    make_table(&db).await;
    let mut reader = db.read().raw::<sqlx::MySql>().await.unwrap();
    sqlx::query("SELECT v FROM r").execute(&mut *reader).await.unwrap();
    let refused = sqlx::query(write).execute(&mut *reader).await.unwrap_err();
    assert!(refused.to_string().contains("READ ONLY transaction"), "{refused}");
    drop(reader);
    sqlx::query(write).execute(&mut *db.raw::<sqlx::MySql>().await.unwrap()).await.unwrap();
    assert_eq!(read(&db).await.unwrap(), 1);
}

/// Errors of the two engines, sorted: whether trying again later can help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_servers_say_whether_trying_again_helps() {
    let check = async |db: &Db, state: &str, wanted: Kind| {
        let sql = match db.get_database_backend() {
            sea_orm::DbBackend::Postgres => {
                format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$")
            }
            _ => format!("SIGNAL SQLSTATE '{state}'"),
        };
        let error = db.execute_unprepared(&sql).await.unwrap_err();
        assert_eq!(kind(&error), wanted, "{state}: {error}");
    };
    let Some(cluster) = Postgres::start(0) else { return servers::skip("no PostgreSQL") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    for state in ["40001", "40P01", "53300", "57014"] {
        check(&db, state, Kind::Retry).await;
    }
    check(&db, "23505", Kind::Refuse).await;
    check(&db, "42P01", Kind::Bug).await;
    let Some(cluster) = MariaDb::start(0) else { return servers::skip("no MariaDB") };
    let db = Db::open(&cluster.url("")).await.unwrap();
    for state in ["40001", "70100"] {
        check(&db, state, Kind::Retry).await;
    }
    check(&db, "42S02", Kind::Bug).await;
}
