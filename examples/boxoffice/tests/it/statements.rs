//! How many statements a page takes, by its own header: as many for long lists as for short ones, and
//! on replicas where nothing is written.

use boxoffice::models::{Event, events::Form, organisers, users};
use throng::testing::{Boot, Browser};

use crate::{
    clusters::{self, postgres::Postgres},
    house::House,
    replicas::until,
    visit::sign_up,
};

/// Where a page's statements went and why, and how many.
async fn routes(browser: &Browser, path: &str) -> Vec<(String, u32)> {
    let answer = browser.get(path).await;
    assert_eq!(answer.status(), 200, "{path}: {answer:?}");
    let routes = answer.header("x-throng-route").split(", ").filter(|route| !route.is_empty());
    let parts = routes.map(|route| route.rsplit_once(' ').unwrap());
    parts.map(|(route, count)| (route.to_owned(), count.parse().unwrap())).collect()
}

async fn count(browser: &Browser, path: &str) -> u32 {
    // What a cache keeps is there the second time.
    routes(browser, path).await;
    routes(browser, path).await.iter().map(|(_, count)| count).sum()
}

async fn buy(browser: &Browser, event: &Event) -> String {
    let hold = format!("/events/{}/hold", event.id);
    let mut checkout = String::new();
    // To whoever did not make it, a new event is there when the replica has it.
    until("seats are held", async || {
        let held = browser.post(&hold, &[("quantity", "2")]).await;
        checkout = held.header("location").to_owned();
        checkout.starts_with("/checkout/")
    })
    .await;
    let form = [("attendee", "Ada"), ("email", "ada@example.com")];
    let paid = browser.post(&checkout, &form).await;
    assert!(paid.header("location").starts_with("/orders/"), "{paid:?}");
    paid.header("location").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_take_no_more_statements_and_looking_needs_no_primary() {
    let Some(cluster) = Postgres::start(1) else { return clusters::skip("`initdb` is missing") };
    let url = cluster.url("?max_lag=5m&replica_wait=30s");
    let boot = Boot::default().set("database.url", &url);
    let site = boot.system_clock().boot(boxoffice::empty()).await;
    let house = House { cx: site.ctx(), site };
    let (olga, ada) = (house.site.browser(), house.site.browser());
    sign_up(&olga, "olga").await;
    sign_up(&ada, "ada").await;
    let primary = house.cx.db.primary();
    let owner = users::find_by_username(&primary, "olga").await.unwrap().unwrap();
    let organiser = organisers::ensure(&primary, house.stamp(), &owner).await.unwrap();
    let on_sale = async || {
        let (starts_on, capacity) = ("2099-05-01".into(), "100".into());
        house.event(&organiser, Form { starts_on, capacity, ..Form::default() }).await
    };
    let event = on_sale().await;
    let order = buy(&ada, &event).await;
    ada.post(&format!("/organisers/{}/follow", organiser.id), &[("", "")]).await;
    let say = format!("/events/{}/comments", event.id);
    ada.post(&say, &[("body", "the first")]).await;

    let orders = format!("/organise/events/{}/orders", event.id);
    let (show, own) = (format!("/events/{}", event.id), format!("/organisers/{}", organiser.id));
    let talk = format!("/api/v1/events/{}/comments", event.id);
    let pages = [
        (&olga, orders.as_str()),
        (&olga, "/organise"),
        (&ada, &show),
        (&ada, &talk),
        (&ada, &own),
        (&ada, &order),
        (&ada, "/"),
        (&ada, "/events"),
        (&ada, "/people/ada"),
        (&ada, "/search?q=RustFest"),
        (&ada, "/tickets"),
        (&ada, "/timeline"),
        (&ada, "/api/v1/events"),
        (&ada, "/api/v1/orders"),
    ];
    // Olga has seen nothing of what Ada did, so a late replica may show her an empty list.
    let number = order.trim_start_matches("/orders/");
    until("the organiser sees the order", async || olga.get(&orders).await.text().contains(number))
        .await;
    let mut short = Vec::new();
    for (browser, path) in pages {
        short.push(count(browser, path).await);
    }
    for number in 0..4 {
        ada.post(&say, &[("body", &format!("and number {number}"))]).await;
        buy(&ada, &event).await;
        buy(&ada, &on_sale().await).await;
    }
    for ((browser, path), short) in pages.into_iter().zip(short) {
        let long = count(browser, path).await;
        println!("{path}: {short} then {long}");
        assert!(long <= short, "{path} took {short} statements for one row, {long} for more");
    }

    // Who is given time reads all of it from the replica, what he wrote himself included.
    let held = ada.post(&format!("{show}/hold"), &[("quantity", "1")]).await;
    let checkout = held.header("location").to_owned();
    for (browser, path) in pages.into_iter().chain([(&ada, checkout.as_str())]) {
        // On a busy machine a replica may be out for a moment.
        until(&format!("{path} is read from the replica"), async || {
            routes(browser, path).await.iter().all(|(route, _)| route.ends_with(" fresh"))
        })
        .await;
    }
    ada.post(&format!("{checkout}/release"), &[("", "")]).await;
    house.site.run_until_idle().await;
    house.site.finish().await;
}
