//! What happens apart when an event was saved or deleted, and how often its page was opened.

use boxoffice::models::{events, facets, organisers, search, users, views};
use futures_util::StreamExt;
use throng::{
    queue::{Filter, Signal, State},
    testing::Browser,
    web::{Body, Request},
};

use crate::{
    house::House,
    visit::{finish, sign_up},
};

const TODAY: &str = "2026-01-01";

async fn found(house: &House, query: &str) -> Vec<String> {
    let page = search::find(&house.cx.db, query, TODAY, None, 10).await.unwrap();
    page.items.into_iter().map(|event| event.name).collect()
}

async fn cities(house: &House) -> Vec<(String, i32)> {
    let cities = facets::list(&house.cx.db, facets::Kind::City, 10).await.unwrap();
    cities.into_iter().map(|city| (city.name, city.events)).collect()
}

fn form<'a>(name: &'a str, city: &'a str, is_published: bool) -> Vec<(&'a str, &'a str)> {
    let mut form = vec![
        ("name", name),
        ("starts_on", "2026-05-01"),
        ("city", city),
        ("country", "Switzerland"),
        ("topic", "rust"),
        ("capacity", "50"),
    ];
    form.extend(is_published.then_some(("published", "on")));
    form
}

/// The tasks that told of a change, by the columns they named.
async fn told(house: &House, receiver: &str) -> Vec<Vec<String>> {
    let filter = Filter { name: Some(format!("signal.{receiver}")), ..Filter::default() };
    let tasks = house.cx.queue.list(&filter).await.unwrap();
    assert!(tasks.iter().all(|task| task.state == State::Done), "{tasks:?}");
    let columns =
        |task: &throng::queue::Record| task.message.arguments::<Signal>().unwrap().columns;
    tasks.iter().rev().map(columns).collect()
}

#[tokio::test]
async fn what_an_organiser_saves_is_searched_and_counted_once_its_signal_was_heard() {
    let house = House::open().await;
    let olga = house.site.browser();
    sign_up(&olga, "olga").await;
    let made = olga.post("/organise/events/new", &form("RustFest", "Zürich", true)).await;
    let show = made.header("location").to_owned();
    let id: i64 = show.rsplit('/').next().unwrap().parse().unwrap();
    assert!(found(&house, "rustfest").await.is_empty(), "no page waits for the index");
    house.site.run_tasks().await;
    assert_eq!(found(&house, "rustfest zurich").await, ["RustFest"]);
    assert_eq!(cities(&house).await, [("Zürich".to_owned(), 1)]);

    let edit = format!("/organise/events/{id}");
    let edited = olga.post(&edit, &form("Oxidize", "Bern", true)).await;
    assert_eq!(edited.status(), 303, "{edited:?}");
    assert_eq!(olga.post(&edit, &form("Oxidize", "Bern", true)).await.status(), 303);
    house.site.run_tasks().await;
    assert_eq!(found(&house, "bern").await, ["Oxidize"]);
    assert!(found(&house, "rustfest").await.is_empty());
    assert_eq!(cities(&house).await, [("Bern".to_owned(), 1)]);
    let changed: [&[&str]; 2] = [&[], &["name", "city"]];
    for receiver in ["search", "facets", "pages"] {
        assert_eq!(told(&house, receiver).await, changed, "{receiver} hears of each change once");
    }

    // What was published and talked about stays; what nobody has to do with goes.
    olga.post(&format!("{show}/comments"), &[("body", "hello")]).await;
    for _ in 0..2 {
        olga.post(&format!("{edit}/delete"), &[("", "")]).await;
        assert!(events::find(&house.cx.db, id).await.unwrap().is_some());
        olga.post(&edit, &form("Oxidize", "Bern", false)).await;
    }
    let other = olga.post("/organise/events/new", &form("Mistake", "Bern", true)).await;
    let other = other.header("location").replace("/events/", "/organise/events/");
    house.site.run_tasks().await;
    assert_eq!(found(&house, "bern").await, ["Mistake"]);
    olga.post(&other, &form("Mistake", "Bern", false)).await;
    assert_eq!(olga.post(&format!("{other}/delete"), &[("", "")]).await.status(), 303);
    house.site.run_tasks().await;
    assert!(found(&house, "bern").await.is_empty());
    assert_eq!(cities(&house).await, []);
    assert_eq!(olga.get(&other).await.status(), 404);
    finish(house.site).await;
}

/// Opens the stream of a page, as the page's script does, and reads what it says first.
async fn open(browser: &Browser, path: &str) -> String {
    let live = Request::builder().uri(path).header("host", "site.test");
    let stream = browser.open(live.body(Body::empty()).unwrap()).await;
    let said = stream.into_body().into_data_stream().next().await;
    String::from_utf8(said.unwrap().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_hundred_views_are_one_task_and_the_organiser_sees_them() {
    let house = House::open().await;
    let olga = house.site.browser();
    sign_up(&olga, "olga").await;
    let owner = users::find_by_username(&house.cx.db, "olga").await.unwrap().unwrap();
    let organiser = organisers::ensure(&house.cx.db, house.stamp(), &owner).await.unwrap();
    let event = house.event(&organiser, events::Form::default()).await;
    let page = format!("/events/{}", event.id);
    let live = format!("{page}/live");
    let stranger = house.site.browser();
    assert!(stranger.get(&page).await.text().contains(&format!("data-live=\"{live}\"")));
    for _ in 0..100 {
        open(&stranger, &format!("{live}?opened=true")).await;
    }
    let first = open(&stranger, &live).await;
    assert!(first.contains("id: seats"), "a stream that broke comes back with the id: {first}");
    let back = Request::builder()
        .uri(format!("{live}?opened=true"))
        .header("host", "site.test")
        .header("last-event-id", "seats");
    drop(stranger.open(back.body(Body::empty()).unwrap()).await);
    let filter = Filter { name: Some("views".into()), ..Filter::default() };
    assert!(house.cx.queue.list(&filter).await.unwrap().is_empty(), "nothing is written yet");
    house.site.run_tasks().await;
    assert_eq!(house.cx.queue.list(&filter).await.unwrap().len(), 1);
    assert_eq!(views::of_many(&house.cx.db, [event.id]).await.unwrap()[&event.id], 100);
    open(&stranger, &format!("{live}?opened=true")).await;
    house.site.run_tasks().await;
    let desk = olga.get("/organise").await;
    assert!(desk.text().contains("101 views"), "{}", desk.text());
    let orders = olga.get(&format!("/organise/events/{}/orders", event.id)).await;
    assert!(orders.text().contains("<dd>101</dd>"), "{}", orders.text());
    finish(house.site).await;
}
