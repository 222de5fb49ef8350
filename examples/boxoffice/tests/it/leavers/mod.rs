//! Visitors who leave at any byte, while payments fail and workers come and go.

mod books;
mod dice;
mod visitor;
mod wire;

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use boxoffice::{models::seats, tasks::ReleaseSeats};
use sea_orm::{ConnectionTrait, Statement};
use serde_json::Value;
use throng::{
    Clock,
    testing::{Boot, START_MS},
};

use crate::{
    house::{boxoffice, database},
    process::{Process, terminate},
    visit::finish,
};
use dice::Dice;
use visitor::Visitor;

#[test]
fn visitors_who_leave_at_any_byte_leave_nothing_half_done() {
    // A seed that failed is looked at alone with `THRONG_TEST_SEED`.
    let seed = std::env::var("THRONG_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let rounds = if std::env::var_os("THRONG_TEST_LONG").is_some() { 20 } else { 1 };
    for seed in seed.map_or(1..=rounds, |seed| seed..=seed) {
        println!("seed {seed}");
        storm(seed, "false");
        storm(seed, "true");
    }
}

fn storm(seed: u64, has_edge: &str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    import(folder);
    let site = Process::web(folder, &[("THRONG_EDGE_ENABLED", has_edge)]);
    let events = event_ids(&site);
    let pages: Vec<String> = events.iter().map(|event| format!("/events/{event}")).collect();
    let took = answers_in(&site, &pages);
    let open_files = site.open_files();

    let names: Vec<String> = (0..VISITORS).map(|number| format!("visitor{number}")).collect();
    let visitor = |number: usize| {
        let dice = Dice::new(seed, number as u64);
        Visitor::new(names[number].clone(), site.address.clone(), dice)
    };
    // Nobody can follow who is not there yet.
    let mut visitors: Vec<_> = (0..VISITORS).map(visitor).collect();
    visitors.iter_mut().for_each(Visitor::check_session);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let db = runtime.block_on(database(folder));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also when something here fails.
        let _over = Over(&is_over);
        scope.spawn(|| work(folder, &is_over, Dice::new(seed, u64::MAX)));
        for _ in 0..ROUNDS {
            thread::scope(|scope| {
                for visitor in &mut visitors {
                    scope.spawn(|| visitor.visit(TURNS, &events, &names));
                }
            });
            runtime.block_on(books::check(&db));
            for event in &events {
                shows_what_is_there(&runtime, &db, &site, event);
            }
        }
    });
    visitors.iter_mut().for_each(Visitor::check_session);
    until("everything is given back", || {
        is_idle(&runtime, folder, &db) && site.open_files() <= open_files + 8
    });
    let now_takes = answers_in(&site, &pages);
    assert!(now_takes < took * 10 + Duration::from_millis(500), "{now_takes:?}, before {took:?}");
    assert_eq!(site.stop(), Some(0));
    for visitor in &visitors {
        runtime.block_on(books::check_notes(&db, &visitor.name, &visitor.notes));
    }
    let notes = visitors.iter().map(|visitor| &visitor.notes);
    let sum = |of: fn(&visitor::Notes) -> usize| notes.clone().map(of).sum::<usize>();
    let (left, answered) = (sum(|notes| notes.left), sum(|notes| notes.answered));
    let bought = sum(|notes| notes.orders.len());
    println!("{left} left, {answered} were answered, {bought} orders");
    assert!(left > 50 && answered > 50 && bought > 5, "a storm is not this quiet");
    runtime.block_on(db.close());
    runtime.block_on(settle(folder));
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Three events: one that sells out, one for everybody, and one that costs nothing.
fn import(folder: &Path) {
    let lines = [(25, "12.50"), (400, "5"), (150, "0")].map(|(capacity, price)| {
        format!(
            "{{\"name\": \"Storm {capacity}\", \"startDate\": \"2999-01-01\", \
             \"capacity\": {capacity}, \"price\": \"{price}\"}}\n"
        )
    });
    std::fs::write(folder.join("events.jsonl"), lines.concat()).unwrap();
    let mut import = boxoffice(folder).into_std();
    let import = import.args(["import", "events.jsonl"]).stdout(Stdio::null()).status();
    assert!(import.unwrap().success());
}

