//! The site on a PostgreSQL primary with two replicas, which are paused, frozen and killed under it:
//! nobody misses what he has just done.

use std::{
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use boxoffice::models::{Event, events::Form};
use throng::testing::{Boot, Browser};
use tokio::process::Command;

use crate::{
    browser::{Stage, buy, press, wait},
    clusters::{self, postgres::Postgres},
    house::{House, boxoffice},
    live::Stream,
    visit::sign_up,
};

/// What all visitors saw together.
#[derive(Default, Debug)]
struct Seen {
    comments: AtomicU64,
    tickets: AtomicU64,
    missed: AtomicU64,
    failed: AtomicU64,
    on_replicas: AtomicU64,
    stop: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_misses_his_comment_or_ticket_while_replicas_are_paused_frozen_and_killed() {
    let Some(cluster) = Postgres::start(2) else { return clusters::skip("`initdb` is missing") };
    let cluster = Arc::new(cluster);
    let house = on_servers(&cluster.url("?max_lag=2s")).await;
    let seen = Arc::new(Seen::default());
    let mut visitors = tokio::task::JoinSet::new();
    let organiser = house.organiser("olga").await;
    for number in 0..VISITORS {
        let (starts_on, capacity) = ("2099-05-01".into(), "10000".into());
        let form = Form { starts_on, capacity, ..Form::default() };
        let event = house.event(&organiser, form).await;
        let browser = house.site.browser();
        sign_up(&browser, &format!("visitor{number}")).await;
        let seen = seen.clone();
        visitors.spawn(async move { visit(&browser, &event, &seen).await });
    }
    let chaos = tokio::task::spawn_blocking({
        let (cluster, seen) = (cluster.clone(), seen.clone());
        move || play(&cluster, &seen)
    });
    chaos.await.unwrap();
    seen.stop.store(true, Ordering::Relaxed);
    while let Some(visitor) = visitors.join_next().await {
        visitor.unwrap();
    }
    println!("{seen:?}");
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!(count(&seen.missed), 0, "what somebody has just done is missing");
    assert_eq!(count(&seen.failed), 0, "a dead replica costs no request");
    assert!(count(&seen.comments) > 20 && count(&seen.tickets) > 20, "{seen:?}");
    assert!(count(&seen.on_replicas) > 20, "the replicas were of use: {seen:?}");
    let status = house.cx.db.status();
    assert!(status.servers.iter().all(|server| server.role != "rival"), "{status:?}");
    house.site.run_until_idle().await;
    house.site.finish().await;
}

/// One visitor: comments, buys, and looks each time whether it is there.
async fn visit(browser: &Browser, event: &Event, seen: &Seen) {
    let show = format!("/events/{}", event.id);
    for round in 0.. {
        if seen.stop.load(Ordering::Relaxed) {
            return;
        }
        let words = format!("round {round} of a long day");
        let said = browser.post(&format!("{show}/comments"), &[("body", &words)]).await;
        seen.check(said.status() == 303, "post a comment", &format!("{said:?}"));
        let page = browser.get(&show).await;
        seen.check(page.status() == 200, "look at the event", &format!("{page:?}"));
        seen.route(&page);
        seen.find(&seen.comments, page.text().contains(&words), &words);

        let held = browser.post(&format!("{show}/hold"), &[("quantity", "1")]).await;
        let checkout = held.header("location").to_owned();
        let is_held = checkout.starts_with("/checkout/");
        seen.check(is_held, "hold a seat", &format!("{held:?}"));
        if !is_held {
            continue;
        }
        let form = [("attendee", "Ada"), ("email", "ada@example.com")];
        let paid = browser.post(&checkout, &form).await;
        let order = paid.header("location").to_owned();
        let is_paid = order.starts_with("/orders/BX-");
        seen.check(is_paid, "pay", &format!("{paid:?}"));
        if !is_paid {
            continue;
        }
        let page = browser.get(&order).await;
        seen.route(&page);
        seen.find(&seen.tickets, page.status() == 200, &order);
        let tickets = browser.get("/tickets").await;
        seen.route(&tickets);
        seen.find(&seen.tickets, tickets.text().contains(&order), &format!("{order} in /tickets"));
    }
}

impl Seen {
    fn check(&self, is_good: bool, what: &str, answer: &str) {
        if !is_good {
            eprintln!("cannot {what}: {}", &answer[..answer.len().min(600)]);
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn find(&self, count: &AtomicU64, is_there: bool, what: &str) {
        count.fetch_add(1, Ordering::Relaxed);
        if !is_there {
            eprintln!("missed: {what}");
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn route(&self, page: &throng::testing::Answer) {
        if page.header("x-throng-route").contains("fresh") {
            self.on_replicas.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Pauses one replica, freezes the other, kills and restarts it. Takes some three seconds.
fn trouble(cluster: &Postgres) {
    let wait = |ms| std::thread::sleep(Duration::from_millis(ms));
    cluster.pause_replay(1);
    wait(700);
    cluster.freeze(2);
    wait(700);
    cluster.resume_replay(1);
    wait(400);
    cluster.thaw(2);
    wait(300);
    cluster.kill(2);
    wait(500);
    cluster.restart(2);
    wait(500);
}

/// Troubles the replicas until the visitors have seen enough.
fn play(cluster: &Postgres, seen: &Seen) {
    let enough = || {
        let comments = seen.comments.load(Ordering::Relaxed);
        comments > if is_long() { 20_000 } else { 100 }
    };
    let end = Instant::now() + if is_long() { LONG } else { SHORT };
    loop {
        trouble(cluster);
        let is_dead = seen.failed.load(Ordering::Relaxed) > 100;
        if Instant::now() > end || enough() || is_dead {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_has_just_signed_up_is_known_to_another_process_though_no_replica_has_heard_of_him() {
    let Some(cluster) = Postgres::start(2) else { return clusters::skip("`initdb` is missing") };
    let url = cluster.url("?max_lag=600s");
    let [house, other] = [on_servers(&url).await, on_servers(&url).await];
    cluster.pause_replay(1);
    cluster.pause_replay(2);
    let (here, there) = (house.site.browser(), other.site.browser());
    sign_up(&here, "ada").await;
    for name in ["sessionid", "csrftoken", "throng_seen"] {
        there.set_cookie(name, &here.cookie(name).unwrap());
    }
    let tickets = there.get("/tickets").await;
    assert_eq!(tickets.status(), 200, "{tickets:?}");
    cluster.resume_replay(1);
    cluster.resume_replay(2);
    house.site.finish().await;
    other.site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ticket_that_was_ready_before_its_page_listened_is_told_though_no_replica_shows_it() {
    let Some(cluster) = Postgres::start(2) else { return clusters::skip("`initdb` is missing") };
    let house = on_servers(&cluster.url("?max_lag=600s")).await;
    let organiser = house.organiser("olga").await;
    let form = Form { starts_on: "2099-05-01".into(), ..Form::default() };
    let event = house.event(&organiser, form).await;
    let browser = house.site.browser();
    sign_up(&browser, "ada").await;
    let hold = format!("/events/{}/hold", event.id);
    let held = browser.post(&hold, &[("quantity", "1")]).await;
    let form = [("attendee", "Ada"), ("email", "ada@example.com")];
    let paid = browser.post(held.header("location"), &form).await;
    let order = paid.header("location").to_owned();
    assert!(order.starts_with("/orders/BX-"), "{paid:?}");
    let count = "SELECT count(*) FROM orders";
    let is_there = async || (1..=2).all(|at| cluster.sql_in_site(at, count).trim() == "1");
    until("both replicas have the order", is_there).await;
    cluster.pause_replay(1);
    cluster.pause_replay(2);
    house.site.run_until_idle().await;
    let mut live = Stream::open(&browser, &format!("{order}/live")).await;
    let told = tokio::time::timeout(Duration::from_secs(60), live.wait_for("event: ready"));
    told.await.expect("nobody tells the page");
    cluster.resume_replay(1);
    cluster.resume_replay(2);
    house.site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_browser_shows_its_own_comments_and_tickets_while_replicas_fail_under_load() {
    let Some(cluster) = Postgres::start(2) else { return clusters::skip("`initdb` is missing") };
    if Command::new("wrk").arg("-v").stdout(Stdio::null()).status().await.is_err() {
        return clusters::skip("`wrk` is missing");
    }
    let cluster = Arc::new(cluster);
    let url = cluster.url("?max_lag=2s");
    let Some(stage) = Stage::set(&format!("[database]\nurl = \"{url}\"\n")).await else { return };
    let list = format!("http://127.0.0.1:{}/events", stage.port);
    let mut load = Command::new("wrk");
    load.args(["-t1", "-c8", "-d600s"]).arg(&list).stdout(Stdio::null()).kill_on_drop(true);
    let _load = load.spawn().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let _stops = Stops(stop.clone());
    let storm = tokio::task::spawn_blocking({
        let (cluster, stop) = (cluster.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                trouble(&cluster);
            }
        }
    });
    let browser = &stage.browser;
    let visit = async {
        buy(browser, stage.port, stage.folder()).await;
        browser.goto(&list).await.unwrap();
        let first = wait(browser, ".line h3 a").await.attr("href").await.unwrap().unwrap();
        let event = format!("http://127.0.0.1:{}{first}", stage.port);
        for round in 0..if is_long() { 200 } else { 5 } {
            let words = format!("round {round}, and the replicas are away");
            browser.goto(&event).await.unwrap();
            wait(browser, "#f-body").await.send_keys(&words).await.unwrap();
            press(browser, "form[action$=comments] button").await;
            wait(browser, ".note.good").await;
            // As the server drew it: the open page would be told of what is missing.
            let script = "const done = arguments[arguments.length - 1];
                fetch(arguments[0]).then(answer => answer.text()).then(done);";
            let page = browser.execute_async(script, vec![event.clone().into()]).await.unwrap();
            assert!(page.as_str().unwrap().contains(&words), "missed: {words}");
        }
    };
    let outcome = tokio::time::timeout(LONG, visit).await;
    stop.store(true, Ordering::Relaxed);
    storm.await.unwrap();
    stage.browser.clone().close().await.unwrap();
    outcome.expect("the visit takes too long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_site_moves_from_sqlite_to_replicas_by_its_config_and_outlives_its_primary() {
    let Some(cluster) = Postgres::start(2) else { return clusters::skip("`initdb` is missing") };
    cluster.set(0, "synchronous_standby_names", "ANY 1 (r1, r2)");
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("throng.toml"), "[database]\nurl = \"sqlite:data/site.db\"\n")
        .unwrap();
    assert!(run(folder, &["migrate"]).await.0);
    assert!(run(folder, &["seed", "--events", "50"]).await.0);

    let url = cluster.url("");
    let (is_copied, said) = run(folder, &["db", "copy", "sqlite:data/site.db", &url]).await;
    assert!(is_copied && said.contains("each was compared and is equal"), "{said}");
    assert!(
        !run(folder, &["db", "copy", "sqlite:data/site.db", &url]).await.0,
        "not a second time"
    );
    std::fs::write(folder.join("throng.toml"), format!("[database]\nurl = \"{url}\"\n")).unwrap();
    let (is_there, said) = run(folder, &["migrate", "--plan"]).await;
    assert!(is_there && said.contains("nothing to do"), "{said}");
    let (_, said) = run(folder, &["db", "status", "--json"]).await;
    assert_eq!(said.matches("\"replica\"").count(), 2, "{said}");

    // The same site in this process, so that the test can look while servers die.
    let site =
        Boot::default().set("database.url", &url).system_clock().boot(boxoffice::empty()).await;
    let house = House { cx: site.ctx(), site };
    let event = house.sale(10, "").await;
    let show = format!("/events/{}", event.id);
    sign_up(&house.site, "ada").await;
    until("both replicas have it", async || everywhere(&cluster, &event).await).await;
    let stranger = house.site.browser();
    cluster.kill(0);
    let dead = Instant::now();
    until("the site is read-only", async || house.cx.db.is_read_only()).await;
    println!("read-only {} ms after the primary died", dead.elapsed().as_millis());
    let page = stranger.get(&show).await;
    assert_eq!(page.status(), 200, "pages keep coming: {page:?}");
    let refused = house.site.post(&format!("{show}/comments"), &[("body", "now?")]).await;
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    assert!(refused.text().contains("can be read and not changed"), "{}", refused.text());

    assert!(!run(folder, &["db", "status"]).await.0, "it is not well");
    let (is_promoted, said) = run(folder, &["db", "promote"]).await;
    assert!(is_promoted && said.contains("is the primary now"), "{said}");
    cluster.set(1, "synchronous_standby_names", "");
    cluster.set(2, "synchronous_standby_names", "");
    until("writes are taken again", async || {
        let said = house.site.post(&format!("{show}/comments"), &[("body", "at last")]).await;
        said.status() == 303
    })
    .await;
    println!("writes again {} ms after the primary died", dead.elapsed().as_millis());
    assert!(house.site.get(&show).await.text().contains("at last"));
    house.site.run_until_idle().await;
    house.site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_site_set_to_read_only_shows_everything_and_takes_nothing() {
    let Some(cluster) = Postgres::start(0) else { return clusters::skip("`initdb` is missing") };
    let house = on_servers(&cluster.url("")).await;
    let event = house.sale(10, "").await;
    house.site.finish().await;
    let site = Boot::default()
        .set("database.url", &cluster.url("?read_only=true"))
        .system_clock()
        .boot(boxoffice::empty())
        .await;
    let show = format!("/events/{}", event.id);
    assert_eq!(site.get(&show).await.status(), 200);
    let form = [("username", "ada"), ("email", "a@example.com"), ("password", "a short sentence")];
    let refused = site.post("/sign-up", &form).await;
    assert_eq!((refused.status(), refused.header("retry-after")), (503, "2"), "{refused:?}");
    site.finish().await;
}

async fn on_servers(url: &str) -> House {
    let site =
        Boot::default().set("database.url", url).system_clock().boot(boxoffice::empty()).await;
    House { cx: site.ctx(), site }
}

/// Ends the storm when the visit fails, too: the runtime waits for it.
struct Stops(Arc<AtomicBool>);

impl Drop for Stops {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether each replica knows of the event.
async fn everywhere(cluster: &Postgres, event: &Event) -> bool {
    let sql = format!("SELECT count(*) FROM events WHERE id = {}", event.id);
    (1..=2).all(|at| cluster.sql_in_site(at, &sql).trim() == "1")
}

/// Runs the real program; whether it succeeded, and what it said.
async fn run(folder: &Path, words: &[&str]) -> (bool, String) {
    let done = boxoffice(folder).args(words).output().await.unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&said).into_owned())
}

pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(60), "waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_long() -> bool {
    std::env::var_os("THRONG_TEST_LONG").is_some()
}

const VISITORS: usize = 6;
const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(300);
