//! Sessions: kept, forged, renewed, ended.

use std::time::Duration;

use proptest::prelude::*;
use throng::{sign, testing};

use crate::site::app;

#[tokio::test]
async fn a_visitor_is_remembered_greeted_once_and_forgotten_at_sign_out() {
    let site = testing::boot(app()).await;
    let answer = site.post("/name", &[("name", "Ada")]).await;
    assert_eq!((answer.status(), answer.header("location")), (303, "/name"));
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("sessionid="), "{cookie}");
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=1209600"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "not over plain HTTP in development: {cookie}");

    let page = site.get("/name").await;
    assert!(page.text().ends_with(r#"Some("Ada") ["hello Ada"]"#), "{}", page.text());
    assert_eq!(page.header("cache-control"), "private");
    assert_eq!(page.header("vary"), "cookie");
    let page = site.get("/name").await;
    assert!(page.text().ends_with(r#"Some("Ada") []"#), "said once: {}", page.text());
    assert_eq!(page.header("set-cookie"), "", "nothing changed, nothing is written");

    site.post("/sign-out", &()).await;
    assert_eq!(site.cookie("sessionid"), None);
    assert!(site.get("/name").await.text().ends_with("None []"));
    site.finish().await;
}

#[tokio::test]
async fn those_who_are_not_signed_in_are_sent_to_the_page_for_it() {
    let site = testing::boot(app()).await;
    let answer = site.get("/me?tab=2").await;
    assert_eq!(
        (answer.status(), answer.header("location")),
        (303, "/sign-in?next=%2Fme%3Ftab%3D2")
    );
    site.post("/sign-in", &[("user", "7")]).await;
    assert_eq!(site.get("/me").await.text(), "7");
    assert_eq!(site.browser().get("/me").await.status(), 303, "another visitor is another");
    site.finish().await;
}

#[tokio::test]
async fn signing_in_replaces_the_csrf_secret_and_what_another_user_left() {
    let site = testing::boot(app()).await;
    site.post("/name", &[("name", "Ada")]).await;
    let before = site.cookie("csrftoken").unwrap();
    site.post("/sign-in", &[("user", "7")]).await;
    assert_ne!(site.cookie("csrftoken").unwrap(), before);
    assert!(site.get("/name").await.text().contains("Ada"), "an anonymous basket comes along");
    site.post("/sign-in", &[("user", "8")]).await;
    assert!(site.get("/name").await.text().contains("None"), "another user's does not");
    site.finish().await;
}

#[tokio::test]
async fn forged_cut_and_oversized_cookies_are_nobody() {
    let site = testing::boot(app()).await;
    site.post("/sign-in", &[("user", "7")]).await;
    let good = site.cookie("sessionid").unwrap();
    let forged = sign::session::encode(
        &sign::Keys::new("another secret"),
        serde_json::json!({"_auth_user_id": "1"}).as_object().unwrap(),
        testing::START_MS / 1000,
    );
    let bad = [
        forged.unwrap(),
        good[..good.len() - 1].to_owned(),
        good[1..].to_owned(),
        good.replace(':', ";"),
        "x".repeat(100_000),
        ":::".to_owned(),
        String::from("\u{fc}"),
    ];
    for bad in bad {
        site.set_cookie("sessionid", &bad);
        let answer = site.get("/me").await;
        assert_eq!(answer.status(), 303, "{bad}");
        assert_eq!(answer.header("set-cookie"), "", "a stranger's rubbish is not answered");
    }
    site.set_cookie("sessionid", &good);
    assert_eq!(site.get("/me").await.text(), "7");
    site.finish().await;
}

#[tokio::test]
async fn sessions_end_after_their_time_and_with_the_key_and_outlive_a_key_change() {
    let site = testing::Boot::default().set("session.max_age_s", "60").boot(app()).await;
    site.post("/sign-in", &[("user", "7")]).await;
    let cookie = site.cookie("sessionid").unwrap();
    site.advance(Duration::from_secs(60));
    assert_eq!(site.get("/me").await.status(), 200);
    site.advance(Duration::from_secs(1));
    assert_eq!(site.get("/me").await.status(), 303);
    site.finish().await;

    let new = "a new secret that only this test knows";
    for (fallbacks, status) in [("a secret that only this test knows", 200), ("", 303)] {
        let boot = testing::Boot::default().set("secret_key", new);
        let site = boot.set("secret_key_fallbacks", fallbacks).boot(app()).await;
        site.set_cookie("sessionid", &cookie);
        assert_eq!(site.get("/me").await.status(), status);
        site.finish().await;
    }
}

#[tokio::test]
async fn a_changed_password_ends_every_session() {
    let stored = std::sync::Arc::new(std::sync::Mutex::new(Some("the stored password".to_owned())));
    let found = stored.clone();
    let app = app().accounts(move |_, user| {
        assert_eq!(user, "7");
        let found = found.lock().unwrap().clone();
        async move { Ok(found) }
    });
    let site = testing::boot(app).await;
    site.post("/sign-in", &[("user", "7")]).await;
    assert_eq!(site.get("/me").await.text(), "7");
    *stored.lock().unwrap() = Some("another password".to_owned());
    assert_eq!(site.get("/me").await.status(), 303);
    assert_eq!(site.cookie("sessionid"), None);
    site.finish().await;
}

#[tokio::test]
async fn a_session_that_outgrows_a_cookie_keeps_what_it_was() {
    let site = testing::boot(app()).await;
    site.post("/name", &[("name", "Ada")]).await;
    let before = site.cookie("sessionid");
    assert_eq!(site.get("/remember/2000").await.status(), 200);
    assert_ne!(site.cookie("sessionid"), before);
    let before = site.cookie("sessionid");
    assert_eq!(site.get("/remember/9000").await.status(), 200);
    assert_eq!(site.cookie("sessionid"), before);
    site.finish().await;
}

#[tokio::test]
async fn cookies_are_secure_in_production() {
    let boot = testing::Boot::default().set("env", "production").set("session.domain", "x.example");
    let site = boot.boot(app()).await;
    let answer = site.post("/name", &[("name", "Ada")]).await;
    let cookie = answer.header("set-cookie");
    assert!(cookie.contains("; Secure") && cookie.contains("; Domain=x.example"), "{cookie}");
    site.finish().await;
}

#[test]
fn no_cookie_or_form_breaks_a_page() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let site = runtime.block_on(testing::boot(app()));
    let cookie =
        prop_oneof!["[ -~]{0,200}", "sessionid=[A-Za-z0-9_:.-]{0,300}", "csrftoken=[ -~]{0,80}"];
    let check = |(cookie, body): (String, Vec<u8>)| {
        let request = http::Request::post("/name")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("cookie", cookie)
            .body(throng::web::Body::from(body));
        let answer = runtime.block_on(site.browser().request_with(request.unwrap()));
        prop_assert_eq!(answer.status(), 403);
        Ok(())
    };
    let mut runner = proptest::test_runner::TestRunner::default();
    runner.run(&(cookie, any::<Vec<u8>>()), check).unwrap();
    runtime.block_on(site.finish());
}
