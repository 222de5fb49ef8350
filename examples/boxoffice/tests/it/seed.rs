//! `boxoffice seed`, and the demo of an empty site.

use std::path::Path;

use boxoffice::models::{
    comments, counters, counters::Counted, events, follows, orders, search, users,
};
use sea_orm::{EntityTrait, PaginatorTrait};

use crate::house::{boxoffice, database};

async fn seed(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = boxoffice(folder).arg("seed").args(arguments).output().await.unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), told)
}

#[tokio::test]
async fn the_same_seed_makes_the_same_site_everywhere() {
    let arguments = ["--events", "300", "--people", "40", "--around", "2026-05-01", "--seed", "7"];
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut sites = Vec::new();
    for folder in [one.path(), two.path()] {
        let (code, told) = seed(folder, &arguments).await;
        assert_eq!(code, Some(0), "{told}");
        let db = database(folder).await;
        sites.push((
            events::Entity::find().all(&db).await.unwrap(),
            users::Entity::find().all(&db).await.unwrap(),
            comments::Entity::find().all(&db).await.unwrap(),
            follows::Entity::find().all(&db).await.unwrap(),
        ));
        db.close().await;
    }
    assert_eq!(sites[0], sites[1]);
    let (events, users, comments, _) = &sites[0];
    assert_eq!((events.len(), users.len(), comments.len()), (300, 40, 600));
    let ahead = events.iter().filter(|event| *event.starts_on >= *"2026-05-01").count();
    assert!((200..260).contains(&ahead), "{ahead} of 300 lie ahead");
}

#[tokio::test]
async fn seeds_can_be_added_each_once_and_counters_are_right() {
    let folder = tempfile::tempdir().unwrap();
    for number in ["1", "2"] {
        let arguments = ["--events", "50", "--people", "20", "--seed", number];
        let (code, told) = seed(folder.path(), &arguments).await;
        assert_eq!(code, Some(0), "{told}");
    }
    let (code, told) = seed(folder.path(), &["--seed", "2"]).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("seed 2 is in already"), "{told}");
    let db = database(folder.path()).await;
    assert_eq!(events::Entity::find().count(&db).await.unwrap(), 100);
    let event = comments::Entity::find().one(&db).await.unwrap().unwrap().event_id;
    let told = counters::of(&db, Counted::Comments(event)).await.unwrap();
    assert!(told > 0);
    assert_eq!(counters::refill(&db, Counted::Comments(event)).await.unwrap(), told);
    db.close().await;
}

#[tokio::test]
async fn an_empty_site_has_a_demo_once() {
    let site = throng::testing::boot(boxoffice::app()).await;
    let cx = site.ctx();
    let shown = events::Entity::find().count(&cx.db).await.unwrap();
    assert!(shown > 20);
    assert_eq!(orders::Entity::find().count(&cx.db).await.unwrap(), 0);
    let found = search::find(&cx.db, "systems days", "2026-01-01", None, 10).await.unwrap();
    let names: Vec<&str> = found.items.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["Systems Days Berlin", "Systems Days Porto"]);
    site.finish().await;
}
