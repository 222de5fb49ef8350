//! Every page answers whom it should, in the site's look, and refuses the rest.

use boxoffice::{models::events::Form, purchase::Want};
use throng::web::{Body, Method, Request};

use crate::{
    house::House,
    visit::{an_event, demo, finish, sign_in},
};

#[tokio::test]
async fn strangers_can_read_everything_public() {
    let site = demo().await;
    let event = an_event(&site).await;
    let organiser = event.organiser_id.unwrap();
    for path in [
        "/",
        "/events",
        "/events?when=past",
        "/events?topic=rust&country=Germany&city=Berlin",
        "/search",
        "/search?q=stage",
        "/search?q=%F0%9F%8E%AD",
        "/sign-in",
        "/sign-up",
        "/about",
        "/organise",
        "/people/ana",
        "/people/eleni",
        "/api",
        "/api/openapi.json",
        "/robots.txt",
        &format!("/events/{}", event.id),
        &format!("/organisers/{organiser}"),
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(
            !answer.text().contains("csrfmiddlewaretoken") || path.starts_with("/sign"),
            "{path}"
        );
    }
    finish(site).await;
}

#[tokio::test]
async fn pages_about_oneself_ask_strangers_to_sign_in_and_bring_them_back() {
    let site = demo().await;
    for path in [
        "/tickets",
        "/timeline",
        "/settings",
        "/organise/events/new",
        "/moderation",
        "/orders/BX-1",
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), 303, "{path}");
        let next = path.replace('/', "%2F");
        assert_eq!(answer.header("location"), format!("/sign-in?next={next}"), "{path}");
    }
    let answer = site
        .post(
            "/sign-in",
            &[("username", "ana"), ("password", "boxoffice-demo"), ("next", "/timeline")],
        )
        .await;
    assert_eq!((answer.status(), answer.header("location")), (303, "/timeline"));
    let elsewhere = site.browser();
    let form = [("username", "ana"), ("password", "boxoffice-demo"), ("next", "//evil.example")];
    assert_eq!(elsewhere.post("/sign-in", &form).await.header("location"), "/");
    finish(site).await;
}

