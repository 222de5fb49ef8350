//! The page cache before the site, in its process.

use std::{fmt::Debug, time::Duration};

use boxoffice::models::{Event, User, events::Form, organisers, users};
use futures_util::{Stream, StreamExt};
use throng::{
    testing::{Answer, Boot, Browser},
    web::{Body, Request, StatusCode},
};

use crate::{
    house::House,
    visit::{finish, sign_up},
};

async fn open() -> House {
    House::open_with(Boot::default().set("edge.enabled", "true")).await
}

/// A member with an event that sells seats.
async fn host(house: &House, username: &str) -> (Browser, User, Event) {
    let browser = house.site.browser();
    sign_up(&browser, username).await;
    let user = users::find_by_username(&house.cx.db, username).await.unwrap().unwrap();
    let organiser = organisers::ensure(&house.cx.db, house.stamp(), &user).await.unwrap();
    let event = house.event(&organiser, Form { price: "0".into(), ..Form::default() }).await;
    (browser, user, event)
}

fn did(answer: &Answer) -> &str {
    let said = answer.header("cache-status");
    assert!(said.starts_with("throng; "), "{said}");
    let said = said.trim_start_matches("throng; ");
    said.split(';').next().unwrap()
}

/// The next words of a stream.
async fn said<B: AsRef<[u8]>, E: Debug>(
    stream: &mut (impl Stream<Item = Result<B, E>> + Unpin),
) -> String {
    let chunk = stream.next().await.expect("the stream goes on").unwrap();
    String::from_utf8(chunk.as_ref().to_vec()).unwrap()
}

/// What a stranger gets, who is sure to be answered from the cache afterwards.
async fn warm(stranger: &Browser, path: &str) -> String {
    stranger.get(path).await;
    let page = stranger.get(path).await;
    assert_eq!((page.status(), did(&page)), (200, "hit"), "{path}");
    page.text().to_owned()
}

#[tokio::test]
async fn what_is_changed_a_stranger_sees_at_once_and_pages_are_kept_meanwhile() {
    let house = open().await;
    let (member, _, event) = host(&house, "ada").await;
    let stranger = house.site.browser();
    let show = format!("/events/{}", event.id);
    let api = format!("/api/v1/events/{}", event.id);
    let talk = format!("{api}/comments");
    for path in ["/", "/events", "/search?q=rust", &show, &api, &talk, "/people/ada"] {
        warm(&stranger, path).await;
    }
    let page = stranger.get(&format!("{show}?utm_source=mail&fbclid=1")).await;
    assert_eq!(did(&page), "hit", "trackers make no difference");
    for hidden in ["surrogate-key", "set-cookie", "surrogate-control"] {
        assert!(!page.headers().contains_key(hidden), "{hidden}");
    }
    assert_ne!(
        page.header("x-request-id"),
        stranger.get(&show).await.header("x-request-id"),
        "each request has its own id"
    );

    let form = [
        ("name", "RustFest Oerlikon"),
        ("starts_on", "2026-05-01"),
        ("city", "Zürich"),
        ("country", "Switzerland"),
        ("topic", "rust"),
        ("capacity", "50"),
        ("price", "0"),
        ("published", "on"),
    ];
    let edited = member.post(&format!("/organise/events/{}", event.id), &form).await;
    assert_eq!(edited.status(), 303, "{edited:?}");
    for path in ["/", "/events", "/search?q=rust", &show, &api] {
        let page = stranger.get(path).await;
        assert!(page.text().contains("RustFest Oerlikon"), "{path}: {}", page.text());
        assert_eq!(did(&page), "fwd=uri-miss", "{path}");
    }

    warm(&stranger, &show).await;
    member.post(&format!("{show}/comments"), &[("body", "first!")]).await;
    for path in [&show, &talk, "/people/ada"] {
        assert!(stranger.get(path).await.text().contains("first!"), "{path}");
    }

    assert!(warm(&stranger, &api).await.contains("\"free\":50"));
    member.post(&format!("{show}/hold"), &[("quantity", "2")]).await;
    assert!(stranger.get(&api).await.text().contains("\"free\":48"));
    assert!(warm(&stranger, &show).await.contains("48"));
    // Nobody pays; the seats go back with a task, not with a request.
    house.site.advance(Duration::from_secs(3_600));
    house.site.run_until_idle().await;
    house.cx.queue.push(boxoffice::tasks::ReleaseSeats {}).await.unwrap();
    house.site.run_until_idle().await;
    assert!(stranger.get(&api).await.text().contains("\"free\":50"));
    finish(house.site).await;
}

