//! What pages look like, kept as snapshots: read them before accepting.

use throng::testing::Site;

use crate::visit::{demo, finish, sign_in};

#[tokio::test]
async fn pages_look_as_they_were_accepted() {
    let site = demo().await;
    check(&site, "/about").await;
    check(&site, "/sign-in?next=/tickets").await;
    check(&site, "/nope").await;
    check(&site, "/search?q=stage").await;
    sign_in(&site, "mei").await;
    check(&site, "/tickets").await;
    check(&site, "/organise").await;
    finish(site).await;
}

#[tokio::test]
async fn the_api_document_is_as_it_was_accepted() {
    let site = demo().await;
    let document: serde_json::Value = site.get("/api/openapi.json").await.json();
    insta::assert_snapshot!("openapi", serde_json::to_string_pretty(&document).unwrap());
    finish(site).await;
}

async fn check(site: &Site, path: &str) {
    let page = steady(site.get(path).await.text());
    let name = path.split('?').next().unwrap().trim_matches('/').replace('/', "_");
    insta::assert_snapshot!(name, page);
}

/// The page without what differs from run to run: ids, hashes, tokens and what is drawn from ids.
/// One element a line, so that a difference can be read.
fn steady(page: &str) -> String {
    let mut steady = String::new();
    let mut rest = page;
    while let Some(start) = rest.find("<svg") {
        steady.push_str(&rest[..start]);
        steady.push_str("<svg>");
        rest = &rest[start..];
        rest = &rest[rest.find("</svg>").unwrap() + 6..];
    }
    steady.push_str(rest);
    for (before, after) in [("/static/", "\""), ("name=\"csrfmiddlewaretoken\" value=\"", "\"")] {
        steady = blank(&steady, before, after);
    }
    let mut text = String::new();
    let mut digits = String::new();
    for letter in steady.chars().chain(['\n']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        text.push_str(if digits.len() >= 15 { "ID" } else { &digits });
        digits.clear();
        text.push(letter);
    }
    text.replace("><", ">\n<")
}

/// `text` with whatever stands between `before` and `after` left out.
fn blank(text: &str, before: &str, after: &str) -> String {
    let mut parts = text.split(before);
    let mut blanked = parts.next().unwrap_or("").to_owned();
    for part in parts {
        blanked.push_str(before);
        blanked.push_str(&part[part.find(after).unwrap_or(0)..]);
    }
    blanked
}
