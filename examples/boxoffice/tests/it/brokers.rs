//! The site as a web process and a worker process, with its queue in the database, on Redis and on two
//! RabbitMQ nodes: only `queue.url` differs. The worker is killed in the middle.

use std::{net::TcpListener, path::PathBuf, process::Stdio, time::Duration};

use boxoffice::models::{Event, events, facets, orders, organisers, search, seats, users, views};
use futures_util::StreamExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use throng::{
    db::Db,
    web::{Body, Request, Response},
};
use tokio::process::{Child, Command};

use crate::house::{boxoffice, database};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_sells_mails_searches_and_counts_with_its_tasks_in_the_database() {
    check("database:").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_sells_mails_searches_and_counts_with_its_tasks_on_redis() {
    let Ok(url) = std::env::var("THRONG_TEST_REDIS_URL") else {
        println!("skip: THRONG_TEST_REDIS_URL is not set");
        return;
    };
    // Other tests use the server too.
    check(&format!("{url}?prefix=boxoffice-{}.", std::process::id())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_sells_mails_searches_and_counts_with_its_tasks_on_two_rabbitmq_nodes() {
    let Ok(url) = std::env::var("THRONG_TEST_RABBITMQ_URL") else {
        println!("skip: THRONG_TEST_RABBITMQ_URL is not set");
        return;
    };
    assert!(url.contains(','), "two nodes: {url}");
    check(&url).await;
}

async fn check(url: &str) {
    let place = Place::new(url).await;
    let mut web = place.start("web");
    let visitor = place.visitor().await;
    let db = database(&place.folder).await;
    let event = event_of_ana(&db).await;

    // A rehearsal in a process of its own, an order through the web, views, and another name.
    let rehearsal = place.run(&["rehearse", &event.id.to_string(), "--buyers", BUYERS]).await;
    assert!(rehearsal.status.success(), "{rehearsal:?}");
    visitor.buy(&event).await;
    for _ in 0..VIEWS {
        visitor.open(&format!("/events/{}/live?opened=true", event.id)).await;
    }
    visitor.rename(&db, &event, "Quizzical Zebras", "Xanten").await;
    let wanted = orders::Entity::find().count(&db).await.unwrap();
    assert!(wanted > 200, "{wanted} orders");
    assert_eq!(mailed(&db).await, 0, "nobody works yet");

    let mut doomed = place.start("worker");
    until("some tickets are mailed", async || mailed(&db).await >= 20).await;
    doomed.kill().await.unwrap();
    let before = mailed(&db).await;
    assert!(before < wanted, "the worker was through before it was killed");

    // The heir does what is left, what the dead one held included.
    let mut heir = place.start("worker");
    until("all tickets are mailed", async || mailed(&db).await == wanted).await;
    let letters = std::fs::read_dir(place.folder.join("data/mail")).unwrap();
    let is_letter = |path: PathBuf| path.extension().is_some_and(|end| end == "eml");
    let letters = letters.filter(|entry| is_letter(entry.as_ref().unwrap().path())).count();
    assert_eq!(letters as u64, wanted, "one letter an order");
    until("search finds the new name", async || {
        let found = search::find(&db, "zebras xanten", "2020-01-01", None, 9).await.unwrap();
        found.items.iter().any(|found| found.id == event.id)
    })
    .await;
    until("cities are counted", async || {
        let cities = facets::list(&db, facets::Kind::City, 200).await.unwrap();
        cities.iter().any(|city| city.name == "Xanten")
    })
    .await;
    let seen = async || views::of_many(&db, [event.id]).await.unwrap().get(&event.id).copied();
    until("views are counted", async || seen().await.unwrap_or(0) >= VIEWS).await;
    // A worker that is killed between its write and the end of its task counts again.
    let counted = seen().await.unwrap_or(0);
    assert!(counted <= VIEWS * 2, "{counted} views");
    until("every task is over", async || place.unfinished().await.is_empty()).await;
    let engine = url.split(':').next().unwrap();
    println!("{engine}: {before} of {wanted} mailed before the worker was killed, {counted} views");

    heir.kill().await.unwrap();
    web.kill().await.unwrap();
    db.close().await;
}

/// A folder of the site, and where its queue is.
struct Place {
    folder: PathBuf,
    url: String,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Place {
    async fn new(url: &str) -> Self {
        let kept = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (folder, url) = (kept.path().to_owned(), url.to_owned());
        let place = Self { folder, url, port, _folder: kept };
        // Queues of a broker have the names of the site's: what an earlier run left there goes.
        for queue in ["default", "mail", "counts"] {
            let purged = place.run(&["task", "purge", queue, "--state", "queued"]).await;
            assert!(purged.status.success(), "{purged:?}");
        }
        place
    }

    fn command(&self) -> Command {
        let mut command = boxoffice(&self.folder);
        command
            .env("THRONG_QUEUE_URL", &self.url)
            .env("THRONG_WEB_LISTEN", format!("127.0.0.1:{}", self.port));
        command
    }

    async fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.command().args(arguments).output().await.unwrap()
    }

    fn start(&self, role: &str) -> Child {
        self.command().arg(role).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Tasks that have not come to their end, or to a bad one, as an operator sees them.
    async fn unfinished(&self) -> Vec<Value> {
        let counts = self.run(&["task", "counts", "--json"]).await;
        let counts: Vec<Value> = serde_json::from_slice(&counts.stdout).unwrap();
        let is_over = |count: &Value| count["state"] == "done" || count["tasks"] == 0;
        counts.into_iter().filter(|count| !is_over(count)).collect()
    }

    /// Ana of the demo, signed in over HTTP.
    async fn visitor(&self) -> Visitor {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let base = format!("http://127.0.0.1:{}", self.port);
        let mut visitor = Visitor { client, base, session: String::new() };
        until("the site serves", async || visitor.try_open("/readyz").await.is_some()).await;
        let who = json!({ "username": "ana", "password": "boxoffice-demo" });
        let answer = visitor.post_json("/api/v1/session", &who).await;
        assert_eq!(answer.status(), 200);
        let cookies = answer.headers().get_all("set-cookie").iter();
        let mut pairs = cookies.map(|line| line.to_str().unwrap().split(';').next().unwrap());
        visitor.session = pairs.find(|pair| pair.starts_with("sessionid=")).unwrap().to_owned();
        visitor
    }
}

/// A browser with a session.
struct Visitor {
    client: Client<HttpConnector, Body>,
    base: String,
    session: String,
}

impl Visitor {
    async fn try_open(&self, path: &str) -> Option<Response> {
        let request = Request::get(format!("{}{path}", self.base)).header("cookie", &self.session);
        let answer = self.client.request(request.body(Body::empty()).unwrap()).await.ok()?;
        (answer.status() == 200).then(|| answer.map(Body::new))
    }

    /// Opens a page and reads its first words.
    async fn open(&self, path: &str) {
        let answer = self.try_open(path).await.expect("the site answers");
        let mut body = answer.into_body().into_data_stream();
        body.next().await.unwrap().unwrap();
    }

    async fn post(&self, path: &str, media: &str, body: String) -> Response {
        let cookies = format!("{}; csrftoken={TOKEN}", self.session);
        let request = Request::post(format!("{}{path}", self.base))
            .header("cookie", cookies)
            .header("x-csrftoken", TOKEN)
            .header("content-type", media)
            .body(Body::from(body));
        self.client.request(request.unwrap()).await.unwrap().map(Body::new)
    }

    async fn post_json(&self, path: &str, value: &Value) -> Response {
        self.post(path, "application/json", value.to_string()).await
    }

    async fn buy(&self, event: &Event) {
        let holds = format!("/api/v1/events/{}/holds", event.id);
        let held = self.post_json(&holds, &json!({ "quantity": 2 })).await;
        assert_eq!(held.status(), 201);
        let mut body = held.into_body().into_data_stream();
        let hold: Value = serde_json::from_slice(&body.next().await.unwrap().unwrap()).unwrap();
        let order = format!("/api/v1/holds/{}/order", hold["id"].as_str().unwrap());
        let form =
            json!({ "attendee": "Ana", "email": "ana@example.com", "card": "4242 4242 4242 4242" });
        assert_eq!(self.post_json(&order, &form).await.status(), 201);
    }

    async fn rename(&self, db: &Db, event: &Event, name: &str, city: &str) {
        let seats = seats::of(db, event.id).await.unwrap().unwrap();
        let form = [
            ("name", name),
            ("city", city),
            ("starts_on", &event.starts_on),
            ("country", "Germany"),
            ("topic", &event.topic),
            ("capacity", &seats.capacity.to_string()),
            ("price", "5"),
            ("published", "on"),
        ];
        let form =
            form.map(|(name, value)| format!("{name}={}", value.replace(' ', "+"))).join("&");
        let path = format!("/organise/events/{}", event.id);
        let saved = self.post(&path, "application/x-www-form-urlencoded", form).await;
        assert_eq!(saved.status(), 303);
    }
}

/// An event of Ana's that sells seats, with enough of them.
async fn event_of_ana(db: &Db) -> Event {
    let ana = users::find_by_username(db, "ana").await.unwrap().unwrap();
    let own = organisers::of_owner(db, ana.id).await.unwrap().unwrap();
    for event in events::of_organiser(db, own.id, None, 50).await.unwrap().items {
        let free = seats::of(db, event.id).await.unwrap().map_or(0, |seats| seats.free());
        if free >= 240 && event.ends_on > today() {
            return event;
        }
    }
    panic!("the demo has no such event");
}

fn today() -> String {
    boxoffice::models::today(&throng::Clock::system())
}

async fn mailed(db: &Db) -> u64 {
    let mailed = orders::Column::MailedAtMs.is_not_null();
    orders::Entity::find().filter(mailed).count(db).await.unwrap()
}

/// Waits for other processes, so on real time; the limit is for a test that has failed.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let is_so = tokio::time::timeout(Duration::from_secs(240), waiting).await.is_ok();
    assert!(is_so, "not yet: {what}");
}

/// As Django's, what forms and cookie have in common.
const TOKEN: &str = "abcdefghijklmnopqrstuvwxyzABCDEF";
const BUYERS: &str = "220";
const VIEWS: i64 = 40;
