//! Every link of the site leads somewhere.

use std::collections::{BTreeMap, VecDeque};

use throng::testing::Browser;

use crate::visit::{demo, finish, sign_in};

#[tokio::test]
async fn no_link_is_dead_for_strangers_nor_for_a_moderator() {
    let site = demo().await;
    let strangers = crawl(&site).await;
    assert!(strangers > 60, "only {strangers} pages were found");
    sign_in(&site, "ana").await;
    let members = crawl(&site).await;
    assert!(members > 60, "only {members} pages were found");
    finish(site).await;
}

/// Follows every link from the front page; how many pages there are.
async fn crawl(browser: &Browser) -> usize {
    let mut from: BTreeMap<String, String> = BTreeMap::from([("/".into(), "the start".into())]);
    let mut next = VecDeque::from(["/".to_owned()]);
    while let Some(path) = next.pop_front() {
        let answer = browser.get(&path).await;
        let found_on = &from[&path];
        assert!(
            matches!(answer.status(), 200 | 303),
            "{path}, linked from {found_on}, answers {}",
            answer.status()
        );
        assert!(from.len() < MOST_PAGES, "the site does not end");
        if !answer.header("content-type").starts_with("text/html") {
            continue;
        }
        let page = answer.text();
        for link in links(page) {
            let (target, part) = link.split_once('#').unwrap_or((&link, ""));
            if target.is_empty() {
                assert!(
                    part.is_empty() || page.contains(&format!("id=\"{part}\"")),
                    "{path} has no #{part}"
                );
            } else if target.starts_with('/') && !from.contains_key(target) {
                from.insert(target.to_owned(), path.clone());
                next.push_back(target.to_owned());
            }
        }
    }
    from.len()
}

/// What `href` and `src` name on a page.
fn links(page: &str) -> impl Iterator<Item = String> {
    let after = |name: &'static str| page.split(name).skip(1);
    let all = after(" href=\"").chain(after(" src=\""));
    all.filter_map(|rest| rest.split('"').next()).map(|link| link.replace("&amp;", "&"))
}

const MOST_PAGES: usize = 3_000;
