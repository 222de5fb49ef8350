//! Two processes of the site behind `edge` in a third: what changes in one is gone from the page cache.

use serde_json::Value;

use crate::{port::free_port, process::Process, servers::Servers};

#[test]
fn what_changes_in_one_process_is_purged_from_an_edge_that_is_another_program() {
    let Some(servers) = Servers::start(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    // The edge has to know the site, and the site the edge.
    let cache = servers.url("ring=ketama-weighted&timeout=3s&retry=100ms");
    let edge = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{edge}");
    let token = ("THRONG_EDGE_PURGE_TOKEN", "a token of this test");
    let settings = [("THRONG_CACHE_URL", &*cache), ("THRONG_EDGE_PURGE_URLS", &*url), token];
    let one = Process::web(folder.path(), &settings);
    let other = Process::web(folder.path(), &settings);
    let urls = [&one, &other].map(|process| format!("http://{}", process.address));
    let arguments = ["edge", "--listen", &edge, "--upstream", &urls[0], "--upstream", &urls[1]];
    let edge = Process::start(folder.path(), &arguments, &[token]);

    let cookie = one.sign_in();
    let events: Value = serde_json::from_str(&one.get("/api/v1/events")).unwrap();
    let event = events["items"][0]["id"].as_str().unwrap().to_owned();
    let (page, comments) = (format!("/events/{event}"), format!("/api/v1/events/{event}/comments"));
    let did = || {
        let (status, answer) = edge.ask("GET", &page, "", "");
        assert_eq!(status, 200, "{answer}");
        assert!(!answer.contains("surrogate-key"), "{answer}");
        let said = answer.lines().find_map(|line| line.strip_prefix("cache-status: throng; "));
        said.unwrap().split(';').next().unwrap().to_owned()
    };
    for (round, writer) in [&one, &other, &one].into_iter().enumerate() {
        while did() != "hit" {}
        let words = format!("said in round {round}");
        let body = format!("{{\"body\": \"{words}\"}}");
        let (status, answer) = writer.ask("POST", &comments, &cookie, &body);
        assert_eq!(status, 201, "{answer}");
        edge.wait_for(&page, &words);
    }
    while did() != "hit" {}
    let (status, answer) = edge.ask("PURGE", &page, "", "");
    assert_eq!(status, 403, "{answer}");
    assert_eq!(did(), "hit", "nobody purges without the token");
}
