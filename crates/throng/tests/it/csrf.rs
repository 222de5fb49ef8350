//! Posts that a visitor did not mean are refused.

use http::Request;
use throng::{testing, web::Body};

use crate::site::app;

/// Posts a form with these headers and says what came back.
async fn check(site: &testing::Site, headers: &[(&str, &str)], body: &str) -> u16 {
    let mut request = Request::post("/name").header("host", "site.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let form = "application/x-www-form-urlencoded";
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", form);
    }
    site.request_with(request.body(Body::from(body.to_owned())).unwrap()).await.status()
}

#[tokio::test]
async fn a_form_needs_its_token() {
    let site = testing::boot(app()).await;
    assert_eq!(check(&site, &[], "name=Ada").await, 403, "no cookie, no token");
    let token = site.csrf_token();
    assert_eq!(check(&site, &[], "name=Ada").await, 403, "no token");
    assert_eq!(check(&site, &[], "name=Ada&csrfmiddlewaretoken=").await, 403);
    assert_eq!(check(&site, &[], &format!("name=Ada&csrfmiddlewaretoken={token}x")).await, 403);
    let others = site.browser().csrf_token();
    assert_eq!(check(&site, &[], &format!("name=Ada&csrfmiddlewaretoken={others}")).await, 403);
    assert_eq!(check(&site, &[("x-csrftoken", "rubbish")], "name=Ada").await, 403);
    assert_eq!(check(&site, &[("x-csrftoken", &token)], "name=Ada").await, 303);
    let again = site.csrf_token();
    assert_ne!(token, again, "masked anew each time");
    let body = format!("name=Ada&csrfmiddlewaretoken={again}");
    assert_eq!(check(&site, &[], &body).await, 303);
    site.finish().await;
}

#[tokio::test]
async fn a_form_from_another_site_is_refused_whatever_it_carries() {
    let site = testing::Boot::default()
        .set("web.trusted_origins", "https://www.example")
        .boot(app())
        .await;
    let body = format!("name=Ada&csrfmiddlewaretoken={}", site.csrf_token());
    assert_eq!(check(&site, &[("origin", "https://evil.example")], &body).await, 403);
    assert_eq!(check(&site, &[("origin", "null")], &body).await, 403);
    assert_eq!(check(&site, &[("referer", "https://evil.example/site.test")], &body).await, 403);
    assert_eq!(check(&site, &[("origin", "http://site.test")], &body).await, 303);
    assert_eq!(check(&site, &[("referer", "https://site.test/name")], &body).await, 303);
    assert_eq!(check(&site, &[("origin", "https://www.example")], &body).await, 303);
    site.finish().await;
}

#[tokio::test]
async fn what_no_form_can_send_needs_no_token_and_still_its_origin() {
    let site = testing::boot(app()).await;
    let json = |origin: &str| {
        let request = Request::post("/api/echo")
            .header("host", "site.test")
            .header("content-type", "application/json");
        let request = if origin.is_empty() { request } else { request.header("origin", origin) };
        request.body(Body::from("{}")).unwrap()
    };
    assert_eq!(site.request_with(json("")).await.status(), 200);
    assert_eq!(site.request_with(json("http://site.test")).await.status(), 200);
    assert_eq!(site.request_with(json("https://evil.example")).await.status(), 403);

    let plain = |path: &str, name: &str| {
        let request = Request::post(path).header("content-type", "text/plain");
        request.header(name, "x").body(Body::from("{}")).unwrap()
    };
    assert_eq!(site.request_with(plain("/echo", "x-any")).await.status(), 403);
    assert_eq!(site.request_with(plain("/echo", "authorization")).await.status(), 200);
    assert_eq!(site.request_with(plain("/hook/echo", "x-any")).await.status(), 200);
    assert_eq!(site.request_with(plain("/hooks", "x-any")).await.status(), 403);
    site.finish().await;
}

#[tokio::test]
async fn the_page_of_a_refused_form_says_what_to_do() {
    let site = testing::boot(app()).await;
    let form = Request::post("/name").header("content-type", "application/x-www-form-urlencoded");
    let answer = site.request_with(form.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.text().contains("please allow cookies"), "{}", answer.text());
    site.finish().await;
}
