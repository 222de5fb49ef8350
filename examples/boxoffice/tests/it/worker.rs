//! A worker that dies in the middle loses no task.

use std::{path::Path, process::Stdio, time::Duration};

use boxoffice::models::orders;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use throng::db::Db;
use tokio::process::Child;

use crate::{
    house::{boxoffice, database},
    race::one_event,
};

fn worker(folder: &Path) -> Child {
    let mut command = boxoffice(folder);
    command.arg("worker").stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

async fn mailed(db: &Db) -> u64 {
    let mailed = orders::Column::MailedAtMs.is_not_null();
    orders::Entity::find().filter(mailed).count(db).await.unwrap()
}

/// Waits for another process, so on real time; the limit is for a test that has failed.
async fn until_mailed(db: &Db, wanted: u64) {
    let all = async {
        while mailed(db).await < wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let is_done = tokio::time::timeout(Duration::from_secs(240), all).await.is_ok();
    assert!(is_done, "only {} of {wanted} were mailed", mailed(db).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_a_thousand_tasks_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let event = one_event(folder, 1_000, "").await.to_string();
    let mut crowd = boxoffice(folder);
    crowd.args(["rehearse", &event, "--buyers", "1000"]).stdout(Stdio::null());
    assert!(crowd.status().await.unwrap().success());
    let db = database(folder).await;
    assert_eq!(orders::Entity::find().count(&db).await.unwrap(), 1_000);

    let mut doomed = worker(folder);
    until_mailed(&db, 150).await;
    doomed.kill().await.unwrap();
    assert!(mailed(&db).await < 1_000, "the worker was through before it was killed");
    let mut heir = worker(folder);
    until_mailed(&db, 1_000).await;
    heir.kill().await.unwrap();

    let letters = std::fs::read_dir(folder.join("data/mail")).unwrap();
    let is_letter = |path: &Path| path.extension().is_some_and(|end| end == "eml");
    let letters = letters.filter(|entry| is_letter(&entry.as_ref().unwrap().path()));
    assert_eq!(letters.count(), 1_000);
    db.close().await;
}
