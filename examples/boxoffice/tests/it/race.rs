//! A crowd in several processes, on one database.

use std::{path::Path, process::Stdio};

use boxoffice::models::{events, holds, orders, seats, tickets};
use sea_orm::{EntityTrait, PaginatorTrait};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::house::{boxoffice, database};

#[derive(Deserialize)]
struct Outcome {
    bought: u32,
    sold_out: u32,
    refused: u32,
    failed: u32,
}

/// Brings one event in with the real binary, and gives its id.
pub(crate) async fn one_event(folder: &Path, capacity: u32, price: &str) -> i64 {
    let mut import = boxoffice(folder);
    let mut import =
        import.args(["import", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let line = format!(
        r#"{{"name": "Race", "startDate": "2999-01-01", "capacity": {capacity}, "price": "{price}"}}"#
    );
    import.stdin.take().unwrap().write_all(line.as_bytes()).await.unwrap();
    assert!(import.wait().await.unwrap().success());
    let db = database(folder).await;
    let event = events::Entity::find().one(&db).await.unwrap().unwrap();
    db.close().await;
    event.id
}

async fn crowd(folder: &Path, event: i64, buyers: u32, card: &str) -> Outcome {
    let mut command = boxoffice(folder);
    let (event, buyers) = (event.to_string(), buyers.to_string());
    command.args(["rehearse", &event, "--buyers", &buyers, "--card", card, "--json"]);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_buyers_in_four_processes_buy_exactly_fifty_seats() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let event = one_event(folder, 50, "12.50").await;
    let card = "4242 4242 4242 4242";
    let outcomes = tokio::join!(
        crowd(folder, event, 50, card),
        crowd(folder, event, 50, card),
        crowd(folder, event, 50, card),
        crowd(folder, event, 50, card),
    );
    let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3];
    let sum = |of: fn(&Outcome) -> u32| outcomes.iter().map(of).sum::<u32>();
    assert_eq!((sum(|one| one.bought), sum(|one| one.sold_out)), (50, 150));
    assert_eq!((sum(|one| one.refused), sum(|one| one.failed)), (0, 0));
    let db = database(folder).await;
    let seats = seats::of(&db, event).await.unwrap().unwrap();
    assert_eq!((seats.capacity, seats.sold, seats.held), (50, 50, 0));
    assert_eq!(orders::Entity::find().count(&db).await.unwrap(), 50);
    assert_eq!(tickets::Entity::find().count(&db).await.unwrap(), 50);
    assert_eq!(holds::Entity::find().count(&db).await.unwrap(), 0);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buyers_whose_process_is_killed_take_no_seat_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let event = one_event(folder, 60, "5").await;
    let mut command = boxoffice(folder);
    let event_text = event.to_string();
    command.args(["rehearse", &event_text, "--buyers", "400"]).stdout(Stdio::null());
    let mut doomed = command.spawn().unwrap();
    let db = database(folder).await;
    while orders::Entity::find().count(&db).await.unwrap() < 10 {
        assert!(doomed.try_wait().unwrap().is_none(), "the crowd was through before it was killed");
        tokio::task::yield_now().await;
    }
    doomed.kill().await.unwrap();
    let seats = seats::of(&db, event).await.unwrap().unwrap();
    let held = holds::Entity::find().all(&db).await.unwrap();
    let sold = orders::Entity::find().count(&db).await.unwrap();
    assert_eq!(seats.held, held.iter().map(|hold| hold.quantity).sum::<i32>());
    assert_eq!(u64::try_from(seats.sold).unwrap(), sold);
    assert_eq!(tickets::Entity::find().count(&db).await.unwrap(), sold);
    assert!(seats.sold + seats.held <= seats.capacity, "{seats:?}");
    db.close().await;
}