fn event_ids(site: &Process) -> Vec<String> {
    let events: Value = serde_json::from_str(&site.get("/api/v1/events")).unwrap();
    let events = events["items"].as_array().unwrap().iter();
    events.map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// Workers, one after the other: stopped, or killed, after a while.
fn work(folder: &Path, is_over: &AtomicBool, mut dice: Dice) {
    // A task that was killed three times is dead, as it should be.
    let mut kills = 2;
    while !is_over.load(Ordering::Relaxed) {
        let mut worker: Command = boxoffice(folder).into_std();
        worker.arg("worker").stdout(Stdio::null()).stderr(Stdio::null());
        let mut worker = worker.spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(500 + dice.below(2_000));
        while Instant::now() < until && !is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        if kills > 0 && dice.once_in(2) {
            kills -= 1;
            worker.kill().unwrap();
            worker.wait().unwrap();
        } else {
            terminate(worker.id());
            // Before it listens for signals, one ends it.
            let code = worker.wait().unwrap().code();
            assert!(matches!(code, Some(0) | None), "{code:?}");
        }
    }
}

/// The middle one of how long some pages take.
fn answers_in(site: &Process, pages: &[String]) -> Duration {
    let mut took: Vec<_> = (0..7)
        .flat_map(|_| pages)
        .map(|page| {
            let begun = Instant::now();
            site.get(page);
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[took.len() / 2]
}

/// The page, the API and the stream of an event say how many seats the database has.
fn shows_what_is_there(
    runtime: &tokio::runtime::Runtime,
    db: &throng::db::Db,
    site: &Process,
    event: &str,
) {
    let id = event.parse().unwrap();
    until(&format!("event {event} shows what is there"), || {
        let seats = runtime.block_on(seats::of(db, id)).unwrap().unwrap();
        let words = match seats.free() {
            0 => "Sold out".to_owned(),
            1 => format!("1 seat of {} left", seats.capacity),
            free => format!("{free} seats of {} left", seats.capacity),
        };
        let free = format!("\"free\":{}}}", seats.free());
        site.get(&format!("/events/{event}")).contains(&words)
            && site.get(&format!("/api/v1/events/{event}")).contains(&free)
    });
}

/// Whether no connection of the site is in use, nobody waits for one, and nothing is open that keeps
/// the database's log from being emptied: no transaction, and no statement that was not read.
fn is_idle(runtime: &tokio::runtime::Runtime, folder: &Path, db: &throng::db::Db) -> bool {
    let mut status = boxoffice(folder).into_std();
    let status = status.args(["db", "status", "--json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let pools = status["processes"][0]["database"]["servers"].as_array().unwrap();
    let is_free = |pool: &Value| pool["in_use"] == 0 && pool["waiting"] == 0;
    let log = "PRAGMA wal_checkpoint(TRUNCATE)";
    let log = Statement::from_string(db.get_database_backend(), log);
    let log = runtime.block_on(db.primary().query_one_raw(log)).unwrap().unwrap();
    let is_busy: i32 = log.try_get_by_index(0).unwrap();
    pools.len() == 2 && pools.iter().all(is_free) && is_busy == 0
}

/// An hour later, every task has run: whoever was charged has an order, whoever has one has mail.
async fn settle(folder: &Path) {
    let data = folder.join("data");
    let site = Boot::default().set("data", data.to_str().unwrap()).boot(boxoffice::empty()).await;
    let later_ms = Clock::system().now_ms() - START_MS + 3_600_000;
    site.advance(Duration::from_millis(later_ms.unsigned_abs()));
    let cx = site.ctx();
    site.run_until_idle().await;
    cx.queue.push(ReleaseSeats {}).await.unwrap();
    site.run_until_idle().await;
    books::check_at_the_end(&cx.db, &data.join("mail")).await;
    finish(site).await;
}

/// Asks until it is so. The page cache forgets by itself only after a minute.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come about that {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

const VISITORS: usize = 10;
/// After each, the site has to show what is there.
const ROUNDS: usize = 5;
/// What each visitor does in a round.
const TURNS: usize = 8;
