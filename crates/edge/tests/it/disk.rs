//! The store on disk: found again after a restart, bounded, honest about what is damaged, and never in
//! the way.

use std::{fs, path::Path, time::Duration};

use throng_edge::{Cache, Config, DiskStatus};

use crate::wire::{BackEnd, Running, ok, run};

fn config(folder: &Path) -> Config {
    Config { disk_folder: Some(folder.to_owned()), ..Config::default() }
}

/// Pages that say which of the origin's requests they answer, and what they are about.
async fn origin() -> BackEnd {
    BackEnd::new(|request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        let tag = target.trim_start_matches('/').replace('/', "-");
        let fields = format!(
            "Cache-Control: max-age=600\r\nVary: X-Kind\r\nSurrogate-Key: {tag} all\r\n\
             X-Odd: \u{e9}\r\n"
        );
        ok(&fields, &format!("page of {target}, {} bytes", "x".repeat(1000)))
    })
    .await
}

/// Waits until what is on disk is as `wanted`.
async fn until(running: &Running, wanted: impl Fn(&DiskStatus) -> bool) -> DiskStatus {
    let waited = async {
        loop {
            let status = running.edge.disk().unwrap();
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("it is written")
}

/// Stops an edge as TERM does, so that it writes what it has to.
async fn stop(mut running: Running) {
    running.trigger.take().unwrap().request();
    (&mut running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn pages_are_there_after_a_restart_and_what_was_purged_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let back_end = origin().await;
    let running = run(config(folder.path()), &[&back_end]).await;
    let mut client = running.connect().await;
    for target in ["/a", "/b", "/c", "/d", "/e"] {
        client.get(target, "").await;
        client.get(target, "X-Kind: other\r\n").await;
    }
    let cache: &Cache = running.edge.cache();
    cache.purge_tag("b", false);
    cache.purge("example.org", "/c", false);
    cache.ban("*/d", true);
    client.get("/b", "").await;
    let asked = back_end.requests();
    assert_eq!(asked, 11);
    until(&running, |status| status.written == 11).await;
    drop(client);
    stop(running).await;

    let running = run(config(folder.path()), &[&back_end]).await;
    let mut client = running.connect().await;
    for (target, fields, is_there) in [
        ("/a", "", true),
        ("/a", "X-Kind: other\r\n", true),
        ("/a", "X-Kind: third\r\n", false),
        ("/b", "", true),
        ("/b", "X-Kind: other\r\n", false),
        ("/c", "", false),
        ("/d", "", false),
        ("/e", "", true),
    ] {
        let answer = client.get(target, fields).await;
        let from_disk = answer.contains("; hit; ttl=") && answer.contains("detail=disk");
        assert_eq!(from_disk, is_there, "{target} {fields}: {answer}");
        assert!(answer.contains(&format!("page of {target}, ")) && answer.contains("age: "));
        assert!(!answer.contains("surrogate-key"), "{answer}");
        let again = client.get(target, fields).await;
        assert!(again.contains("; hit") && !again.contains("detail=disk"), "{again}");
    }
    assert_eq!(back_end.requests(), asked + 4);
    // The tag came with the page.
    running.edge.cache().purge_tag("e", false);
    assert!(client.get("/e", "").await.contains("fwd=uri-miss"));
    let status = running.edge.disk().unwrap();
    assert_eq!((status.found, status.corrupt, status.failed_writes), (4, 0, 0));
    assert!(running.edge.prometheus().contains("throng_edge_disk_hits_total 4"));
}

#[tokio::test]
async fn a_page_purged_by_its_address_does_not_come_back_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let back_end = origin().await;
    let running = run(config(folder.path()), &[&back_end]).await;
    let mut client = running.connect().await;
    for round in 1..4 {
        assert!(client.get("/c", "").await.contains("fwd=uri-miss"), "{round}");
        until(&running, |status| status.written == round).await;
        match round {
            1 => drop(running.edge.cache().purge("example.org", "/c", false)),
            // Who changes it purges it, too.
            _ => drop(client.ask("POST /c HTTP/1.1\r\nhost: example.org\r\n\r\n").await),
        }
    }
    assert_eq!(running.edge.disk().unwrap().found, 0);
}

#[tokio::test]
async fn a_page_that_was_on_its_way_when_it_was_purged_is_not_found_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let back_end = BackEnd::new(|request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        let fields = format!(
            "Cache-Control: max-age=600\r\nSurrogate-Key: {}\r\n",
            target.trim_start_matches('/')
        );
        format!("<pause>ms=300;{}", ok(&fields, "page"))
    })
    .await;
    let running = run(config(folder.path()), &[&back_end]).await;
    let targets = ["/address", "/tag", "/pattern"];
    let asked = async {
        for target in targets {
            let mut client = running.connect().await;
            assert!(client.get(target, "").await.contains("fwd=uri-miss"));
        }
    };
    let purged = async {
        for (number, target) in targets.into_iter().enumerate() {
            while back_end.requests() <= number {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let cache: &Cache = running.edge.cache();
            match target {
                "/address" => drop(cache.purge("example.org", target, false)),
                "/tag" => cache.purge_tag("tag", false),
                _ => cache.ban("*/pattern", false),
            }
        }
    };
    tokio::join!(asked, purged);
    stop(running).await;
    let running = run(config(folder.path()), &[&back_end]).await;
    for target in targets {
        let answer = running.get(target).await;
        assert!(answer.contains("fwd=uri-miss"), "{answer}");
    }
}

#[tokio::test]
async fn damaged_files_are_noticed_and_cost_only_their_pages() {
    let folder = tempfile::tempdir().unwrap();
    let back_end = origin().await;
    let running = run(config(folder.path()), &[&back_end]).await;
    for target in ["/a", "/b", "/c"] {
        running.get(target).await;
    }
    until(&running, |status| status.written == 3).await;
    stop(running).await;
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    // A byte of the first body, and a record that was not written to its end.
    let mut bytes = whole.clone();
    let body = bytes.windows(12).position(|part| part == b"xxxxxxxxxxxx").unwrap();
    bytes[body + 500] ^= 1;
    bytes.truncate(bytes.len() - 10);
    fs::write(&file, &bytes).unwrap();
    fs::write(folder.path().join("999999999999.pages"), b"not a record at all, whatever it is")
        .unwrap();

    let running = run(config(folder.path()), &[&back_end]).await;
    let asked = back_end.requests();
    for (target, is_there) in [("/a", false), ("/b", true), ("/c", false)] {
        let answer = running.get(target).await;
        assert_eq!(answer.contains("detail=disk"), is_there, "{target}: {answer}");
        assert!(answer.ends_with(&format!("page of {target}, {} bytes", "x".repeat(1000))));
    }
    assert_eq!(back_end.requests(), asked + 2);
    assert_eq!(running.edge.disk().unwrap().corrupt, 3);
    // What cannot be read is written anew.
    until(&running, |status| status.written == 2 && status.addresses == 3).await;
}

#[tokio::test]
async fn the_oldest_leave_first_and_a_disk_that_takes_nothing_is_nobodys_error() {
    let folder = tempfile::tempdir().unwrap();
    let back_end = origin().await;
    let small = Config { disk_bytes: 256 << 10, cache_bytes: 1, ..config(folder.path()) };
    let running = run(small, &[&back_end]).await;
    let mut client = running.connect().await;
    for number in 0..600 {
        client.get(&format!("/{number}"), "").await;
    }
    // Memory holds none of them, and the disk the newest.
    client.get("/last", "").await;
    let status = until(&running, |status| status.written == 601).await;
    assert!(status.bytes <= 400 << 10, "{status:?}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !client.get("/last", "").await.contains("detail=disk") {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", running.edge.disk());
    }
    assert!(client.get("/0", "").await.contains("fwd=uri-miss"));

    // Nothing can be written any more: the folder is gone.
    while folder.path().exists() {
        // The last page may just be written.
        let _ = fs::remove_dir_all(folder.path());
    }
    for number in 0..20 {
        let answer = client.get(&format!("/more/{number}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let status = until(&running, |status| status.failed_writes > 0).await;
    assert!(status.failed_writes < 20, "it is not tried for each page: {status:?}");
    // A purge that cannot be written down empties what there is.
    running.edge.cache().purge_tag("anything", false);
    until(&running, |status| status.addresses == 0).await;
    assert!(client.get("/still", "").await.starts_with("HTTP/1.1 200"));
}

#[test]
fn a_folder_that_is_none_is_told_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let upstream = throng_edge::Upstream::http("http://127.0.0.1:1").unwrap();
    let clock = throng_core::Clock::system();
    let error = throng_edge::Edge::new(config(file.path()), vec![upstream], &clock).unwrap_err();
    assert!(error.to_string().starts_with("cannot keep pages in `/"), "{error}");
}
