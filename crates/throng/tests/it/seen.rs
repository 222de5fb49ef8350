//! What somebody has written is seen by whoever works for him next: his next request, a program's,
//! a task, a message's receiver, and the cache's next load. On a replica that replays nothing.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use http::{Request, header};
use sea_orm::{ConnectionTrait, DbErr, Statement};
use sea_query::{ColumnDef, Query, Table};
use serde::{Deserialize, Serialize};
use serde_json::json;
use throng::{
    App, Ctx, Result, Task,
    db::{Db, Migration, Schema},
    testing::{Boot, Site},
    web::{get, post},
};

use crate::clusters::{self, postgres::Postgres};

const MIGRATIONS: &[Migration] = &[Migration::new("seen_0001_register", |schema: &mut Schema| {
    let id = ColumnDef::new("id").integer().not_null().primary_key().take();
    let v = ColumnDef::new("v").integer().not_null().take();
    schema.table(Table::create().table("register").col(id).col(v).take());
    let first = Query::insert()
        .into_table("register")
        .columns(["id", "v"])
        .values_panic([1.into(), 0.into()])
        .take();
    schema.statement(&first);
})];

/// What the task has read.
#[derive(Default)]
struct Told(Mutex<Vec<i32>>);

#[derive(Serialize, Deserialize)]
struct Look {}

impl Task for Look {
    const NAME: &'static str = "look";

    async fn run(self, cx: Ctx) -> Result {
        let v = value(&cx.db).await?;
        cx.provided::<Told>()?.0.lock().unwrap_or_else(PoisonError::into_inner).push(v);
        Ok(())
    }
}

async fn value(db: &Db) -> Result<i32, DbErr> {
    let sql = "SELECT v FROM register WHERE id = 1";
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    row.ok_or_else(|| DbErr::RecordNotFound("the register".into()))?.try_get("", "v")
}

async fn add(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    db.execute_unprepared("UPDATE register SET v = v + 1 WHERE id = 1").await.map(drop)
}

fn app() -> App {
    App::new("seen")
        .migrations(MIGRATIONS)
        .provide(Told::default())
        .task::<Look>()
        .route(
            "/value",
            get(async |cx: Ctx| Ok::<_, throng::Error>(value(&cx.db).await?.to_string())),
        )
        .route("/add", post(async |cx: Ctx| Ok::<_, throng::Error>(add(&cx.db).await?)))
        .route(
            "/add-and-push",
            post(async |cx: Ctx| {
                add(&cx.db).await?;
                cx.queue.push(Look {}).await?;
                Ok::<_, throng::Error>(())
            }),
        )
        .route(
            "/add-and-tell",
            post(async |cx: Ctx| {
                add(&cx.db).await?;
                cx.bus.publish("news", &json!({ "type": "added" })).await
            }),
        )
        .route(
            "/add-and-tell-in",
            post(async |cx: Ctx| {
                let tx = cx.db.begin().await?;
                add(&tx).await?;
                cx.bus.publish_in(&tx, "news", &json!({ "type": "added" })).await?;
                Ok::<_, throng::Error>(tx.commit().await?)
            }),
        )
        .route(
            "/kept",
            get(async |cx: Ctx| {
                let mine = cx.clone();
                let load = async move || -> Result<i32> {
                    Ok(value(&mine.for_load("value").await?.db).await?)
                };
                let v: i32 = cx.cache.fetch("value", Duration::from_secs(60), load).await?;
                Ok::<_, throng::Error>(v.to_string())
            }),
        )
        .route(
            "/add-and-expire",
            post(async |cx: Ctx| {
                add(&cx.db).await?;
                cx.expire("value").await
            }),
        )
}

/// A site whose replica has the first value and will never get another.
async fn stopped() -> Option<(Postgres, Site)> {
    let Some(cluster) = Postgres::start(1) else {
        clusters::skip("`initdb` is missing");
        return None;
    };
    let url = cluster.url("?max_lag=5m");
    let site = Boot::default().set("database.url", &url).system_clock().boot(app()).await;
    let count = "SELECT count(*) FROM register";
    while cluster.sql_in_site(1, count).trim() != "1" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.pause_replay(1);
    while !site.browser().get("/value").await.header("x-throng-route").contains("fresh") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Some((cluster, site))
}

async fn post_to(browser: &throng::testing::Browser, path: &str) {
    let answer = browser.post(path, &[("", "")]).await;
    assert!(answer.status() == 200 || answer.status() == 303, "{path}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visitor_and_a_program_see_their_own_writes_and_strangers_read_from_the_replica() {
    let Some((_cluster, site)) = stopped().await else { return };
    let (ada, bob) = (site.browser(), site.browser());
    post_to(&ada, "/add").await;
    let seen = ada.get("/value").await;
    assert_eq!(seen.text(), "1");
    assert!(seen.header("x-throng-route").contains("behind 1"), "{seen:?}");
    assert_eq!(bob.get("/value").await.text(), "0", "the replica is late");
    // A forged token is none at all.
    let cookie = ada.cookie("throng_seen").unwrap();
    bob.set_cookie("throng_seen", &cookie.replace("p.", "p.1"));
    let forged = bob.get("/value").await;
    assert!(forged.header("x-throng-route").contains("fresh"), "{forged:?}");

    // Programs that send no cookies: each request is a browser of its own.
    let call = async |method: &str, path: &str, who: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "site.test")
            .header(header::AUTHORIZATION, format!("Bearer {who}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::empty());
        let answer = site.browser().request_with(request.unwrap()).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        answer.text().to_owned()
    };
    assert_eq!(call("GET", "/value", "a").await, "0");
    call("POST", "/add", "a").await;
    assert_eq!(call("GET", "/value", "a").await, "2");
    assert_eq!(call("GET", "/value", "b").await, "0");
    site.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_messages_and_loads_see_what_whoever_caused_them_has_written() {
    let Some((_cluster, site)) = stopped().await else { return };
    let cx = site.ctx();
    post_to(&site, "/add-and-push").await;
    site.run_tasks().await;
    let told = cx.provided::<Told>().unwrap().0.lock().unwrap().clone();
    assert_eq!(told, [1], "a task");

    let mut news = cx.bus.subscribe("news").await.unwrap();
    for (path, wanted) in [("/add-and-tell", 2), ("/add-and-tell-in", 3)] {
        post_to(&site, path).await;
        site.run_until_idle().await;
        let message = news.next().await.unwrap();
        let fields: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(fields["type"], "added", "the message is as it was sent");
        let receiver = cx.on_message(&message);
        assert_eq!(value(&receiver.db).await.unwrap(), wanted, "{path}");
        assert!(receiver.db.routes().contains("behind"), "{path}: {}", receiver.db.routes());
    }
    assert_eq!(value(&cx.on_message(b"[7]").db).await.unwrap(), 3, "one that says nothing");

    // A stranger's load must not put the old value back.
    assert_eq!(site.browser().get("/kept").await.text(), "0", "as late as a replica may be");
    post_to(&site, "/add-and-expire").await;
    assert_eq!(site.browser().get("/kept").await.text(), "4");
    assert_eq!(site.get("/kept").await.text(), "4");
    site.finish().await;
}