#[tokio::test]
async fn a_draft_that_nobody_saw_is_there_once_it_is_published() {
    let house = open().await;
    let (member, _, event) = host(&house, "ada").await;
    let stranger = house.site.browser();
    let show = format!("/events/{}", event.id);
    let mut form = vec![
        ("name", "Now public"),
        ("starts_on", "2026-05-01"),
        ("city", "Zürich"),
        ("country", "Switzerland"),
        ("topic", "rust"),
        ("capacity", "50"),
    ];
    warm(&stranger, &show).await;
    let edit = format!("/organise/events/{}", event.id);
    assert_eq!(member.post(&edit, &form).await.status(), 303);
    assert_eq!(stranger.get(&show).await.status(), 404, "it is a draft now");
    assert_eq!(did(&stranger.get(&show).await), "hit", "strangers who guess cost nothing");
    assert_eq!(member.get(&show).await.status(), 200, "its owner sees it");
    form.push(("published", "on"));
    member.post(&edit, &form).await;
    assert!(stranger.get(&show).await.text().contains("Now public"));
    finish(house.site).await;
}

#[tokio::test]
async fn a_page_of_somebody_is_never_stored_and_no_cookie_defeats_the_cache() {
    let house = open().await;
    let (member, _, event) = host(&house, "ada").await;
    let stranger = house.site.browser();
    let show = format!("/events/{}", event.id);
    for path in ["/", &show, "/events"] {
        for _ in 0..2 {
            let page = member.get(path).await;
            assert_eq!(did(&page), "fwd=bypass", "{path}");
            assert!(page.text().contains("Sign out"), "{path}");
            assert_eq!(page.header("cache-control"), "private");
        }
        let page = stranger.get(path).await;
        assert!(!page.text().contains("Sign out") && did(&page) != "hit", "{path}");
        assert!(!page.text().contains("csrfmiddlewaretoken"), "{path}");
        assert_eq!(did(&stranger.get(path).await), "hit", "{path}");
        assert_eq!(did(&member.get(path).await), "fwd=bypass", "{path}");
    }

    // A form has a token, and so is of one visitor; each gets their own.
    let (one, other) = (house.site.browser(), house.site.browser());
    let (first, second) = (one.get("/sign-in").await, other.get("/sign-in").await);
    assert_ne!(first.text(), second.text());
    for page in [&first, &second] {
        assert!(page.headers().contains_key("set-cookie"));
        assert_eq!(page.header("cache-control"), "private");
    }
    assert_ne!(one.cookie("csrftoken"), other.cookie("csrftoken"));
    assert_ne!(one.get("/sign-in").await.text(), one.get("/sign-in").await.text());
    // Having been there changes nothing for the pages of everyone.
    assert_eq!(did(&one.get(&show).await), "hit");
    // A replica's token, which such a site leaves with its visitors, neither.
    one.set_cookie("throng_seen", "whatever");
    assert_eq!(did(&one.get(&show).await), "hit");
    // Colours do, and are a page of their own.
    one.set_cookie("theme", "dark");
    let dark = one.get(&show).await;
    assert!(dark.text().contains("data-theme=\"dark\"") && did(&dark) == "fwd=vary-miss");
    assert_eq!(did(&one.get(&show).await), "hit");
    assert!(!stranger.get(&show).await.text().contains("data-theme=\"dark\""));
    // A cookie that only looks like a session gets its own page too, and leaves nothing behind.
    one.set_cookie("sessionid", "forged");
    assert_eq!(did(&one.get(&show).await), "fwd=bypass");

    for path in ["/healthz", "/readyz", "/timeline"] {
        for _ in 0..2 {
            let page = stranger.get(path).await;
            assert!(did(&page).starts_with("fwd="), "{path}: {}", did(&page));
        }
    }
    finish(house.site).await;
}

#[tokio::test]
async fn streams_and_uploads_pass() {
    let house = open().await;
    let (member, _, event) = host(&house, "ada").await;
    let stranger = house.site.browser();
    let live = Request::builder()
        .uri(format!("/events/{}/live", event.id))
        .header("host", "site.test")
        .header("accept", "text/event-stream");
    let stream = stranger.open(live.body(Body::empty()).unwrap()).await;
    assert_eq!(stream.status(), StatusCode::OK);
    let mut stream = stream.into_body().into_data_stream();
    assert!(said(&mut stream).await.contains("50 seats of 50 left"));
    // A comment of a hundred thousand bytes comes whole: the site itself says that it is too long.
    let long = "x".repeat(100_000);
    let path = format!("/events/{}/comments", event.id);
    let refused = member.post(&path, &[("body", &long)]).await;
    assert_eq!(refused.status(), 422);
    assert!(refused.text().contains(&long));
    member.post(&format!("/events/{}/hold", event.id), &[("quantity", "2")]).await;
    let mut heard = String::new();
    while !heard.contains("48 seats of 50 left") {
        heard.push_str(&said(&mut stream).await);
    }
    drop(stream);
    finish(house.site).await;
}
