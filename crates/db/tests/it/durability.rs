//! What was acknowledged survives kill -9.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use sea_orm::ConnectionTrait;
use throng_db::Db;

use crate::sqlite::{count, insert};

/// Not a test of its own: the child of the one below, which writes until it is killed.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Ok(path) = std::env::var(PATH) else { return };
    let db = Db::sqlite(path).await.unwrap();
    for n in 0.. {
        insert(&db, n).await.unwrap();
        println!("acknowledged {n}");
    }
}

#[tokio::test]
async fn kill_9_loses_no_acknowledged_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.db");
    let db = Db::sqlite(&path).await.unwrap();
    db.execute_unprepared("CREATE TABLE t (id integer PRIMARY KEY, n int)").await.unwrap();
    let mut acknowledged = 0;
    for _ in 0..5 {
        acknowledged += tokio::task::spawn_blocking({
            let path = path.clone();
            move || write_and_kill(&path)
        })
        .await
        .unwrap();
        let kept = count(&db.primary()).await;
        // The commit in flight may have made it without being acknowledged.
        assert!((acknowledged..=acknowledged + 1).contains(&kept), "{acknowledged} became {kept}");
        acknowledged = kept;
    }
    assert!(acknowledged >= 100);
    let check =
        sea_orm::Statement::from_string(db.get_database_backend(), "PRAGMA integrity_check");
    let row = db.query_one_raw(check).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "ok");
}

/// Gives the number of commits that the child acknowledged before it was killed.
fn write_and_kill(path: &Path) -> i64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "durability::child_that_writes_until_it_is_killed", "--nocapture"])
        .env(PATH, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is_written = |line: &str| line.contains("acknowledged");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut count = lines.by_ref().filter(|line| is_written(line)).take(40).count();
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    count += lines.filter(|line| is_written(line)).count();
    count as i64
}

const PATH: &str = "THRONG_TEST_DURABILITY_PATH";
