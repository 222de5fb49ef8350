//! Schedules fire each of their times once: over restarts, changes of leader and of the clocks.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use throng_queue::{Delivery, Filter, Message, Policy, Schedule, Worker};

use crate::site::{Running, Site};

fn worker(site: &Site, schedule: &Schedule) -> Worker {
    Worker::new(site.queue.clone())
        .on("tick", Policy::default(), |_: Delivery| async {})
        .schedule(schedule.clone())
}

/// The times at which tasks were pushed by the schedule, in the order of the times.
async fn fired(site: &Site, zone: &str) -> Vec<String> {
    let zone = TimeZone::get(zone).unwrap();
    let filter = Filter { limit: 1000, ..Filter::default() };
    let mut fires: Vec<Timestamp> = Vec::new();
    for record in site.queue.list(&filter).await.unwrap() {
        let fire = record.message.header_value("throng_fire").unwrap().as_str().unwrap();
        fires.push(fire.split_once('@').unwrap().1.parse().unwrap());
    }
    fires.sort_unstable();
    let text = |time: Timestamp| time.to_zoned(zone.clone()).strftime("%d %H:%M %z").to_string();
    fires.into_iter().map(text).collect()
}

/// Moves the clock until `count` times have fired, and `after` more steps to see that no more do.
async fn pass(site: &Site, step: Duration, count: usize, after: u32) {
    for _ in 0..20_000 {
        if fired(site, "UTC").await.len() >= count {
            break;
        }
        site.hand.advance(step);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..after {
        site.hand.advance(step);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns when the schedule is known to the database.
async fn known(site: &Site) {
    for _ in 0..5000 {
        let row = "SELECT 1 FROM throng_queue_schedule";
        let statement = Statement::from_string(DbBackend::Sqlite, row);
        if site.db.query_one_raw(statement).await.unwrap().is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("no worker leads");
}

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

#[tokio::test]
async fn a_daily_schedule_keeps_its_wall_clock_time_over_both_changes_of_the_clocks() {
    for (start, expected) in [
        ("2026-03-28T00:00:00Z", ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]),
        ("2026-10-23T23:00:00Z", ["24 02:30 +0200", "25 02:30 +0200", "26 02:30 +0100"]),
    ] {
        let site = Site::at(ms(start)).await;
        let make = || Message::new("tick", ()).unwrap();
        let schedule = Schedule::cron("nightly", "30 2 * * *", "Europe/Berlin", make).unwrap();
        let schedule = schedule.catch_up(Duration::from_secs(86_400));
        let running = Running::start(worker(&site, &schedule));
        known(&site).await;
        pass(&site, Duration::from_secs(900), 3, 8).await;
        assert_eq!(fired(&site, "Europe/Berlin").await, expected);
        running.stop().await;
    }
}

#[tokio::test]
async fn what_was_missed_while_no_worker_ran_fires_once_and_what_is_old_does_not() {
    let site = Site::at(ms("2026-01-01T00:00:30Z")).await;
    let make = || Message::new("tick", ()).unwrap();
    let schedule = Schedule::cron("often", "*/10 * * * *", "UTC", make).unwrap();
    let running = Running::start(worker(&site, &schedule));
    known(&site).await;
    pass(&site, Duration::from_secs(60), 1, 0).await;
    running.stop().await;
    assert_eq!(fired(&site, "UTC").await, ["01 00:10 +0000"]);
    // Down over the two times that follow: both come, and three restarts do not repeat them.
    site.hand.step_to(ms("2026-01-01T00:35:00Z"));
    for _ in 0..3 {
        let running = Running::start(worker(&site, &schedule));
        pass(&site, Duration::ZERO, 3, 3).await;
        running.stop().await;
    }
    assert_eq!(fired(&site, "UTC").await.len(), 3);
    // Down for a week: only what the last hour missed comes.
    site.hand.step_to(ms("2026-01-08T00:35:00Z"));
    let running = Running::start(worker(&site, &schedule));
    pass(&site, Duration::ZERO, 9, 10).await;
    running.stop().await;
    let times = fired(&site, "UTC").await;
    assert_eq!(times.len(), 3 + 6);
    assert_eq!(times[3], "07 23:40 +0000");
}

#[tokio::test]
async fn of_many_workers_one_fires_and_another_takes_over_when_it_goes() {
    let site = Site::at(ms("2026-01-01T00:00:30Z")).await;
    let make = || Message::new("tick", ()).unwrap();
    let schedule = Schedule::every("minutely", Duration::from_secs(60), make).unwrap();
    let mut workers: Vec<Running> =
        (0..3).map(|_| Running::start(worker(&site, &schedule))).collect();
    known(&site).await;
    pass(&site, Duration::from_secs(10), 10, 0).await;
    while workers.len() > 1 {
        workers.remove(0).stop().await;
    }
    pass(&site, Duration::from_secs(10), 20, 0).await;
    workers.remove(0).stop().await;
    let times = fired(&site, "UTC").await;
    let mut unique = times.clone();
    unique.dedup();
    assert_eq!(times, unique, "no time fires twice");
    let last_ms = 60_000 * i64::try_from(times.len()).unwrap();
    let end = Timestamp::from_millisecond(ms("2026-01-01T00:00:00Z") + last_ms).unwrap();
    assert_eq!(
        times.last().unwrap(),
        &end.strftime("%d %H:%M +0000").to_string(),
        "none is missed"
    );
}
