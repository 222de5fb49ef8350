//! Two processes on one database and one fleet of "memcached" servers: what is written in one is
//! seen in the other, and a fleet that dies is nobody's error.

use serde_json::Value;

use crate::{house::boxoffice, process::Process, servers::Servers};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_one_process_is_seen_in_the_other_and_a_dead_fleet_is_nobodys_error() {
    let Some(mut servers) = Servers::start(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = servers.url("ring=ketama-weighted&timeout=3s&retry=100ms");
    let one = Process::web(folder.path(), &[("THRONG_CACHE_URL", &cache)]);
    let other = Process::web(folder.path(), &[("THRONG_CACHE_URL", &cache)]);
    let cookie = one.sign_in();
    let events: Value = serde_json::from_str(&one.get("/api/v1/events")).unwrap();
    let event = events["items"][0]["id"].as_str().unwrap().to_owned();
    let (page, comments) = (format!("/events/{event}"), format!("/api/v1/events/{event}/comments"));
    let say = |words: &str| {
        let body = format!("{{\"body\": \"{words}\"}}");
        let (status, answer) = one.ask("POST", &comments, &cookie, &body);
        assert_eq!(status, 201, "{answer}");
        // Whoever wrote reads it at once, and so does the process that wrote.
        assert!(one.get(&page).contains(words), "{words}");
    };
    for moment in ["before", "dead", "after"] {
        if moment == "dead" {
            (0..2).for_each(|server| servers.kill(server));
        }
        if moment == "after" {
            (0..2).for_each(|server| servers.start_again(server));
        }
        for round in 0..3 {
            other.get(&page);
            other.get("/");
            let words = format!("{moment} {round}");
            say(&words);
            other.wait_for(&page, &words);
        }
    }
    // What is kept of the page is in the fleet, under its name.
    let mut look = boxoffice(folder.path());
    look.env("THRONG_CACHE_URL", &cache).args(["cache", "get", &format!("event/{event}")]);
    let found = look.output().await.unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("after 2"), "{found}");
}
