//! Static files.

use http::Request;
use throng::{testing, web::Body};

use crate::site::app;

#[tokio::test]
async fn a_file_is_kept_for_ever_under_its_hash_and_for_an_hour_under_its_name() {
    let site = testing::boot(app()).await;
    let cx = site.ctx();
    let url = cx.asset("site.css");
    assert!(url.starts_with("/static/site.") && url.ends_with(".css") && url.len() > 25, "{url}");
    let hashed = site.get(&url).await;
    assert_eq!((hashed.status(), hashed.body().len()), (200, 2000));
    assert_eq!(hashed.header("content-type"), "text/css; charset=utf-8");
    assert_eq!(hashed.header("cache-control"), "public, max-age=31536000, immutable");
    let named = site.get("/static/site.css").await;
    assert_eq!(named.header("cache-control"), "public, max-age=3600");
    assert_eq!(named.header("etag"), hashed.header("etag"));
    assert_eq!(site.get("/favicon.ico").await.header("content-type"), "image/x-icon");
    assert_eq!(site.get(&cx.asset("icons/seat.svg")).await.text(), "<svg/>");
    for missing in
        ["/static/site.0000000000000000.css", "/static/", "/static/../Cargo.toml", "/robots.txt"]
    {
        assert_eq!(site.get(missing).await.status(), 404, "{missing}");
    }
    site.finish().await;
}

#[tokio::test]
async fn a_known_file_is_304_and_a_compressible_one_is_compressed() {
    let site = testing::boot(app()).await;
    let ask = |name: &str, value: &str| {
        Request::get("/static/site.css").header(name, value).body(Body::empty()).unwrap()
    };
    let etag = site.get("/static/site.css").await.header("etag").to_owned();
    for tags in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let answer = site.request_with(ask("if-none-match", &tags)).await;
        assert_eq!((answer.status(), answer.body().len()), (304, 0), "{tags}");
    }
    assert_eq!(site.request_with(ask("if-none-match", "\"x\"")).await.status(), 200);
    let packed = site.request_with(ask("accept-encoding", "deflate, gzip")).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body().len() < 100);
    let plain = site.request_with(ask("accept-encoding", "gzip;q=0")).await;
    assert_eq!(plain.header("content-encoding"), "");
    site.finish().await;
}
