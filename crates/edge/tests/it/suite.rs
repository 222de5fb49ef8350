//! http-tests/cache-tests, the public suite for HTTP caches, against the edge.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use throng_core::{Clock, Shutdown};
use throng_edge::{Config, Edge, Policy, Upstream};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_suite_passes_as_much_as_it_ever_has() {
    let Some(folder) = std::env::var_os("THRONG_TEST_CACHE_TESTS") else {
        println!("skip: THRONG_TEST_CACHE_TESTS names no folder of http-cache-tests");
        return;
    };
    let folder = Path::new(&folder);
    let only = std::env::var("THRONG_EDGE_ONLY").unwrap_or_default();
    let _quiet = crate::wire::QUIET.lock().await;
    let origin = Origin::start(folder).await;
    let mut policy = Policy::rfc();
    // The suite likes it; RFC 9111 by itself does not ask for it.
    policy.selects_language = true;
    let config = Config { policy, ..Config::default() };
    let upstream = Upstream::http(&format!("http://127.0.0.1:{}", origin.port)).unwrap();
    let edge = Edge::new(config, vec![upstream], &Clock::system()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (trigger, shutdown) = Shutdown::pair();
    let served = tokio::spawn(async move { edge.serve(listener, shutdown, Duration::ZERO).await });

    let mut results = suite(folder, &base, &only).await;
    assert!(!only.is_empty() || results.len() > 300, "the suite did not run");
    // By its own words a test whose setup failed was disturbed, by a slow machine most often: the
    // steps of the suite are whole seconds apart, and pages in it live for two.
    let disturbed: Vec<&str> = results
        .iter()
        .filter(|(_, (_, result, _))| matches!(result.as_str(), "setup" | "dependency"))
        .map(|(id, _)| id.as_str())
        .collect();
    if !disturbed.is_empty() {
        let again = suite(folder, &base, &disturbed.join(",")).await;
        results.extend(again);
    }
    trigger.request();
    served.await.unwrap().unwrap();
    if !only.is_empty() {
        println!("{results:#?}");
        return;
    }
    check(folder, &results);
}

/// Runs the suite, or the tests that are named.
async fn suite(folder: &Path, base: &str, only: &str) -> Results {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cache-tests.mjs");
    let mut client = Command::new("node");
    client.arg("--no-warnings").arg(script).args([folder.as_os_str(), base.as_ref()]);
    client.args(Some(only).filter(|only| !only.is_empty())).stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || client.output().unwrap()).await.unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let mut results = Results::new();
    for line in output.lines() {
        let parts: Vec<&str> = line.splitn(4, '\t').collect();
        let [id, kind, result, why] = parts[..] else { continue };
        results.insert(id.to_owned(), (kind.to_owned(), result.to_owned(), why.to_owned()));
    }
    results
}

/// Kind, result and reason by id.
type Results = BTreeMap<String, (String, String, String)>;

fn check(folder: &Path, results: &Results) {
    let is_new = folder.join("test-engine").exists();
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(match is_new {
        true => "cache-tests.repository.txt",
        false => "cache-tests.npm.txt",
    });
    let listed = std::fs::read_to_string(&list).unwrap_or_default();
    let lines = listed.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut regressed = Vec::new();
    let mut excused_ids = Vec::new();
    for line in lines {
        let excused = line.strip_prefix("superseded ").or(line.strip_prefix("impossible "));
        match excused {
            Some(id) => excused_ids.push(id),
            None if results.get(line).is_some_and(|(_, result, _)| result == "pass") => {}
            None => regressed.push(format!("{line}: {:?}", results.get(line))),
        }
    }
    let count = |kind: &str, result: &str| {
        results
            .values()
            .filter(|(own, was, _)| own == kind && (result.is_empty() || was == result))
            .count()
    };
    for kind in ["required", "optimal", "check"] {
        println!("{kind}: {} of {} pass", count(kind, "pass"), count(kind, ""));
    }
    let mut failed = Vec::new();
    for (id, (kind, result, why)) in results {
        if kind == "required" && result != "pass" && !excused_ids.contains(&id.as_str()) {
            failed.push(format!("{id}: {result} {why}"));
        }
        if result != "pass" {
            println!("{kind}\t{result}\t{id}\t{why}");
        }
    }
    if std::env::var_os("THRONG_EDGE_UPDATE").is_some() {
        // Comments and what is superseded stay.
        let kept: Vec<&str> =
            listed.lines().filter(|line| line.starts_with('#') || line.contains(' ')).collect();
        let passed = results.iter().filter(|(_, (_, result, _))| result == "pass");
        let passed = passed.map(|(id, _)| id.as_str());
        let text: Vec<&str> = kept.into_iter().chain(passed).collect();
        std::fs::write(&list, text.join("\n") + "\n").unwrap();
    }
    assert!(failed.is_empty(), "required tests fail:\n{}", failed.join("\n"));
    assert!(regressed.is_empty(), "these passed once:\n{}", regressed.join("\n"));
}

/// The suite's own server.
struct Origin {
    process: Child,
    port: u16,
}

impl Origin {
    async fn start(folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let script = ["test-engine/server/server.mjs", "server/server.mjs"];
        let script = script.into_iter().find(|script| folder.join(script).exists()).unwrap();
        let process = Command::new("node")
            .arg(script)
            .current_dir(folder)
            .env("npm_config_protocol", "http")
            .env("npm_config_port", port.to_string())
            .env("npm_config_pidfile", "/dev/null")
            .stdout(Stdio::null())
            .spawn()
            .expect("node");
        let origin = Self { process, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return origin;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the suite's server does not start");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
