//! What visitors and programs see when something goes wrong.

use http::Request;
use serde_json::Value;
use throng::{Error, ErrorKind, testing, web::Body};

use crate::site::{Greeting, app};

#[tokio::test]
async fn each_mistake_has_its_status_and_a_readable_page() {
    let site = testing::boot(app()).await;
    let cases = [
        ("/missing", 404, "There is no such page."),
        ("/shows/abc", 404, "There is no such page."),
        ("/shows/99999999999999999999", 404, "There is no such page."),
        ("/shows/101", 404, "There is no such show."),
        ("/shows/%ff", 404, "There is no such page."),
        ("/echo", 405, "This address does not take that kind of request."),
        ("/refused", 409, "Only 2 &lt;seats&gt; are left."),
        ("/busy", 503, "The site is busy; please try again in a moment."),
        ("/broken", 500, "Something went wrong on our side."),
        ("/panic", 500, "Something went wrong on our side."),
    ];
    for (path, status, words) in cases {
        let answer = site.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.text().contains(words), "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        let shows_id = answer.text().contains(answer.header("x-request-id"));
        assert_eq!(shows_id, status >= 500, "{path}: {}", answer.text());
    }
    assert_eq!(site.get("/busy").await.header("retry-after"), "7");
    assert_eq!(site.get("/echo").await.header("allow"), "POST");
    site.finish().await;
}

#[tokio::test]
async fn programs_get_json() {
    let site = testing::boot(app()).await;
    let ask = |path: &str| {
        let request = Request::get(path).header("accept", "application/json");
        request.body(Body::empty()).unwrap()
    };
    let refused = site.request_with(ask("/refused")).await;
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let problem: Value = refused.json();
    assert_eq!(problem["detail"], "only 2 <seats> are left");
    assert_eq!(problem["status"], 409);
    // Below `/api/` without saying anything.
    let wrong = site.post_json("/api/echo", &serde_json::json!({"a": 1})).await;
    assert_eq!(wrong.json::<Value>(), serde_json::json!({"a": 1}));
    let request = Request::post("/api/echo").header("content-type", "application/json");
    let broken = site.request_with(request.body(Body::from("{")).unwrap()).await;
    assert_eq!(broken.status(), 400);
    assert!(broken.json::<Value>()["detail"].as_str().unwrap().contains("EOF"));
    let broken: Value = site.request_with(ask("/broken")).await.json();
    assert!(!broken.to_string().contains("fire"), "causes are not for strangers: {broken}");
    site.finish().await;
}

#[tokio::test]
async fn a_site_draws_its_own_error_pages_and_a_look_that_panics_does_no_harm() {
    let drawn = app().error_page(|cx, page| {
        assert!(page.status != 409, "a defect in the look");
        let css = cx.asset("site.css");
        format!("{css} {} {}", page.title, page.words)
    });
    let site = testing::boot(drawn).await;
    let missing = site.get("/missing").await;
    assert_eq!(missing.status(), 404);
    assert!(missing.text().ends_with(".css Not found there is no such page"));
    let refused = site.get("/refused").await;
    assert_eq!(refused.status(), 409);
    assert!(refused.text().contains("Only 2 &lt;seats&gt; are left."));
    site.finish().await;
}

#[tokio::test]
async fn slow_handlers_are_given_up() {
    let boot = testing::Boot::default().system_clock().set("web.request_timeout_ms", "100");
    let site = boot.boot(app()).await;
    assert_eq!(site.get("/slow").await.status(), 503);
    site.finish().await;
}

#[tokio::test]
async fn what_was_provided_is_found_and_what_was_not_is_an_error() {
    let site = testing::boot(app()).await;
    let cx = site.ctx();
    assert_eq!(cx.provided::<Greeting>().unwrap(), &Greeting("good evening"));
    let missing = cx.provided::<String>().unwrap_err();
    assert!(missing.to_string().contains("String"), "{missing}");
    site.finish().await;
}

#[tokio::test]
async fn a_cached_page_that_is_not_there_is_404() {
    let site = testing::boot(app()).await;
    let load = || async { Err::<String, _>(Error::not_found("there is no such show")) };
    let failed = site.ctx().cache.fetch("show/9", std::time::Duration::from_secs(60), load).await;
    let error = Error::from(failed.unwrap_err());
    assert_eq!((error.status().as_u16(), error.words()), (404, "there is no such show"));
    site.finish().await;
}

#[test]
fn errors_keep_their_kind_through_boxes_and_show_causes_to_operators_only() {
    let refused = Error::refused("sold out");
    let boxed: Box<dyn std::error::Error + Send + Sync> = refused.into();
    let back = Error::from(std::io::Error::other(boxed));
    assert_eq!((back.status().as_u16(), back.words()), (409, "sold out"));
    assert_eq!(back.kind(), ErrorKind::Refuse);

    let broken = Error::from(std::io::Error::other("the disk is on fire"));
    assert_eq!(broken.kind(), ErrorKind::Bug);
    assert_eq!(broken.words(), "something went wrong on our side");
    assert_eq!(broken.to_string(), "the disk is on fire");
}