#[tokio::test]
async fn members_find_their_pages() {
    let site = demo().await;
    sign_in(&site, "ana").await;
    let event = an_event(&site).await;
    for path in [
        "/",
        "/events",
        "/tickets",
        "/timeline",
        "/settings",
        "/organise",
        "/organise/events/new",
        "/moderation",
        "/people/ana",
        "/people/jonas",
        &format!("/events/{}", event.id),
        &format!("/organise/events/{}", event.id),
        &format!("/organise/events/{}/orders", event.id),
        &format!("/organise/events/{}/door", event.id),
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(answer.text().contains("Ana Almeida"), "{path} does not greet its reader");
        assert!(!answer.header("cache-control").contains("public"), "{path}");
    }
    let jonas = site.browser();
    sign_in(&jonas, "jonas").await;
    for path in ["/moderation".to_owned(), format!("/organise/events/{}", event.id)] {
        assert_eq!(jonas.get(&path).await.status(), 403, "{path}");
    }
    finish(site).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_in_the_sites_look() {
    let site = demo().await;
    sign_in(&site, "ana").await;
    for path in [
        "/nope",
        "/events/1",
        "/events/abc",
        "/events/99999999999999999999",
        "/events/1/live",
        "/events?after=rubbish",
        "/search?q=a&after=%00",
        "/people/nobody",
        "/people/%F0%9F%8E%AD",
        "/organisers/1",
        "/orders/BX-AAAAA-AAAAA",
        "/orders/BX-AAAAA-AAAAA/ticket.pdf",
        "/orders/x/live",
        "/checkout/1",
        "/comments/1/report",
        "/organise/events/1",
        "/organise/events/1/orders",
        "/organise/events/1/door",
        "/static/nope.css",
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert!(answer.text().contains("class=\"brand\""), "{path} has another look");
    }
    let post = site.post("/moderation/comments/1/hide", &[("", "")]).await;
    assert_eq!(post.status(), 404);
    finish(site).await;
}

#[tokio::test]
async fn forged_large_and_garbled_forms_get_the_right_page() {
    let site = demo().await;
    sign_in(&site, "jonas").await;
    let path = format!("/events/{}/comments", an_event(&site).await.id);
    let send = async |body: Vec<u8>| {
        let request = Request::builder().method(Method::POST).uri(&path);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        site.request_with(request.body(Body::from(body)).unwrap()).await
    };
    let forged = send(b"body=hello&csrfmiddlewaretoken=wrong".to_vec()).await;
    assert_eq!(forged.status(), 403);
    assert!(forged.text().contains("class=\"brand\""));
    let token = site.csrf_token();
    let large =
        send(format!("csrfmiddlewaretoken={token}&body={}", "x".repeat(8 << 20)).into()).await;
    assert_eq!(large.status(), 413);
    let mut garbled = format!("csrfmiddlewaretoken={token}&body=").into_bytes();
    garbled.extend([0xff, 0xfe, b'%', b'F', b'F']);
    let garbled = send(garbled).await;
    assert!(matches!(garbled.status(), 303 | 400 | 422), "{garbled:?}");
    let missing = site.post(&path.replace("comments", "hold"), &[("seats", "2")]).await;
    assert_eq!(missing.status(), 422);
    finish(site).await;
}

#[tokio::test]
async fn a_form_keeps_what_was_typed_and_says_what_is_wrong() {
    let site = demo().await;
    let form = [("username", "ana"), ("email", "no <b>address</b>"), ("password", "hunter2")];
    let answer = site.post("/sign-up", &form).await;
    assert_eq!(answer.status(), 422);
    let page = answer.text();
    for part in
        ["value=\"ana\"", "no &lt;b&gt;address", "aria-invalid=\"true\"", "id=\"w-password\""]
    {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(!page.contains("hunter2"), "a password was sent back");

    sign_in(&site, "jonas").await;
    let form = Form { name: "Ü <i>".into(), starts_on: "soon".into(), ..Form::default() };
    let answer = site.post("/organise/events/new", &form).await;
    assert_eq!(answer.status(), 422);
    for part in
        ["value=\"Ü &lt;i&gt;\"", "value=\"soon\"", "id=\"w-starts_on\"", "id=\"w-capacity\""]
    {
        assert!(answer.text().contains(part), "{part} is missing");
    }
    let event = an_event(&site).await;
    let answer = site.post(&format!("/events/{}/comments", event.id), &[("body", "  ")]).await;
    assert_eq!(answer.status(), 422);
    assert!(answer.text().contains("id=\"w-body\""));
    finish(site).await;
}

#[tokio::test]
async fn lists_lead_forward_and_back_over_the_same_pages() {
    let house = House::open().await;
    let organiser = house.organiser("host").await;
    for day in 0..60 {
        let starts_on = format!("2099-{:02}-{:02}", 1 + day / 28, 1 + day % 28);
        let form = Form { starts_on, name: format!("Event {day}"), ..Form::default() };
        house.event(&organiser, form).await;
    }
    let link = |page: &str, rel: &str| {
        let from = page.find(&format!("rel=\"{rel}\" href=\""))? + rel.len() + 13;
        Some(page[from..].split('"').next()?.replace("&amp;", "&"))
    };
    let titles = |page: &str| -> Vec<String> {
        page.split("<h3>")
            .skip(1)
            .map(|part| part.split("</h3>").next().unwrap().to_owned())
            .collect()
    };
    let first = house.site.get("/events").await.text().to_owned();
    assert_eq!(link(&first, "prev"), None);
    let second = house.site.get(&link(&first, "next").unwrap()).await.text().to_owned();
    let third = house.site.get(&link(&second, "next").unwrap()).await.text().to_owned();
    assert_eq!(link(&third, "next"), None);
    assert_eq!((titles(&first).len(), titles(&second).len(), titles(&third).len()), (25, 25, 10));
    let back = house.site.get(&link(&third, "prev").unwrap()).await.text().to_owned();
    assert_eq!(titles(&back), titles(&second));
    let back = house.site.get(&link(&back, "prev").unwrap()).await.text().to_owned();
    assert_eq!(titles(&back), titles(&first));
    assert_eq!(link(&back, "prev"), None);
    finish(house.site).await;
}

#[tokio::test]
async fn colours_are_kept_in_a_cookie_and_lead_nowhere_else() {
    let site = demo().await;
    let answer = site.get("/theme?set=dark&back=/about").await;
    assert_eq!((answer.status(), answer.header("location")), (303, "/about"));
    assert!(site.get("/about").await.text().contains("data-theme=\"dark\""));
    assert_eq!(site.get("/theme?set=x&back=https://evil.example").await.header("location"), "/");
    assert!(!site.get("/about").await.text().contains("data-theme"));
    finish(site).await;
}

#[tokio::test]
async fn a_kept_page_shows_the_seats_that_another_process_sold() {
    let house = House::open().await;
    let event = house.sale(20, "").await;
    let buyer = house.user("buyer").await;
    let show = format!("/events/{}", event.id);
    assert!(house.site.get(&show).await.text().contains("20 seats of 20 left"));
    let want = Want { event_id: event.id, user_id: buyer.id, quantity: 2 };
    house.desk().hold(want).await.unwrap();
    assert!(house.site.get(&show).await.text().contains("18 seats of 20 left"));
    finish(house.site).await;
}
