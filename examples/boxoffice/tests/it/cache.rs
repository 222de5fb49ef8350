//! Two processes on one database and one fleet of "memcached" servers: what is written in one is
//! seen in the other, and a fleet that dies is nobody's error.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{house::boxoffice, servers::Servers};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_one_process_is_seen_in_the_other_and_a_dead_fleet_is_nobodys_error() {
    let Some(mut servers) = Servers::start(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = servers.url("ring=ketama-weighted&timeout=3s&retry=100ms");
    let one = Process::start(folder.path(), &cache);
    let other = Process::start(folder.path(), &cache);
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

struct Process {
    child: std::process::Child,
    address: String,
}

impl Process {
    fn start(folder: &Path, cache: &str) -> Self {
        let mut command = boxoffice(folder).into_std();
        command
            .arg("web")
            .envs([("THRONG_CACHE_URL", cache), ("THRONG_WEB_LISTEN", "127.0.0.1:0")])
            .env("THRONG_LOG_LEVEL", "info")
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = |line: String| {
            let (_, rest) = line.split_once("listening on http://")?;
            Some(rest.split([' ', '"', '\u{1b}']).next()?.to_owned())
        };
        let address = lines.by_ref().map_while(Result::ok).find_map(listens);
        // What it says later is not to fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("it listens") }
    }

    fn sign_in(&self) -> String {
        let body = r#"{"username": "jonas", "password": "boxoffice-demo"}"#;
        let (status, answer) = self.ask("POST", "/api/v1/session", "", body);
        assert_eq!(status, 200, "{answer}");
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: sessionid="));
        format!("sessionid={}", cookie.unwrap().split(';').next().unwrap())
    }

    /// A page, which must come.
    fn get(&self, path: &str) -> String {
        let (status, answer) = self.ask("GET", path, "", "");
        assert_eq!(status, 200, "{path}: {answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Reads until the words are there. Without a bus, a process keeps its copy for two seconds; the
    /// page's own time would be thirty.
    fn wait_for(&self, path: &str, words: &str) {
        let begun = Instant::now();
        while !self.get(path).contains(words) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{words} is not seen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, method: &str, path: &str, cookie: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let (address, len) = (&self.address, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncookie: {cookie}\r\n\
             content-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap(), answer)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
