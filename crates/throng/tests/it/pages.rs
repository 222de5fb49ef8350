//! What every answer has, whatever page it is.

use http::{Method, Request};
use throng::{testing, web::Body};

use crate::site::app;

#[tokio::test]
async fn pages_carry_security_headers_and_a_request_id() {
    let site = testing::boot(app()).await;
    let one = site.get("/").await;
    assert_eq!((one.status(), one.text()), (200, "<h1>hello</h1>"));
    assert_eq!(one.header("x-content-type-options"), "nosniff");
    assert_eq!(one.header("x-frame-options"), "DENY");
    assert!(one.header("content-security-policy").contains("default-src 'self'"));
    assert_eq!(
        one.header("set-cookie"),
        "",
        "a page that asks nothing of its visitor sets nothing"
    );
    let two = site.get("/").await;
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    site.finish().await;
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let site = testing::boot(app()).await;
    for path in ["/", &site.ctx().asset("site.css"), "/missing"] {
        let get = site.get(path).await;
        let request =
            Request::head(path).header("accept", "text/html").body(Body::empty()).unwrap();
        let head = site.request_with(request).await;
        assert_eq!(head.status(), get.status());
        assert_eq!(head.body().len(), 0);
        assert_eq!(head.header("content-length"), get.body().len().to_string(), "{path}");
    }
    site.finish().await;
}

#[tokio::test]
async fn long_pages_are_compressed_for_those_who_ask() {
    let site = testing::boot(app()).await;
    let plain = site.get("/long").await;
    let ask = |path: &str| {
        let request = Request::get(path).header("accept-encoding", "br;q=1, gzip");
        request.body(Body::empty()).unwrap()
    };
    let packed = site.request_with(ask("/long")).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_eq!(packed.header("vary"), "accept-encoding");
    let mut unpacked = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&packed.body()[..]);
    std::io::Read::read_to_string(&mut decoder, &mut unpacked).unwrap();
    assert_eq!(unpacked, plain.text());
    assert_eq!(site.request_with(ask("/")).await.header("content-encoding"), "");
    site.finish().await;
}

#[tokio::test]
async fn oversized_bodies_get_413_whether_or_not_they_say_their_length() {
    let boot = testing::Boot::default().set("web.max_body_bytes", "1000");
    let site = boot.boot(app()).await;
    let post = |body: Body, media: &str| {
        let request = Request::post("/hook/echo").header("content-type", media);
        request.body(body).unwrap()
    };
    let streamed = || {
        let chunks = (0..20).map(|_| Ok::<_, std::io::Error>("x".repeat(100)));
        Body::from_stream(futures_util::stream::iter(chunks))
    };
    let small = site.request_with(post(Body::from("x".repeat(1000)), "text/plain")).await;
    assert_eq!((small.status(), small.text()), (200, "1000"));
    let long = site.request_with(post(Body::from("x".repeat(1001)), "text/plain")).await;
    assert_eq!(long.status(), 413);
    assert!(long.text().contains("too large"));
    assert_eq!(site.request_with(post(streamed(), "text/plain")).await.status(), 413);
    // A form is read by the CSRF check already.
    let form = Request::post("/echo").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(site.request_with(form.body(streamed()).unwrap()).await.status(), 413);
    let mut said = Request::new(streamed());
    *said.method_mut() = Method::POST;
    *said.uri_mut() = "/hook/echo".parse().unwrap();
    said.headers_mut().insert("content-length", "1001".parse().unwrap());
    assert_eq!(site.request_with(said).await.status(), 413);
    site.finish().await;
}

#[tokio::test]
async fn health_pages_tell_alive_from_ready() {
    let site = testing::boot(app()).await;
    assert_eq!(site.get("/healthz").await.text(), r#"{"status":"alive"}"#);
    assert_eq!(site.get("/readyz").await.text(), r#"{"status":"ready"}"#);
    site.stop();
    assert_eq!(site.get("/healthz").await.status(), 200);
    let stopping = site.get("/readyz").await;
    assert_eq!((stopping.status(), stopping.text()), (503, r#"{"status":"stopping"}"#));
    assert_eq!(site.get("/").await.header("connection"), "close");
    site.finish().await;
}

#[tokio::test]
async fn a_site_whose_database_is_gone_is_alive_and_not_ready() {
    let site = testing::boot(app()).await;
    let left = site.ctx().queue.counts().await.unwrap();
    assert!(left.is_empty());
    site.ctx().db.close().await;
    assert_eq!(site.get("/healthz").await.status(), 200);
    let answer = site.get("/readyz").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("database"), "{}", answer.text());
    drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(site))));
}
